from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.viz import plots

DIGITS = [str(i) for i in range(10)]


def history(epochs: int) -> list[dict[str, Any]]:
    def row(e: int) -> dict[str, Any]:
        loss, accuracy = 2.0 * 0.5**e + 0.02, 0.99 - 0.3 * 0.5**e
        return {"epoch": e, "train_loss": loss, "validation_loss": loss, "validation_accuracy": accuracy} | {
            "validation_n": 5000,
            "lr": 0.1,
            "seconds": 1.0,
        }

    return [row(e) for e in range(epochs)]


def without_validation(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: None if key == "validation_n" else row[key] for key in ("epoch", "train_loss", "lr")} for row in rows]


def pixels(path: Path) -> Array:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that were saved, to read their words."""
    saved: list[Any] = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (saved.append(figure), save(figure, path))[1])
    return saved


def words(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def draw_everything(folder: Path, seed: int = 0) -> list[Path]:
    rng = np.random.default_rng(seed)
    images, targets = rng.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8), rng.integers(0, 10, 50)
    probabilities = rng.dirichlet(np.ones(10), 50)
    plots.curves(history(3), folder / "curves.png")
    plots.confusion(rng.integers(0, 9, (10, 10)), DIGITS, folder / "confusion.png")
    plots.mistakes(images, targets, probabilities, DIGITS, folder / "mistakes.png", count=8)
    plots.filters(rng.standard_normal((6, 1, 5, 5)), folder / "filters.png")
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_everything(tmp_path_factory.mktemp("everything"))


def test_same_data_gives_same_bytes_and_nothing_else_is_left(everything: list[Path], tmp_path: Path) -> None:
    first, second = everything, draw_everything(tmp_path)
    assert [path.name for path in first] == ["confusion.png", "curves.png", "filters.png", "mistakes.png"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert b"Software" not in one.read_bytes()
    assert sorted(tmp_path.iterdir()) == second


def test_nothing_is_clipped_at_the_edges(everything: list[Path]) -> None:
    for path in everything:
        image = pixels(path)
        assert max(image.shape[:2]) < 2000, path
        edges = [image[:8], image[-8:], image[:, :8], image[:, -8:]]
        assert all((edge == 255).all() for edge in edges), path


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, bytes]] = []
    monkeypatch.setattr(plots, "write_atomic", lambda path, data: seen.append((path, data)))
    plots.curves(history(2), tmp_path / "curves.png")
    ((path, data),) = seen
    assert path == tmp_path / "curves.png"
    assert not path.exists()
    Image.open(io.BytesIO(data)).verify()


def test_pyplot_is_never_imported_and_settings_stay(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from stridenet.viz import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        # asking for the backend would import pyplot
        "settings = lambda: {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != 'backend'}\n"
        "before = settings()\n"
        f"plots.filters(np.ones((2, 1, 3, 3)), Path({str(tmp_path / 'f.png')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and before == settings()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.promise("G9")
def test_curves_state_the_best_epoch_with_n_and_interval(tmp_path: Path, figures: list[Any]) -> None:
    rows = history(9)
    rows[5] |= {"validation_accuracy": 0.9912, "validation_loss": 0.03}  # of equals, the lower loss
    rows[7] |= {"validation_accuracy": 0.9912, "validation_loss": 0.04}
    plots.curves(rows, tmp_path / "c.png")
    text = words(figures[0])
    assert "Validation accuracy 99.12 % (best, epoch 6)" in text
    assert "of 5 000 validation images, 95 % interval 98.82 to 99.34" in text
    loss, error, rate = figures[0].axes
    assert (loss.get_ylabel(), error.get_ylabel(), rate.get_ylabel()) == ("loss", "error (%)", "learning rate")
    assert rate.get_xlabel() == "epoch"
    assert loss.get_yscale() == "log"  # from 2 to 0.03
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_allclose(error.lines[0].get_ydata(), [100 * (1 - row["validation_accuracy"]) for row in rows])
    np.testing.assert_array_equal(rate.lines[0].get_xdata(), np.arange(1, 10))


def test_curves_of_one_epoch_show_points_on_one_whole_tick(tmp_path: Path, figures: list[Any]) -> None:
    plots.curves(history(1), tmp_path / "c.png")
    loss, error, rate = figures[0].axes
    low, high = rate.get_xlim()
    assert [tick for tick in rate.get_xticks() if low <= tick <= high] == [1.0]
    assert loss.get_yscale() == "linear"
    assert loss.get_ylim()[0] == 0
    assert loss.lines[0].get_marker() == "o"
    assert np.ptp(error.collections[0].get_paths()[0].vertices[:, 0]) > 0.1  # the interval is a bar


def test_curves_without_validation_have_no_error_panel(tmp_path: Path, figures: list[Any]) -> None:
    plots.curves(without_validation(history(4)), tmp_path / "c.png")
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["loss", "learning rate"]
    assert "Training loss 0.27 after epoch 4" in words(figures[0])


def test_curves_bear_gaps_perfect_scores_and_infinite_loss(tmp_path: Path) -> None:
    rows = history(5)
    rows[1] |= {"validation_loss": None, "validation_accuracy": None, "validation_n": None}
    rows[2] |= {"validation_accuracy": 1.0, "train_loss": float("inf"), "validation_loss": float("nan")}
    del rows[3]["validation_n"]
    plots.curves(rows, tmp_path / "c.png")
    plots.curves(history(200), tmp_path / "long.png")
    with pytest.raises(ConfigError, match=r"plots\.curves: expected at least one epoch"):
        plots.curves([], tmp_path / "none.png")


def test_no_mistake_is_the_most_frequent_where_each_came_once(tmp_path: Path, figures: list[Any]) -> None:
    plots.confusion(np.array([[9, 1], [1, 9]]), ["cat", "dog"], tmp_path / "c.png")
    assert "no mistake more than once" in words(figures[0])


def test_confusion_colours_the_worst_error_darkest_and_no_hit(tmp_path: Path, figures: list[Any]) -> None:
    matrix = np.array([[900, 90, 10], [0, 10, 10], [0, 0, 0]])
    plots.confusion(matrix, ["cat", "dog", "$x_1$"], tmp_path / "c.png")
    shares = figures[0].axes[0].images[0].get_array()
    assert np.isnan(np.diag(np.ma.filled(shares, np.nan))).all()
    assert shares[1, 2] == 50  # of the true class: more than the 90 of 1000, though fewer images
    assert figures[0].axes[0].images[0].get_clim() == (0, 50)
    text = words(figures[0])
    assert "Accuracy 89.22 % of 1 020 images" in text
    assert "most frequent mistake: cat taken for dog, 90 times" in text
    assert "true class" in text
    assert "predicted class" in text
    assert r"\$x_1\$" in text  # no formula
    counts = [t.get_text() for t in figures[0].axes[0].texts]
    assert {"900", "90", "10"} <= set(counts)
    assert "0" not in counts


@pytest.mark.parametrize("k", [2, 20, 21, 100])
def test_confusion_of_many_classes(k: int, tmp_path: Path, figures: list[Any]) -> None:
    matrix = np.random.default_rng(k).integers(1, 50, (k, k))
    plots.confusion(matrix, [f"a class with a rather long name {i}" for i in range(k)], tmp_path / "c.png")
    axes = figures[0].axes[0]
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == k
    assert (len(axes.texts) > k) == (k <= 20)
    assert all((edge == 255).all() for edge in (pixels(tmp_path / "c.png")[:8], pixels(tmp_path / "c.png")[:, :8]))


def test_confusion_without_mistakes_and_bad_shapes(tmp_path: Path, figures: list[Any]) -> None:
    plots.confusion(np.diag([3, 4]), ["a", "b"], tmp_path / "c.png")
    assert "Accuracy 100.00 % of 7 images" in words(figures[0])
    assert "no mistake" in words(figures[0])
    for matrix in (np.ones((2, 3), int), np.zeros((2, 2), int)):
        with pytest.raises(ShapeError, match=r"plots\.confusion: expected counts \(2, 2\)"):
            plots.confusion(matrix, ["a", "b"], tmp_path / "d.png")


def mistake_data(channels: int, dtype: Any) -> tuple[Array, Array, Array]:
    """12 images whose value is their index; 0 to 7 are mistakes, ever more confident."""
    images = np.ones((12, channels, 6, 9)) * np.arange(12).reshape(-1, 1, 1, 1)
    images = images.astype(np.uint8) if dtype == np.uint8 else (images / 255).astype(dtype)
    targets = np.arange(12) % 2
    probabilities = np.full((12, 2), 0.5)
    confidence = np.linspace(0.6, 0.95, 12)
    predicted = np.where(np.arange(12) < 8, 1 - targets, targets)
    probabilities[np.arange(12), predicted], probabilities[np.arange(12), 1 - predicted] = confidence, 1 - confidence
    return images, targets, probabilities


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_show_the_most_confident_first(channels: int, dtype: Any, tmp_path: Path, figures: list[Any]) -> None:
    images, targets, probabilities = mistake_data(channels, dtype)
    plots.mistakes(images, targets, probabilities, ["0", "1"], tmp_path / "m.png", count=5)
    axes = figures[0].axes[0]
    assert [round(255 * float(tile.get_array().max())) for tile in axes.images] == [7, 6, 5, 4, 3]
    assert all(tile.get_array().shape == (6, 9, 3) for tile in axes.images)
    text = words(figures[0])
    assert "The 5 most confident of 8 mistakes in 12 images" in text
    assert f"1 → 0 ({probabilities[7, 0]:.3f})" in text


def test_no_mistake_is_a_picture_too(tmp_path: Path, figures: list[Any]) -> None:
    images, targets, _ = mistake_data(1, np.uint8)
    plots.mistakes(images, targets, np.eye(2)[targets], ["cat", "dog"], tmp_path / "m.png")
    assert "No mistakes in 12 images" in words(figures[0])
    assert (pixels(tmp_path / "m.png") < 128).any()


def test_one_mistake_and_long_names(tmp_path: Path, figures: list[Any]) -> None:
    images, targets, probabilities = mistake_data(3, np.float32)
    plots.mistakes(images[7:], targets[7:], probabilities[7:], ["hippopotamus", "dog"], tmp_path / "m.png")
    assert "All 1 mistake in 5 images" in words(figures[0])
    assert "dog\n→ hippopota…" in words(figures[0])


def test_mistakes_refuses(tmp_path: Path) -> None:
    images, targets, probabilities = mistake_data(1, np.uint8)
    for bad in (
        (images[:, :, :, 0], targets, probabilities),
        (np.repeat(images, 2, axis=1), targets, probabilities),
        (images, targets[1:], probabilities),
        (images, targets, probabilities[:, :1]),
    ):
        with pytest.raises(ShapeError, match=r"plots\.mistakes: expected images"):
            plots.mistakes(*bad, ["0", "1"], tmp_path / "m.png")


def test_filters_share_one_symmetric_scale(tmp_path: Path, figures: list[Any]) -> None:
    weight = np.linspace(-0.5, 0.25, 6 * 9).reshape(6, 1, 3, 3)
    plots.filters(weight, tmp_path / "f.png")
    image = figures[0].axes[0].images[0]
    assert image.get_clim() == (-0.5, 0.5)
    mosaic = np.ma.filled(image.get_array(), np.nan)
    assert mosaic.shape == (3, 6 * 4 - 1)
    np.testing.assert_array_equal(mosaic[:, 4:7], weight[1, 0])
    assert np.isnan(mosaic[:, 3]).all()
    assert "First-layer filters (6): weights -0.50 to 0.25" in words(figures[0])


def test_filters_of_three_channels_are_rgb_scaled_jointly(tmp_path: Path, figures: list[Any]) -> None:
    weight = np.zeros((96, 3, 3, 3))
    weight[0, 0, 0, 0], weight[0, 2, 0, 0] = 2.0, -1.0
    plots.filters(weight, tmp_path / "f.png")
    mosaic = figures[0].axes[0].images[0].get_array()
    np.testing.assert_allclose(mosaic[0, 0], [1.0, 0.5, 0.25])
    assert mosaic.shape == (31, 31, 3)  # 64 filters
    assert "First-layer filters (64 of 96)" in words(figures[0])


def test_filters_of_other_channels_have_a_tile_each(tmp_path: Path, figures: list[Any]) -> None:
    weight = np.random.default_rng(0).standard_normal((40, 20, 3, 2))
    plots.filters(weight, tmp_path / "f.png")
    axes = figures[0].axes[0]
    mosaic = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert mosaic.shape == (16 * 4 - 1, 32 * 3 - 1)
    np.testing.assert_array_equal(mosaic[4:7, 6:8], weight[2, 1])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("filter", "input channel")


def test_filters_of_zeros_and_bad_shapes(tmp_path: Path) -> None:
    plots.filters(np.zeros((1, 1, 3, 3), np.float32), tmp_path / "f.png")
    for weight in (np.zeros((6, 25)), np.zeros((0, 1, 3, 3))):
        with pytest.raises(ShapeError, match=r"plots\.filters: expected weight \(K, C, R, S\)"):
            plots.filters(weight, tmp_path / "g.png")
