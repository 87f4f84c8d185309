"""The page about runs: what it says, what it says where something is missing, and that nothing in it is believed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Browse
from helpers import HOSTILE_NAMES
from stridenet.data.dataset import Dataset
from stridenet.errors import ConfigError, DataFormatError, StridenetError
from stridenet.model import Model
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Residual, Sequential
from stridenet.train.metrics import measure
from stridenet.viz import insides, report, sections
from stridenet.viz.blocks import AbsentError
from stridenet.viz.report import page_about, text_of
from stridenet.viz.runs import Record, each_once, read
from stridenet.viz.sections import summary
from stridenet.zoo import recipes

TITLES = [
    "Curves", "Each class", "Confusion matrix", "Calibration", "Most confident mistakes", "First-layer filters",
    "Time by layer", "Weights, gradients and updates", "One image through every layer", "Recipe",
    "Versions and machine",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def short_times() -> Iterator[None]:
    """Layers are timed for three rounds only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insides, "SECONDS", 0.001)
        yield


@pytest.fixture(scope="module")
def page(digits_run: Path) -> str:
    return text_of([digits_run])


def body(page: str) -> str:
    return page.partition("<body>")[2]


def words(page: str) -> str:
    """The text of a page, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body(page)))


def part(page: str, key: str) -> str:
    """The section of that id."""
    return next(text for text in page.split("<section ")[1:] if text.startswith(f'aria-labelledby="{key}"'))


def rows(section: str) -> list[list[str]]:
    """The cells of the rows of a section's table."""
    found = re.findall(r"<tr>(.*?)</tr>", section)[1:]
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in found]


@pytest.fixture
def copy(digits_run: Path, tmp_path: Path) -> Path:
    """A run folder of one's own, without its checkpoints."""
    return Path(shutil.copytree(digits_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "*.png")))


def record(classes: tuple[str, ...], **changes: Any) -> Record:
    """A run that no folder holds, of any class names; its network has a block inside it."""
    k, rng = len(classes), np.random.default_rng(0)
    block = Residual(Sequential(Conv2d(4, 4, 3, padding=1, rng=rng), BatchNorm2d(4)))
    network = Sequential(Conv2d(1, 4, 3, rng=rng), ReLU(), block, Flatten(), Linear(64, k, rng=rng))
    images, targets = rng.integers(0, 256, (3 * k, 1, 6, 6), dtype=np.uint8), np.arange(3 * k) % k
    model = Model(network, classes, (1, 6, 6))
    metrics = measure(model.scores(images), targets, 0.5)
    norms = {name: [1.0, 0.5, 0.001] for name, p in network.named_parameters() if p.trainable}
    row = {"epoch": 0, "step": 3, "lr": 0.1, "train_loss": 1.5, "seconds": 0.5, "norms": norms}
    results = {"best_epoch": 0, "epochs": 1, "seconds": 0.5, "ended_by": "time_budget"}
    results |= {"data": {"name": classes[0], "origin": classes[-1]}, "machine": {"processor": classes[0]}}
    recipe = recipes.load("lenet5-digits") | {"name": classes[0]}
    now = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    whole = Record(Path("a"), recipe, [row], results, metrics, model, Dataset(images, targets, classes), "", now)
    return replace(whole, **changes)


# What it says


def test_a_page_has_every_section_and_no_script(page: str) -> None:
    assert re.findall(r"<h2 [^>]*>(.*?)</h2>", page) == TITLES
    assert "<script" not in page
    assert "script-src 'none'" in page
    assert 'class="note"' not in page  # nothing is missing
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<figcaption>") == page.count("<figure")
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img [^>]*>", page))
    assert page.count("<caption>") == page.count("<table")
    assert set(re.findall(r'<a href="#([^"]*)"', page)) == {f for f in ids if f.startswith("run-")}
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []


@pytest.mark.promise("G9")
def test_the_summary_has_the_accuracy_with_n_and_interval(page: str, digits_run: Path) -> None:
    results = json.loads((digits_run / "results.json").read_text())
    test, text = results["test"], words(page)
    low, high = (100 * bound for bound in test["interval"])
    assert f"{100 * test['accuracy']:.2f} % of 359 test images, 95 % interval {low:.2f} to {high:.2f}" in text
    assert f"epochs 6 in {results['seconds']} s" in text
    assert f"of epoch {results['best_epoch'] + 1}" in text
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", text)


def test_the_numbers_behind_the_charts_are_those_of_the_run(page: str, digits_run: Path) -> None:
    results = json.loads((digits_run / "results.json").read_text())
    history = [json.loads(line) for line in (digits_run / "history.jsonl").read_text().splitlines()]
    found = rows(part(page, "run-confusion"))
    assert [list(map(int, row[1:])) for row in found] == results["test"]["confusion"]
    curves = rows(part(page, "run-curves"))
    assert [row[0] for row in curves] == ["1", "2", "3", "4", "5", "6"]
    assert [float(row[3]) for row in curves] == pytest.approx([r["validation_accuracy"] for r in history], rel=1e-3)
    norms = {row[0]: row[1:] for row in rows(part(page, "run-norms"))}
    assert list(norms)[:3] == ["0 Conv2d weight", "0 Conv2d bias", "3 Conv2d weight"]
    assert [float(x) for x in norms["0 Conv2d weight"][:6]] == [
        *history[0]["norms"]["0.weight"], *history[-1]["norms"]["0.weight"],
    ]  # fmt: skip


def test_precision_recall_and_f1_are_those_of_scikit_learn(page: str, digits_run: Path) -> None:
    from sklearn.metrics import classification_report

    matrix = np.array(json.loads((digits_run / "results.json").read_text())["test"]["confusion"])
    true, taken = (np.repeat(index.reshape(-1), matrix.reshape(-1)) for index in np.indices(matrix.shape))
    wanted: Any = classification_report(true, taken, output_dict=True, zero_division=np.nan)
    found = rows(part(page, "run-classes"))
    for name, images, *shares in found[:-1]:
        assert int(images) == wanted[name]["support"]
        assert shares == [f"{wanted[name][key]:.4f}" for key in ("precision", "recall", "f1-score")]
    assert found[-1] == [
        "mean",
        "",
        *(f"{wanted['macro avg'][key]:.4f}" for key in ("precision", "recall", "f1-score")),
    ]


def test_mistakes_are_the_most_confident_and_none_is_made_up(page: str, digits_run: Path) -> None:
    run = read(digits_run)
    assert run.test is not None
    assert run.probabilities is not None
    taken = run.probabilities.argmax(axis=1)
    shown = re.findall(r'alt="test image (\d+): (\d), taken for (\d)"', part(page, "run-mistakes"))
    assert len(shown) == min(36, int((taken != run.test.targets).sum()))
    for number, true, said in shown:
        assert (int(true), int(said)) == (run.test.targets[int(number)], taken[int(number)])
        assert true != said
    sure = [run.probabilities[int(number)].max() for number, _, _ in shown]
    assert sure == sorted(sure, reverse=True)


def test_an_image_is_followed_through_every_layer(digits_run: Path, page: str) -> None:
    run = read(digits_run)
    assert run.model is not None
    assert run.test is not None
    layers = [type(layer).__name__ for _, layer in run.model.network.children()]
    shown = re.findall(r"<li><div><b>([^<]*)</b>", part(page, "run-maps"))
    assert shown == ["input", *(f"{i} {kind}" for i, kind in enumerate(layers))]
    first = int((run.model.predict(run.test.images) == run.test.targets).argmax())
    assert f"Test image {first}, " in page
    text = "".join(insides.maps(run, "k", image=7))
    assert f"Test image 7, {run.test.classes[run.test.targets[7]]}: taken for" in text
    assert text.count("<img") == 1 + sum(kind != "Flatten" for kind in layers)
    with pytest.raises(ConfigError, match="report: expected an image below the 359 of the test set, got 359"):
        text_of([digits_run], image=359)


def test_several_runs_are_compared_first(copy: Path, digits_run: Path) -> None:
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["optimizer"]["lr"] = 0.125
    (copy / "recipe.json").write_text(json.dumps(recipe))
    (copy / "results.json").unlink()
    text = text_of([digits_run, copy])
    assert re.findall(r"<h2 [^>]*>(.*?)</h2>", text)[:3] == ["Results", "Recipes", "Curves"]
    assert re.findall(r"<h3 [^>]*>(.*?)</h3>", text) == 2 * TITLES
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert {target for target in re.findall(r'href="#([^"]*)"', text) if target.startswith("run")} <= set(ids)
    results = rows(part(text, "results"))
    assert [row[1] for row in results] == [results[0][1], "not finished"]
    (differing,) = rows(part(text, "recipes"))
    assert differing[0] == "optimizer.lr"
    assert differing[2:] == ["0.125"]
    assert len(rows(part(text, "curves"))) == 12


def test_recipes_differ_by_what_is_not_shown_of_long_values_too() -> None:
    runs = [record(("a", "b"), recipe={"data": {"name": 100 * "x" + end}, "seed": 0}) for end in "yz"]
    assert [row[0] for row in rows(report._differences(runs, ["first", "second"]))] == ["data.name"]


# What is missing


def test_a_run_that_is_not_finished_judges_no_test_image(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "results.json").unlink()
    judged: list[int] = []
    predict = Model.predict_proba
    monkeypatch.setattr(Model, "predict_proba", lambda self, x: (judged.append(len(x)), predict(self, x))[1])
    text = text_of([copy])
    assert judged == [1]  # the one whose maps are shown
    assert "Not finished" in words(text)
    assert "6 of 6 epochs are done" in words(text)
    assert words(text).count("so no test image has been judged yet; stridenet train --resume") == 5


def test_a_run_that_has_just_begun_has_a_page(copy: Path) -> None:
    for name in ("results.json", "history.jsonl", "model.safetensors"):
        (copy / name).unlink()
    text = words(text_of([copy]))
    assert "No epoch is done yet." in text
    assert text.count("The run has no model yet; its first epoch writes one.") == 3
    assert "lenet5-digits" in text


def test_a_finished_run_whose_model_is_gone_says_so(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    text = words(text_of([copy]))
    assert text.count("The file model.safetensors of the run is missing.") == 5
    assert "its first epoch writes" not in text


def test_why_something_is_not_in_it_is_given_back(copy: Path, digits_run: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    why = "The file model.safetensors of the run is missing."
    assert report.report([copy], tmp_path / "a.html") == [why]
    assert report.report([copy, digits_run], tmp_path / "b.html") == [f"{copy}: {why}"]
    assert report.report([digits_run], tmp_path / "c.html") == []


def test_a_run_is_taken_once(copy: Path, digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    run = Path("run")
    assert each_once([copy, digits_run, run, copy / ".." / "run"]) == [copy, digits_run]
    assert re.findall(r"<h1>(.*?)</h1>", text_of([run, copy])) == ["Report: run"]


def test_what_is_no_run_is_said(copy: Path, tmp_path: Path) -> None:
    for name in ("run", *(f"runs/{i}" for i in range(7))):
        shutil.copytree(copy, tmp_path / "x" / name, ignore=shutil.ignore_patterns("*.safetensors"))
    folder, wanted = tmp_path / "x", "expected a run folder with recipe.json, got"
    (folder / "picture.png").touch()
    (folder / "empty").mkdir()
    for name, message in {
        "none": "no such file or folder; check the path",
        "none/recipe.json/none": "no such file or folder; check the path",
        "picture.png": f"{wanted} a file",
        "run/history.jsonl": f"{wanted} a file; give {folder}/run",
        "empty": f"{wanted} none; check the path",
        "runs": f"{wanted} a folder of runs; give one or more of "
        + ", ".join(f"{folder}/runs/{i}" for i in range(5))
        + " or 2 more",
    }.items():
        with pytest.raises(FileNotFoundError) as caught:
            report.folders_of(folder / name)
        assert str(caught.value) == f"{folder / name}: {message}"


@pytest.mark.parametrize("best", [0, 1234])
def test_the_table_of_very_many_epochs_has_some(best: int) -> None:
    row = {"step": 1, "lr": 0.1, "train_loss": 1.5, "seconds": 0.5, "validation_accuracy": 0.5, "validation_loss": 1.0}
    history = [row | {"epoch": i, "validation_accuracy": 0.5 + 0.25 * (i == best)} for i in range(3000)]
    run = record(("a", "b"), history=history)
    section = "".join(sections._curves(run, "k"))
    assert "The history; of more than 1 000 epochs so many, evenly, with the first, the last and the best" in section
    epochs = [int(cells[0]) for cells in rows(section)]
    assert 999 <= len(epochs) <= 1000
    assert (epochs[0], epochs[-1]) == (1, 3000)
    assert best + 1 in epochs
    assert max(np.diff(epochs)) <= 4
    several = report._curves([run, record(("a", "b"))], ["first", "second"])
    assert [cells[1] for cells in rows(several)] == [*map(str, epochs), "1"]
    assert "of more than" not in "".join(sections._curves(record(("a", "b"), history=history[:1000]), "k"))


def test_a_run_of_an_earlier_version_has_no_norms(copy: Path) -> None:
    lines = [json.loads(line) for line in (copy / "history.jsonl").read_text().splitlines()]
    bare = [{name: value for name, value in row.items() if name != "norms"} for row in lines]
    (copy / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    with pytest.raises(AbsentError, match="an earlier version trained the run"):
        insides.norms(read(copy), "k")


@pytest.mark.parametrize("source", ["nowhere", "mnist", "a\x1b[31m<b>"])
def test_data_that_are_not_here_are_not_fetched(
    source: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STRIDENET_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["data"]["name"] = source
    (copy / "recipe.json").write_text(json.dumps(recipe))
    run = read(copy)
    assert run.test is None
    assert re.fullmatch(r"The test images are not here: .*\. With --data the report finds them elsewhere\.", run.why)
    assert run.why.isprintable()
    assert run.probabilities is None
    assert read(copy, "digits").test is not None


def test_what_is_missing_without_the_test_images(digits_run: Path) -> None:
    run = replace(read(digits_run), test=None, why="They are <gone>.")
    text = "".join(sections.sections(run, "k", 2, None))
    assert text.count('<p class="note">They are &lt;gone&gt;.</p>') == 3  # calibration, mistakes, maps
    assert 'class="note"' not in part(text, "k-confusion")  # the counts are in results.json


def test_other_images_than_those_of_the_run_are_refused(copy: Path, small_data: Path) -> None:
    with pytest.raises(ConfigError, match="expected the classes"):
        read(copy, str(small_data))
    results = json.loads((copy / "results.json").read_text())
    results["data"]["test"] = "0" * 64
    (copy / "results.json").write_text(json.dumps(results))
    assert "their fingerprint differs" in read(copy).why
    with pytest.raises(ConfigError, match="expected the test images of the run, got others"):
        read(copy, "digits")


def test_a_folder_of_several_seeds_stands_for_its_runs(copy: Path, tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    shutil.copytree(copy, series / "seed-0")
    shutil.copytree(copy, series / "seed-2")
    recipe = json.loads((copy / "recipe.json").read_text())
    (series / "seeds.json").write_text(json.dumps({"recipe": recipe, "seeds": [0, 1, 2]}))
    assert [run.name for run in report.folders_of(series)] == ["seed-0", "seed-2"]
    for name in ("seed-0", "seed-2"):
        shutil.rmtree(series / name)
    with pytest.raises(ConfigError, match="expected a series with a run that has begun, got none"):
        report.folders_of(series)


# What is damaged, and what is hostile


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history.jsonl", "{"),
        ("history.jsonl", "[]\n"),
        ("history.jsonl", '{"epoch": 1}\n'),
        ("history.jsonl", '{"epoch":0,"step":1,"lr":NaN,"train_loss":1,"seconds":1}\n'),
        ("history.jsonl", '{"epoch":0,"step":1,"lr":1e300,"train_loss":1,"seconds":1}\n'),
        ("history.jsonl", '{"epoch":0,"step":1,"lr":1,"train_loss":1,"seconds":1,"norms":{"a":[1,2,1e300]}}\n'),
        ("history.jsonl", '{"epoch":0,"step":1,"lr":1,"train_loss":1,"seconds":1,"norms":{"a":[1,2]}}\n'),
        ("history.jsonl", '{"epoch":0,"step":1,"lr":1,"train_loss":1,"seconds":1,"validation_accuracy":1}\n'),
        (
            "history.jsonl",
            '{"epoch":0,"step":1,"lr":1,"train_loss":1,"seconds":1,"validation_accuracy":2,"validation_loss":1}\n',
        ),
        ("results.json", "null"),
        ("results.json", "{}"),
        ("results.json", '{"test": {}}'),
    ],
)
def test_a_damaged_file_is_named(name: str, text: str, copy: Path) -> None:
    (copy / name).write_text(text)
    with pytest.raises(DataFormatError, match=name) as caught:
        read(copy)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["best_epoch", "epochs", "seconds", "data", "machine", "ended_by", "test"])
def test_results_of_another_form_are_refused(name: str, copy: Path) -> None:
    results = json.loads((copy / "results.json").read_text())
    for value in (None, [], True):
        (copy / "results.json").write_text(json.dumps(results | {name: value}))
        with pytest.raises(DataFormatError, match=r"results\.json: expected"):
            read(copy)


@pytest.mark.parametrize(
    "test",
    [{"n": 5}, {"correct": 0}, {"loss": "x"}, {"confusion": []}, {"confusion": [[1, 2]]}, {"confusion": [[-1]]},
     {"confusion": [["<b>"]]}, {"confusion": [[0]], "n": 0, "correct": 0}, {"confusion": [[7]], "n": 7, "correct": 7}],
)  # fmt: skip
def test_counts_that_cannot_be_are_refused(test: dict[str, Any], copy: Path) -> None:
    results = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(results | {"test": results["test"] | test}))
    with pytest.raises(StridenetError, match=r"results\.json: expected"):
        read(copy)


@pytest.fixture(scope="module")
def hostile_page() -> str:
    """Two runs of forty classes, all with hostile names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insides, "BATCH", 2)
        runs = [record(HOSTILE_NAMES, folder=Path(HOSTILE_NAMES[0])), record(HOSTILE_NAMES[::-1], folder=Path("b"))]
        return page_about(runs, image=0)


@pytest.mark.promise("S6")
def test_hostile_names_are_text_everywhere(hostile_page: str) -> None:
    found = body(hostile_page)
    assert [name for name in HOSTILE_NAMES if name in found] == []
    assert re.findall(r"<(?:script|iframe|img(?! src=\"data:)|svg(?! role=)|base|link|object|form)\b", found) == []
    assert found.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert "\x1b" not in hostile_page
    one = summary(record(HOSTILE_NAMES[::-1]))
    assert [name for name in HOSTILE_NAMES if name in one] == []


def test_a_network_of_blocks_has_the_names_of_its_layers() -> None:
    run = record(("cat", "dog"))
    names = [row[0] for row in rows("".join(insides.norms(run, "k")))]
    assert names[2:6] == [f"2.body.{name}" for name in (
        "0 Conv2d weight", "0 Conv2d bias", "1 BatchNorm2d weight", "1 BatchNorm2d bias"
    )]  # fmt: skip
    assert "<b>2 Residual</b>" in "".join(insides.maps(run, "k", image=0))
    assert "<dd>1 in 0.5 s, ended by time budget</dd>" in summary(run)


def test_of_large_images_fewer_maps_are_shown_and_smaller_batches_timed() -> None:
    rng, shape = np.random.default_rng(0), (1, 256, 256)
    network = Sequential(Conv2d(1, 8, 1, rng=rng), MaxPool2d(128), Flatten(), Linear(32, 2, rng=rng))
    images = Dataset(rng.integers(0, 256, (2, *shape), dtype=np.uint8), np.arange(2), ("a", "b"))
    run = record(("a", "b"), model=Model(network, ("a", "b"), shape), test=images)
    first, *_ = "".join(insides.maps(run, "k", image=0)).split("<b>1 MaxPool2d")
    assert "<span>the first 4</span>" in first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insides, "ROOM", 2**23)
        assert "one thread, batch of 3" in "".join(insides.times(run, "k"))


def test_numbers_that_are_not_finite_are_shown_silently() -> None:
    run = record(("a", "b"))
    assert run.model is not None
    weight = next(p for name, p in run.model.network.named_parameters() if name == "0.weight")
    weight.value[0], weight.value[1] = np.nan, np.inf
    assert "<img" in "".join(insides.filters(run, "k"))


def test_a_network_that_is_no_sequential_is_one_layer() -> None:
    images = Dataset(np.zeros((2, 1, 1, 2), np.uint8), np.arange(2), ("a", "b"))
    run = record(("a", "b"), model=Model(Flatten(), ("a", "b"), (1, 1, 2)), test=images)
    assert [row[0] for row in rows("".join(insides.times(run, "k")))] == ["0 Flatten"]
    assert "<b>0 Flatten</b>" in "".join(insides.maps(run, "k", image=0))


# In the browser


def test_it_opens_in_a_browser(
    page: str, tmp_path: Path, browse: Browse, accessibility: Callable[[Any], list[str]]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    for size, dark in (("desk", False), ("phone", True)):
        with browse(path, size=size, dark=dark) as shown:
            assert shown.inner_text("h1") == "Report: digits"
            shown.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert accessibility(shown) == []
            root = "document.documentElement"
            assert shown.evaluate(f"{root}.scrollWidth") <= shown.evaluate(f"{root}.clientWidth")
            long = "2 TrainableSubsampling2dOfSomebodyElse"
            shown.evaluate(f"document.querySelector('.maps li:nth-child(2) b').textContent = '{long}'")
            for name in ("section", ".maps li > div"):  # nothing runs over its neighbour
                wide = "(each) => each.scrollWidth > each.clientWidth"
                assert shown.evaluate(f"[...document.querySelectorAll('{name}')].filter({wide}).length") == 0
            assert shown.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth)")
            ink = shown.evaluate("getComputedStyle(document.querySelector('.chart text')).fill")
            assert ink == ("rgb(163, 174, 185)" if dark else "rgb(85, 97, 108)")  # the quiet colour of each
            shown.emulate_media(media="print")
            assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.promise("S6")
def test_hostile_names_do_nothing_in_a_browser(hostile_page: str, tmp_path: Path, browse: Browse) -> None:
    path = tmp_path / "report.html"
    path.write_text(hostile_page, "utf-8")
    with browse(path, size="phone") as shown:  # its end sees a request, an error and a blocked script
        assert shown.locator("script, iframe, base, link[rel=stylesheet]").count() == 0
        root = "document.documentElement"
        assert shown.evaluate(f"{root}.scrollWidth") <= shown.evaluate(f"{root}.clientWidth")
