from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet.data.images import Framing
from stridenet.data.transforms import Normalize, Pad, Pipeline, Resize
from stridenet.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    ShapeError,
    StridenetError,
    UnsupportedModelError,
    WeightsFormatError,
    WeightsMismatchError,
)
from stridenet.files import load_tensors, save_tensors
from stridenet.model import FILE, Model, load
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU, Sigmoid, Tanh
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential

NAMES = ("<script>alert(1)</script>", "\x1b[31mred\n", "数字")


def make(channels: int = 1, seed: int = 0, classes: tuple[str, ...] = NAMES) -> Model:
    """A model of 6 x 6 images with every kind of layer and transform."""
    rng = np.random.default_rng(seed)
    network = Sequential(
        Conv2d(channels, 4, (3, 2), padding=((1, 0), (0, 1)), groups=1, rng=rng),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
        Conv2d(4, 2, 1, bias=False, rng=rng),
        Tanh(),
        Dropout(0.5),
        Flatten(),
        Linear(50, 5, rng=rng),
        Sigmoid(),
        Linear(5, len(classes), rng=rng),
    )
    transform = Pipeline([Resize(8), Pad(1, 0.5), Normalize([0.2] * channels, [0.3] * channels)])
    framing = Framing(0.0, 0.7) if channels == 1 else None
    return Model(
        network,
        classes,
        (channels, 6, 6),
        transform=transform,
        framing=framing,
        recipe={"name": "mine", "lr": 0.1},
        provenance={"data": "noise"},
    )


def images(n: int = 5, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, channels, 6, 6)).astype(np.uint8)


# Files


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_comes_back_as_it_was(channels: int, tmp_path: Path) -> None:
    model, x = make(channels), images(channels=channels)
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.scores(x), model.scores(x))
    assert again.classes == NAMES
    assert (again.image_shape, again.input_shape) == ((channels, 6, 6), (channels, 10, 10))
    assert (again.recipe, again.provenance) == ({"name": "mine", "lr": 0.1}, {"data": "noise"})
    assert again.framing == model.framing
    assert repr(again.network) == repr(model.network)
    assert repr(again.transform) == repr(model.transform)
    assert again.network.training is False


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    make().save(tmp_path / "b")
    load(tmp_path / "a").save(tmp_path / "c")
    make(seed=1).save(tmp_path / "d")
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b == c != d


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    for name, hint in (
        ("", "got none; check the path"),
        ("recipe.json", "got none; the run has begun, its first epoch writes one"),
        ("history.jsonl", "got none; the run has epochs, so the file is missing"),
        ("seed-4/model.safetensors", "got none, this holds several runs: give .*/seed-4"),
        ("seeds.json", "got none, this holds several seeds: give .*/seed-4"),
    ):
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        with pytest.raises(FileNotFoundError, match=f"expected a run folder with model\\.safetensors, {hint}$"):
            load(tmp_path)


def test_a_model_that_diverged_predicts_silently() -> None:
    model = make()
    for _, parameter in model.network.named_parameters():
        parameter.value[...] = 1e38  # every sum overflows
    few = np.full((2, *model.image_shape), 255, np.uint8)
    for images in (few, np.repeat(few, 200, axis=0)):  # through NumPy; through compiled kernels
        assert not np.isfinite(model.scores(images)).all()
        assert model.predict(images).shape == (len(images),)
        assert not np.isfinite(model.predict_proba(images)).any()


def test_a_run_folder_is_loaded_by_its_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a run folder with model\.safetensors, got none"):
        load(tmp_path)
    make().save(tmp_path / FILE)
    assert load(tmp_path).classes == NAMES
    assert load(str(tmp_path)).classes == NAMES


@pytest.mark.promise("S07")
def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "m\x1b[31m"
    with pytest.raises(FileNotFoundError):
        load(path)
    for content in (b"", b"hello, I am a text\n" * 20, b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsFormatError, match=r"m\\x1b\[31m: expected"):
            load(path)
    save_tensors(path, {"a": np.zeros(3)}, {"version": 1})
    with pytest.raises(WeightsFormatError, match="expected a stridenet model, got None"):
        load(path)
    save_tensors(path, {}, {"format": "stridenet model", "version": 2})
    with pytest.raises(UnsupportedModelError, match="expected version 1, got 2; update stridenet"):
        load(path)


@pytest.mark.promise("F4")
def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    make().save(tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "m").write_bytes(changed)
        with pytest.raises(StridenetError):
            load(tmp_path / "m")


# Images


@pytest.mark.promise("P02")
def test_all_forms_of_images_give_the_same_scores(tmp_path: Path) -> None:
    model, x = make(), images()
    wanted = model.scores(x)
    unit = (x / np.float32(255)).astype(np.float32)
    filed = np.memmap(tmp_path / "x", np.uint8, "w+", shape=x.shape)
    filed[:] = x
    filed.flush()
    same = {
        "(N, H, W)": x[:, 0],
        "float32": unit,
        "float32 (N, H, W)": unit[:, 0],
        "big endian": unit.astype(">f4"),
        "negative strides": x[::-1][::-1],
        "Fortran": np.asfortranarray(x),
        "memmap": np.memmap(tmp_path / "x", np.uint8, "r", shape=x.shape),
        "list": unit.tolist(),
    }
    for name, form in same.items():
        assert np.array_equal(model.scores(form), wanted), name
    assert np.array_equal(model.scores(unit[::-1]), model.scores(np.ascontiguousarray(unit[::-1])))
    for close in (unit.astype(np.float64), (x / 255.0).astype(np.longdouble)):
        assert np.allclose(model.scores(close), wanted, rtol=0, atol=1e-5)
    assert model.scores(unit.astype(np.float16)).shape == (5, 3)
    for one in (x[2], x[2, 0], unit[2], unit[2, 0]):
        assert np.allclose(model.scores(one), wanted[2:3], rtol=0, atol=1e-5)
    assert np.allclose(make(3).scores(images(1, 3)[0]), make(3).scores(images(1, 3)), rtol=0, atol=1e-5)


def test_predictions_are_those_of_the_scores() -> None:
    model, x = make(), images(20)
    scores = model.scores(x)
    assert scores.dtype == np.float32
    assert np.array_equal(model.predict(x), scores.argmax(axis=1))
    assert model.predict(x).dtype == np.int64
    probabilities = model.predict_proba(x)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(np.log(probabilities[:, 1] / probabilities[:, 0]), scores[:, 1] - scores[:, 0], atol=1e-5)


def test_the_batch_size_changes_no_class() -> None:
    model, x = make(), images(20)
    wanted = model.scores(x)
    for batch_size in (1, 3, 19, 20, 1000):
        assert np.allclose(model.scores(x, batch_size=batch_size), wanted, rtol=0, atol=1e-5)
    for batch_size in (0, -1, 1.5, "2", None, True):
        with pytest.raises(ConfigError, match=r"Model\.scores: expected batch_size"):
            model.scores(x, batch_size=batch_size)  # pyright: ignore[reportArgumentType]


@pytest.mark.promise("P02")
@pytest.mark.parametrize("shape", [(0, 1, 6, 6), (0, 6, 6)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_no_image_gives_no_prediction(shape: tuple[int, ...], dtype: Any) -> None:
    model, x = make(), np.zeros(shape, dtype)
    assert model.scores(x).shape == model.predict_proba(x).shape == (0, 3)
    assert model.predict(x).shape == (0,)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "flat": (np.zeros(36, np.uint8), ShapeError, r"expected images of shape \(N, 1, 6, 6\), got \(36,\)"),
    "number": (np.uint8(3), ShapeError, "expected images of shape"),
    "channels": (np.zeros((2, 3, 6, 6), np.uint8), ShapeError, "expected images of shape"),
    "channels last": (np.zeros((2, 6, 6, 1), np.uint8), ShapeError, "expected images of shape"),
    "five axes": (np.zeros((1, 1, 1, 6, 6), np.uint8), ShapeError, "expected images of shape"),
    "integers": (
        np.zeros((1, 6, 6), np.int64),
        DataError,
        "expected images of type uint8, or float in 0..1, got int64",
    ),
    "bool": (np.zeros((1, 6, 6), bool), DataError, "got bool"),
    "object": (np.zeros((1, 6, 6), object), DataError, "got object"),
    "complex": (np.zeros((1, 6, 6), complex), DataError, "got complex128"),
    "text": (np.full((1, 6, 6), "a"), DataError, "got <U1"),
    "a text": ("photo.png", DataError, "got <U9"),
    "None": (None, DataError, "got object"),
    "ragged": ([[0.0, 0.1], [0.2]], DataError, "expected images as one array, got entries of different shapes"),
    "NaN": (np.full((6, 6), np.nan), DataError, "expected float images in 0..1, got nan to nan"),
    "infinite": (np.full((6, 6), np.inf), DataError, "got inf to inf"),
    "0..255": (np.full((6, 6), 255.0), DataError, "got 255 to 255; scale them, 0..255 by 1/255"),
    "beyond float32": (np.full((6, 6), 1e300), DataError, r"got 1e\+300"),
    "negative": (np.full((6, 6), -0.1), DataError, "got -0.1"),
}


@pytest.mark.promise("P02", "A2")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_images(name: str) -> None:
    given, kind, message = WRONG[name]
    for method in ("scores", "predict", "predict_proba"):
        with pytest.raises(kind, match=message):
            getattr(make(), method)(given)


@pytest.mark.promise("P02")
def test_one_nan_among_many_is_found() -> None:
    x = np.zeros((50, 6, 6), np.float32)
    x[37, 3, 3] = np.nan
    with pytest.raises(DataError):
        make().predict(x)


@pytest.mark.promise("P02")
def test_images_of_another_size_are_refused() -> None:
    network = Sequential(
        Conv2d(1, 1, 5, rng=np.random.default_rng(0)), Flatten(), Linear(4, 1, rng=np.random.default_rng(0))
    )
    model = Model(network, ("one",), (1, 6, 6))
    for shape in ((1, 4, 4), (1, 9, 9), (6, 7), (3, 36), (6, 6, 1), (36,)):
        with pytest.raises(ShapeError, match=r"^Model: expected images of shape \(N, 1, 6, 6\), got .*reshape$"):
            model.predict(np.zeros(shape, np.uint8))
    assert len(model.predict(np.zeros((6, 6), np.uint8))) == 1
    resizing = Model(network, ("one",), (1, 9, 9), transform=Pipeline([Resize(6)]))
    assert len(resizing.predict(np.zeros((2, 7, 5), np.uint8))) == 2  # its transform takes any size
    with pytest.raises(ShapeError, match="flat features need a reshape"):
        resizing.predict(np.zeros((3, 36), np.uint8))


def test_classes_become_texts(tmp_path: Path) -> None:
    model = make()
    for classes in (range(len(model.classes)), np.arange(len(model.classes))):
        Model(model.network, classes, model.image_shape, transform=model.transform).save(tmp_path / "m")
        assert load(tmp_path / "m").classes == tuple(str(k) for k in range(len(model.classes)))


@pytest.mark.promise("G6", "G8")
def test_predictions_change_neither_images_nor_model() -> None:
    model = make()
    before = model.network.state_dict()
    for x in (images(), images()[:, 0], images() / 255, images().astype(np.float32) / 255):
        kept = x.copy()
        x.setflags(write=False)
        model.predict_proba(x)
        assert np.array_equal(x, kept)
    assert all(np.array_equal(value, before[name]) for name, value in model.network.state_dict().items())


@pytest.mark.big
@pytest.mark.promise("A4")
def test_predictions_of_eight_threads_are_those_of_one() -> None:
    model, x = make(), images(64)
    wanted = [model.scores(x[i : i + 16]) for i in range(48)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda i: model.scores(x[i : i + 16]), range(48)))
            assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


# Models that cannot be


def test_a_network_must_fit_classes_images_and_type() -> None:
    network = Sequential(Flatten(), Linear(36, 3, rng=np.random.default_rng(0)))
    with pytest.raises(ShapeError, match=r"Model: expected a score for each of 2 classes, got \(3,\) from the network"):
        Model(network, ("a", "b"), (1, 6, 6))
    with pytest.raises(ShapeError):
        Model(network, ("a", "b", "c"), (1, 5, 5))
    with pytest.raises(ShapeError):
        Model(network, ("a", "b", "c"), (3, 2, 6), transform=Pipeline([Normalize([0.5], [0.5])]))
    with pytest.raises(ConfigError, match="Model: expected a network of float32"):
        Model(network.astype(np.float64), ("a", "b", "c"), (1, 6, 6))


def test_a_recipe_that_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = make()
    model.recipe["lr"] = float("nan")
    with pytest.raises(ConfigError):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("P07")
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "m")
    tensors, meta = load_tensors(tmp_path / "m")
    tensors["0.weight"] = np.append(tensors["0.weight"], tensors["0.weight"][:1], axis=0)
    save_tensors(tmp_path / "m", tensors, meta)
    with pytest.raises(WeightsMismatchError) as caught:
        load(tmp_path / "m")
    assert str(caught.value).startswith(f"{tmp_path / 'm'}: Sequential.load_state_dict: '0.weight' is (5, ")


# Hostile files: valid containers whose meta lies


@pytest.mark.promise("F2", "F3")
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", [], "expected class names"),
        ("classes", ["a", 3, "c"], "expected class names"),
        ("classes", ["a", "b"], "expected a score for each of 2 classes"),
        ("classes", "abc", "expected classes as a list"),
        ("image_shape", [1, 6], "expected image_shape"),
        ("image_shape", [1, 6, True], "expected image_shape"),
        ("image_shape", [1, 0, 6], "expected image_shape"),
        ("image_shape", [1, 2**40, 6], "expected image_shape"),
        ("transform", [3], "expected transform and framing as tables"),
        ("framing", "none", "expected transform and framing as tables"),
        ("framing", {"background": 2, "extent": 0.5}, "Framing: expected background"),
        ("recipe", [], "expected recipe as a dict"),
        ("network", None, "expected a layer as a table"),
        ("network", {"kind": "Lambda"}, "expected a layer of a known kind, got 'Lambda'"),
        ("network", {"kind": "Linear", "in_features": 10**4, "out_features": 10**4}, "expected at most 309 parameters"),
    ],
)
def test_a_meta_that_lies_is_refused(key: str, value: Any, message: str, tmp_path: Path) -> None:
    make().save(tmp_path / "m")
    tensors, meta = load_tensors(tmp_path / "m")
    save_tensors(tmp_path / "m", tensors, meta | {key: value})
    with pytest.raises(ModelFileError, match=message) as caught:
        load(tmp_path / "m")
    assert str(caught.value).startswith(f"{tmp_path / 'm'}: ")  # whatever is refused, the file is named
