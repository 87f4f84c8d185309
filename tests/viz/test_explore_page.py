"""The explorer's page in a browser: drawing, looking at one number, asking why; by mouse, finger and keys alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Browse
from helpers import HOSTILE_NAMES
from stridenet import load
from stridenet.data.dataset import Dataset
from stridenet.data.images import Framing
from stridenet.data.transforms import Normalize, Pad, Pipeline
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.cost import cost, total
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.rebuild import KINDS
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Residual, Sequential
from stridenet.viz import page as shell
from stridenet.viz.explore import SCRIPTS, explore
from stridenet.zoo import models

Judge = Callable[[Any], list[str]]

DIGITS = [str(k) for k in range(10)]
SIGNS = str.maketrans({"\u2212": "-", "\u00d7": "x"})  # minus and times
WATCH = """() => {
  const forward = Stride.forward;
  Stride.forward = (net, image) => { window.given = Array.from(image); return forward(net, image); };
}"""  # what the network of the page is given from now on
DROP = """([bytes, name]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([Uint8Array.from(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""  # a file let go over the page
STEPS = """(count) => Array.from({ length: count }, () => {
  document.getElementById("forward").click();
  return ["progress", "running"].map((id) => document.getElementById(id).textContent);
})"""  # what the page says after each step


def samples(classes: list[str], shape: tuple[int, int, int]) -> Dataset:
    """One image of each class: spots that grow."""
    _, H, W = shape
    rows, columns = np.mgrid[:H, :W]
    spots = [200 * (np.hypot(rows - H / 2, columns - W / 2) < 2 + k) for k in range(len(classes))]
    images = np.repeat(np.array(spots, np.uint8)[:, None], shape[0], axis=1)
    return Dataset(images, np.arange(len(classes)), tuple(classes))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """LeNet-5 as it is drawn at random, and its page."""
    path = tmp_path_factory.mktemp("explore") / "digits.html"
    network = models.lenet5(rng=np.random.default_rng(0))
    model = Model(
        network, DIGITS, (1, 28, 28), transform=Pipeline([Normalize([0.13], [0.31])]), framing=Framing(0.0, 20 / 28)
    )
    explore(model, path, samples=samples(DIGITS, (1, 28, 28)))
    return model, path


def small(path: Path, *layers: Layer, classes: list[str], shape: tuple[int, int, int] = (1, 8, 8)) -> Path:
    """The page of a network of these layers."""
    explore(Model(Sequential(*layers), classes, shape), path, samples=samples(classes, shape))
    return path


def settle(shown: Any) -> None:
    """Until the page has drawn what it was told."""
    shown.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.strip().translate(SIGNS))


def text(shown: Any, selector: str) -> str:
    """What stands there, with the signs of the keyboard."""
    return shown.inner_text(selector).translate(SIGNS)


def shares(shown: Any) -> list[float]:
    """The per cent of each class, as the table says."""
    texts = shown.locator("#classes .share").all_inner_texts()
    return [number_of(text) for text in texts]


def says(shown: Any) -> str:
    return shown.inner_text("#verdict bdi")


def check_answer(shown: Any, model: Model) -> None:
    """The page says of what it was given what Python says of it."""
    image = np.array(shown.evaluate("window.given"), np.float32).reshape(1, *model.image_shape)
    wanted = model.predict_proba(image)[0]
    assert says(shown) == model.classes[int(wanted.argmax())]
    assert np.abs(np.array(shares(shown)) - 100 * wanted).max() < 0.06
    assert shown.inner_text("#classes .best th") == says(shown)


def check_nothing(shown: Any) -> None:
    """The page claims no class, and asks for none."""
    assert shown.inner_text("#verdict") in ("Nothing to recognise yet", "还没有可识别的内容")
    assert set(shown.locator("#classes .share").all_inner_texts()) == {"\u2013"}
    assert {bar.evaluate("bar => bar.offsetWidth") for bar in shown.locator("#classes .bar").all()} == {0}
    assert (shown.locator("#classes .best").count(), shown.input_value("#why-class")) == (0, "")
    assert shown.is_disabled("#cover")


def stroke(shown: Any, *points: tuple[float, float]) -> None:
    """A stroke on the pad by mouse, through shares of its sides."""
    box = shown.locator("#pad").bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    shown.mouse.move(*at[0])
    shown.mouse.down()
    for point in at[1:]:
        shown.mouse.move(*point, steps=4)
    shown.mouse.up()
    settle(shown)


def choose(shown: Any, step: int, **place: int) -> None:
    """Chooses a number by the fields: step, then map, row and column."""
    shown.select_option("#at-step", str(step))
    settle(shown)
    for name, value in place.items():
        shown.fill(f"#at-{name}", str(value))
        shown.press(f"#at-{name}", "Enter")
        settle(shown)


def no_sideways(shown: Any) -> bool:
    return shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


# Words


def test_language_is_the_browsers_and_can_be_switched(digits: tuple[Model, Path], browse: Browse) -> None:
    latin = re.compile(r"[A-Za-z]{3,}")
    names = {"Normalize", "Conv", "ReLU", "MaxPool", "Flatten", "Linear", "mean", "std", "English", "Page", "Down"}
    names |= {"Enter", "Escape"}
    with browse(digits[1], language="zh-CN", size="phone") as shown:
        assert shown.evaluate("document.documentElement.lang") == "zh-CN"
        words = shown.inner_text("body") + " ".join(labels(shown))
        assert set(latin.findall(words.replace("model", ""))) <= names
        assert no_sideways(shown)
        shown.click("#language")
        assert shown.evaluate("document.documentElement.lang") == "en"
        words = shown.inner_text("body") + " ".join(labels(shown))
        assert re.findall(r"[\u3000-\u9fff\uff00-\uffef]+", words) == ["中文"]
        assert says(shown) in DIGITS
        assert no_sideways(shown)
        tables = shown.evaluate("Words.TABLES")
    check_words(tables["en"], tables["zh"])


def check_words(english: dict[str, str], chinese: dict[str, str]) -> None:
    """Both languages have the same words with the same gaps, and the page uses them all."""
    assert list(english) == list(chinese)
    for key, words in english.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert words != chinese[key]
    code = "".join(shell.asset(name) for name in ("explore.html", *SCRIPTS) if name != "words.js")
    code += shell.asset("words.js").partition("let language")[2]
    built = {key for key in english if key.startswith(("kind.", "grid."))}
    assert {key for key in english if f'"{key}"' in code} | built == set(english)
    kinds = {*KINDS, "Resize", "Pad", "Normalize", "SubtractMean", "Add"} - {"Dropout", "Dropout2d", "TableConv2d"}
    assert {f"kind.{kind}" for kind in kinds} == {key for key in built if key.startswith("kind.")}


def labels(shown: Any) -> list[str]:
    return shown.evaluate("[...document.querySelectorAll('[aria-label]')].map((one) => one.ariaLabel)")


# Drawing


def test_a_drawing_by_mouse_is_what_python_says(digits: tuple[Model, Path], browse: Browse) -> None:
    with browse(digits[1]) as shown:
        shown.evaluate(WATCH)
        stroke(shown, (0.5, 0.15), (0.5, 0.85))
        check_answer(shown, digits[0])
        one = shares(shown)
        assert shown.evaluate("Math.max(...given.slice(14 * 28 + 11, 14 * 28 + 17))") == 1  # centred
        stroke(shown, (0.2, 0.5), (0.8, 0.5))
        check_answer(shown, digits[0])
        assert shares(shown) != one
        shown.click("#undo")
        settle(shown)
        assert shares(shown) == one
        shown.click("#clear")
        settle(shown)
        assert shown.evaluate("Math.max(...given)") == 0
        assert "Nothing is drawn" in shown.inner_text("#given-text")
        check_nothing(shown)
        shown.click("#samples button >> nth=7")
        assert shown.get_attribute("#samples button >> nth=7", "aria-pressed") == "true"
        check_answer(shown, digits[0])


def test_a_drawing_by_finger_on_a_phone(digits: tuple[Model, Path], browse: Browse) -> None:
    with browse(digits[1], size="phone", dark=True) as shown:
        shown.evaluate(WATCH)
        box = shown.locator("#pad").bounding_box()
        finger = shown.context.new_cdp_session(shown)
        for i in range(6):
            kind = "touchStart" if i == 0 else "touchMove"
            at = {"x": box["x"] + box["width"] * (0.2 + 0.1 * i), "y": box["y"] + box["height"] / 2}
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        settle(shown)
        check_answer(shown, digits[0])
        assert shown.evaluate("scrollY") == 0  # the finger drew, and the page stood still
        assert shown.evaluate("given.filter((value) => value > 0.5).length") > 40
        tile = shown.locator("#layers canvas").nth(3)
        tile.scroll_into_view_if_needed()
        tile.tap()
        settle(shown)
        assert shown.input_value("#at-row") in ("11", "12")  # the middle
        shown.locator(".see:visible").click()
        assert shown.evaluate("document.getElementById('number-title').getBoundingClientRect().top") < 100
        assert no_sideways(shown)


def test_by_keyboard_alone(digits: tuple[Model, Path], browse: Browse) -> None:
    with browse(digits[1]) as shown:
        shown.evaluate(WATCH)
        tab_to(shown, "pad")
        for key in (*["ArrowUp"] * 8, "Space", *["ArrowDown"] * 16, "Space", *["ArrowLeft"] * 5):
            shown.keyboard.press(key)
        settle(shown)
        check_answer(shown, digits[0])
        assert shown.evaluate("given.filter((value) => value > 0.5).length") in range(30, 100)  # one line
        shown.locator("#layers canvas[tabindex='0']").nth(1).focus()
        shown.keyboard.press("Home")
        before, row, column = (int(shown.input_value(f"#at-{name}")) for name in ("map", "row", "column"))
        shown.keyboard.press("PageDown")
        shown.keyboard.press("ArrowDown")
        settle(shown)
        assert (int(shown.input_value("#at-map")), int(shown.input_value("#at-row"))) == (before + 1, row + 1)
        shown.keyboard.press("Enter")
        assert shown.evaluate("document.activeElement.id") == "number-title"
        shown.keyboard.press("Tab")
        shown.keyboard.press("Escape")
        chosen = f"map {before + 1}, row {row + 1}, column {column}"
        assert shown.evaluate("document.activeElement.ariaLabel") == chosen
        shown.click("#to-map")
        assert shown.evaluate("document.activeElement.ariaLabel") == chosen
        for _ in range(9):
            shown.keyboard.press("Shift+Tab")
        tab_to(shown, "forward")
        for _ in range(3):
            shown.keyboard.press("Enter")
        assert shown.inner_text("#progress") == "3 of 26"
        tab_to(shown, "cover")


def tab_to(shown: Any, wanted: str) -> None:
    """Presses Tab until the control with the id `wanted` has the focus, and sees that it shows."""
    for _ in range(80):
        shown.keyboard.press("Tab")
        if shown.evaluate("document.activeElement.id") == wanted:
            assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"Tab never came to {wanted}")


@pytest.mark.slow
def test_a_picture_from_a_file(digits: tuple[Model, Path], browse: Browse, tmp_path: Path) -> None:
    from PIL import Image

    picture = np.full((90, 120), 240, np.uint8)
    picture[20:70, 50:58] = 30  # dark ink on paper
    Image.fromarray(picture).save(tmp_path / "one.png")
    (tmp_path / "none.png").write_text("no picture")
    with browse(digits[1]) as shown:
        shown.evaluate(WATCH)
        shown.set_input_files("#file", tmp_path / "one.png")
        shown.locator("#given-text", has_text="one.png").wait_for()
        check_answer(shown, digits[0])
        found = np.array(shown.evaluate("given"), np.float32).reshape(1, 1, 28, 28)
        assert np.abs(found - digits[0].read(tmp_path / "one.png")).max() < 1e-4
        shown.set_input_files("#file", tmp_path / "none.png")
        shown.wait_for_selector("#wrong:not(:empty)")
        assert "none.png" in shown.inner_text("#wrong")
        assert "one.png" in shown.inner_text("#given-text")
        first = shown.evaluate("given")
        shown.click("#samples button >> nth=2")
        shown.evaluate(DROP, [list((tmp_path / "one.png").read_bytes()), "dropped.png"])
        shown.locator("#given-text", has_text="dropped.png").wait_for()
        assert shown.evaluate("given") == first
        assert shown.inner_text("#wrong") == ""


# One number


def worked_by_hand() -> Model:
    """The convolution that report S4 works out: it gives 3 and -5. The padding is left to the layer."""
    weight = [
        [[1, 1, 1], [-1, -1, 0], [-1, 1, 0]],
        [[-1, -1, 1], [-1, 1, 0], [-1, 1, 0]],
        [[1, 0, -1], [0, 0, 0], [1, -1, -1]],
    ]
    conv = Conv2d(3, 1, 3, stride=2, padding=((1, 0), (1, 0)), rng=np.random.default_rng(0))
    conv.weight.value[...] = [weight]
    assert conv.bias is not None
    conv.bias.value[...] = 1
    transform = Pipeline([Normalize((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))])  # bytes as whole numbers
    return Model(Sequential(conv, Flatten()), ["left", "right"], (3, 2, 4), transform=transform)


def hand_data() -> Dataset:
    rows = [["1122", "1112"], ["0120", "2211"], ["2201", "0021"]]
    images: Array = np.array([[[[int(pixel) for pixel in row] for row in rows_of] for rows_of in rows]], np.uint8)
    return Dataset(images, np.array([0]), ("left", "right"))


def test_a_window_step_by_step_as_report_s4_works_it_out(tmp_path: Path, browse: Browse) -> None:
    explore(worked_by_hand(), tmp_path / "s4.html", samples=hand_data())
    with browse(tmp_path / "s4.html") as shown:
        choose(shown, 1, map=0, row=0, column=0)
        assert "3" in shown.inner_text("#to-text").split()
        assert shown.inner_text("#sentence").endswith("+ 1 = 3")
        seen = shown.evaluate(STEPS, 28)
        assert [progress for progress, _ in seen] == [f"{i} of 28" for i in range(1, 29)]
        sums = [number(running.rstrip(".").split()[-1]) for _, running in seen]
        assert seen[0][1].translate(SIGNS) == "0 x 1 = 0. The sum is now 0."
        assert sums[8::9] == [0, 2, 2]  # after each map of the input
        assert sums[-1] == 3
        shown.click("#forward")  # and from the start again
        assert shown.inner_text("#progress") == "1 of 28"
        assert not shown.is_visible("#sentence")
        shown.click("#back")
        assert shown.inner_text("#progress") == "0 of 28"
        shown.fill("#at-column", "1")
        shown.press("#at-column", "Enter")
        settle(shown)
        assert text(shown, "#sentence").endswith("+ 1 = -5")
        chips = [number(text.split(":")[1]) for text in shown.locator(".chip").all_inner_texts()]
        assert chips == [-3, 0, -3]
        shown.click(".chip >> nth=2")
        cells = [cell.split("\n") for cell in shown.locator(".kernel td").all_inner_texts()]
        assert [number(cell[1]) for cell in cells] == [1, 0, -1, 0, 0, 0, 1, -1, -1]  # the kernel of that map
        assert sum(number(cell[2]) for cell in cells) == -3
        assert "2 x 3 pixels" in text(shown, "#reach-text")  # the window without its padding


@pytest.mark.slow
def test_play_goes_on_by_itself_and_can_be_paused(tmp_path: Path, browse: Browse) -> None:
    explore(worked_by_hand(), tmp_path / "s4.html", samples=hand_data())
    with browse(tmp_path / "s4.html") as shown:
        shown.click("#play")
        shown.locator("#progress", has_text=re.compile("^([2-9]|1.) of")).wait_for()
        shown.click("#play")
        assert shown.inner_text("#play") == "Play"
        paused = shown.inner_text("#progress")
        settle(shown)
        assert shown.inner_text("#progress") == paused
        shown.click("#all")
        assert shown.inner_text("#progress") == "28 of 28"


def test_a_large_window_of_a_pool_is_a_grid(tmp_path: Path, browse: Browse) -> None:
    network = MaxPool2d(9), Flatten(), Linear(4, 2, rng=np.random.default_rng(0))
    with browse(small(tmp_path / "large.html", *network, classes=["a", "b"], shape=(1, 18, 18))) as shown:
        assert shown.locator(".kernel td").count() == 81
        assert shown.locator("#progress").inner_text() == "81 of 81"
        shown.locator("#back").click()
        assert "The largest so far is" in shown.locator("#running").inner_text()


@pytest.mark.slow
def test_a_sum_of_very_many_products_shows_a_thousand(tmp_path: Path, browse: Browse) -> None:
    network = Flatten(), Linear(160_000, 2, rng=np.random.default_rng(0))
    with browse(small(tmp_path / "many.html", *network, classes=["a", "b"], shape=(1, 400, 400))) as shown:
        choose(shown, 1)
        assert "400 x 400" in shown.locator("#reach-text").inner_text().translate(SIGNS)
        shown.get_by_role("button", name="Show the 1000 largest").click()
        assert shown.locator(".list tbody tr").count() == 1002  # with the others, and the bias


@pytest.mark.slow
def test_every_kind_of_layer_tells_how_its_number_comes_about(tmp_path: Path, browse: Browse) -> None:
    """The sum of what is listed is the number; the sentence ends in it."""
    rng = np.random.default_rng(3)
    layers = [
        Conv2d(1, 20, 3, padding=1, rng=rng),
        BatchNorm2d(20),
        LeakyReLU(),
        MaxPool2d(2, padding=1),
        Conv2d(20, 4, 1, rng=rng),
        Tanh(),
        AvgPool2d(2),
        Sigmoid(),
        ReLU(),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(4, 14, rng=rng),
        Softmax(),
        Linear(14, 3, bias=False, rng=rng),
        LogSoftmax(),
    ]
    path = small(tmp_path / "kinds.html", *layers, classes=["a", "b", "c"])
    with browse(path) as shown:
        for step, layer in enumerate(layers):
            choose(shown, step)
            value = shown.inner_text("#to-text").split()[-1]
            assert shown.inner_text("#sentence").rstrip(".").split()[-1 if step != 10 else 0] == value, layer
            assert shown.inner_text("#kind")
            assert shown.inner_text("#formula").startswith("y =")
            if not shown.is_visible("#steps"):
                continue
            if "oftmax" not in repr(layer):
                said = shown.inner_text("#running").rstrip(".").split()[-1]
                assert abs(number(said) - number(value)) <= 0.006 * abs(number(value)), layer
            shown.click("#forward")
            assert shown.inner_text("#progress").startswith("1 of")
        choose(shown, 4)
        assert shown.locator(".list tbody tr").count() == 12  # ten products, the rest, the bias
        shown.click("#products > button")
        assert shown.locator(".list tbody tr").count() == 21
        choose(shown, 3, map=0, row=0, column=0)
        assert shown.locator(".kernel td.padding").count() == 3
        assert shown.locator(".kernel td.winner").count() == 1
        shown.click("#layers button:visible")
        assert shown.locator("#layers details >> nth=0").locator("canvas:visible").count() == 20


# Why


def test_saliency_and_occlusion_appear(digits: tuple[Model, Path], browse: Browse) -> None:
    picture = "(id) => document.getElementById(id).toDataURL()"
    with browse(digits[1]) as shown:
        plain = shown.evaluate(picture, "occlusion")
        saliency = shown.evaluate(picture, "saliency")
        assert saliency != plain
        shown.select_option("#why-class", "3")
        assert shown.evaluate(picture, "saliency") != saliency
        shown.click("#cover")
        shown.wait_for_selector("#occlusion-text:not(:empty)")
        assert shown.evaluate(picture, "occlusion") != plain
        assert not shown.is_visible("#covered")
        shown.click("#samples button >> nth=2")  # another image: nothing is covered of it yet
        assert shown.inner_text("#occlusion-text") == ""


@pytest.mark.slow
def test_covering_can_be_cancelled(digits: tuple[Model, Path], browse: Browse) -> None:
    with browse(digits[1]) as shown:
        shown.evaluate("Stride.occlusion = function* () { for (;;) yield 0.5; }")
        shown.click("#cover")
        assert shown.inner_text("#cover") == "Cancel"
        settle(shown)
        assert shown.evaluate("document.getElementById('covered').value") == 0.5
        shown.click("#cover")
        assert not shown.is_visible("#covered")
        settle(shown)
        assert shown.inner_text("#cover") != "Cancel"
        assert shown.inner_text("#occlusion-text") == ""
        found = "{ rows: 1, columns: 2, size: 20, stride: 14, drop: Float32Array.of(-0.1, 0.25) }"
        shown.evaluate(f"Stride.occlusion = function* () {{ return {found}; }}")
        shown.click("#cover")
        shown.wait_for_selector("#occlusion-text:not(:empty)")
        assert text(shown, "#occlusion-text") == "A square of 20 x 20 lowers the probability by up to 25.0\u00a0%."
        data = "document.getElementById('occlusion').getContext('2d', { willReadFrequently: true })"
        pixels = np.array(shown.evaluate(f"Array.from({data}.getImageData(0, 0, 28, 28).data)")).reshape(28, 28, 4)
        red, _, blue, _ = pixels.transpose(2, 0, 1).astype(int)
        assert (blue > red)[:20, :14].all()  # only the first square
        assert (red > blue)[:20, 14:].all()  # both, then only the second
        assert (red == blue)[20:].all()  # neither


# What is said is true


def exact(line: str) -> bool:
    """Whether an equation of shown numbers is true, by fractions."""
    left, right = line.translate(str.maketrans("÷≈", "/=")).replace(" x ", " * ").replace("²", "**2").split(" = ")
    numbers = re.compile(r"\d+(\.\d+)?(e-?\d+)?")
    left, right = (numbers.sub(lambda n: n[0] if n[0] == "2" else f"F('{n[0]}')", side) for side in (left, right))
    return eval(f"{left} == {right}", {"F": Fraction})


def test_an_equals_sign_stands_where_the_shown_numbers_are_equal(digits: tuple[Model, Path], browse: Browse) -> None:
    terms = """([x, weight]) => ["sum", "mean", "distance"].map((rule) => {
      const product = { sum: x * weight, mean: x / 4, distance: -((x - weight) ** 2) }[rule];
      return Products.product({ rule, terms: [{ weight: 0.25 }] }, { x, weight, product, at: 0 });
    })"""
    rng = np.random.default_rng(0)
    pairs = [(2.8, 0.252), (-0.424, -0.232), (0.5, -0.25), (3.0, 7.0), (1e-9, 2.0), (0.1, 0.1), (12, 0.25)]
    pairs += [(round(a, 1), round(b, 1)) for a, b in rng.normal(0, 2, (40, 2))]
    with browse(digits[1]) as shown:
        lines = [line for pair in pairs for line in shown.evaluate(terms, [float(value) for value in pair])]
        for step in range(1, 12):  # from the normalisation to the scores
            choose(shown, step)
            lines += [shown.inner_text("#sentence"), *shown.locator(".list td").all_inner_texts()]
        powers = shown.evaluate("""[[2, 2, 1], [2, 2.001, 0.999], [0.5, 1, 0.6065]].map(([x, most, product]) => (
          Products.product({ rule: "softmax", terms: [{ x: most }, { x }] }, { x, product, at: 0 })))""")
    lines = [line.translate(SIGNS) for line in lines if re.search(r" [=≈] ", line)]
    assert {re.findall("[=≈]", line)[0] for line in lines if "more" in line} == {"≈"}
    lines = [line for line in lines if "more" not in line]
    assert len(lines) > 100
    assert [line for line in lines if (" = " in line) != exact(line)] == []
    assert {sign for line in lines for sign in "=≈" if sign in line} == {"=", "≈"}
    assert "2.8 x 0.252 ≈ 0.706" in lines
    powers = [line.translate(SIGNS) for line in powers]
    assert powers == ["e^(2 - 2) = 1", "e^(2 - 2) ≈ 0.999", "e^(0.5 - 1) ≈ 0.607"]


def test_layers_are_numbered_as_summary_does(tmp_path: Path, browse: Browse) -> None:
    rng = np.random.default_rng(0)
    body = Sequential(Conv2d(2, 2, 3, padding=1, rng=rng), Dropout(0.5), ReLU())
    network = Sequential(Conv2d(1, 2, 3, rng=rng), Residual(body), Flatten(), Linear(72, 2, rng=rng))
    transform = Pipeline([Normalize([0.5], [0.25])])
    model = Model(network, ["a", "b"], (1, 8, 8), transform=transform, framing=Framing(0.0, 0.7))
    explore(model, tmp_path / "page.html")
    rows = [row for row in cost(network, (1, 8, 8)) if "Dropout" not in row.layer]
    wanted = ["0", "1.body.0", "1.body.2", "1", "2", "3"]
    assert [row.name for row in rows] == wanted
    with browse(tmp_path / "page.html") as shown:
        assert shown.locator("#layers .ordinal").all_inner_texts() == ["", *wanted]
        options = shown.locator("#at-step option").all_inner_texts()
        assert [option.split(" · ")[0] for option in options] == ["Preparation", *wanted]
        assert shown.locator("#layers .name").first.inner_text() == options[0]
        choose(shown, 2)
        assert "From: 0 · Conv2d(1, 2, 3), map" in shown.inner_text("#from-text")
        shown.click("#language")
        assert shown.locator("#at-step option").all_inner_texts()[0] == options[0].replace("Preparation", "预处理")
        assert shown.locator("#layers .name").first.inner_text().startswith("预处理 · Normalize")


def test_large_pictures_and_blank_ones(digits: tuple[Model, Path], browse: Browse, tmp_path: Path) -> None:
    """All pixels count, as in Model.read; of one tone there is nothing to say."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, (height, width) in {"photo.png": (1100, 1500), "strip.png": (200, 1600)}.items():
        picture = rng.integers(215, 245, (height, width), np.uint8)
        for t in np.linspace(0, 1, 99):
            i, j = int(height * (0.15 + 0.6 * t)), int(width * (0.4 + 0.1 * np.sin(9 * t)))
            picture[i : i + height // 16, j : j + height // 16] = 30
        Image.fromarray(picture).save(tmp_path / name, compress_level=1)
    Image.new("L", (40, 50), 90).save(tmp_path / "blank.png")
    with browse(digits[1]) as shown:
        shown.evaluate(WATCH)
        for name in ("photo.png", "strip.png", "blank.png"):
            shown.set_input_files("#file", tmp_path / name)
            shown.locator("#given-text", has_text=name).wait_for()
            found = np.array(shown.evaluate("given"), np.float32).reshape(1, 1, 28, 28)
            assert np.abs(found - digits[0].read(tmp_path / name)).max() < 1e-4, name
        check_nothing(shown)
        assert shown.inner_text("#given-text").endswith("From blank.png. It has one tone.")
        shown.click("#language")
        check_nothing(shown)
        shown.evaluate("globalThis.createImageBitmap = async () => ({ width: 8001, height: 8000 })")
        shown.set_input_files("#file", tmp_path / "blank.png")
        shown.click("#language")
        shown.locator("#wrong", has_text="blank.png has more than 64 million pixels; make it smaller.").wait_for()


@pytest.mark.slow
def test_of_two_files_the_last_one_wins(digits: tuple[Model, Path], browse: Browse, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.eye(50, dtype=np.uint8) * 255).save(tmp_path / "one.png")
    data = list((tmp_path / "one.png").read_bytes())
    slow = """() => {
      const real = createImageBitmap, gates = (window.gates = []);
      globalThis.createImageBitmap = async (...all) => {
        await new Promise((open) => gates.push(open));
        return real(...all);
      };
    }"""
    with browse(digits[1]) as shown:
        shown.evaluate(slow)
        for name in ("first.png", "second.png"):
            shown.evaluate(DROP, [data, name])
        shown.evaluate("gates[1]()")
        shown.locator("#given-text", has_text="second.png").wait_for()
        shown.evaluate("gates[0]()")
        shown.evaluate(DROP, [data, "third.png"])
        shown.evaluate("gates[2]()")
        shown.locator("#given-text", has_text="third.png").wait_for()  # a file takes longer than the first one has left
        shown.evaluate(DROP, [data, "late.png"])
        shown.click("#samples button >> nth=3")
        shown.evaluate("gates[3]()")
        shown.wait_for_timeout(100)  # milliseconds
        assert "label 3" in shown.inner_text("#given-text")


def test_a_held_key_moves_on_and_is_shown_once(digits: tuple[Model, Path], browse: Browse) -> None:
    hold = """() => {
      let paints = 0;
      const over = Paint.over;
      Paint.over = (canvas, ...rest) => { paints += canvas.id === "reach"; over(canvas, ...rest); };
      const key = () => new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true });
      for (let i = 0; i < 9; i++) document.activeElement.dispatchEvent(key());
      return new Promise((done) => setTimeout(() => done(paints), 100));
    }"""
    with browse(digits[1]) as shown:
        choose(shown, 1, map=2, row=5, column=3)
        shown.click("#to-map")
        assert shown.evaluate(hold) == 1
        assert [shown.input_value(f"#at-{name}") for name in ("map", "row", "column")] == ["2", "5", "12"]
        choose(shown, 1, row=99, column=-3)
        assert [shown.input_value(f"#at-{name}") for name in ("row", "column")] == ["23", "0"]


def test_words_for_one_and_several(tmp_path: Path, browse: Browse) -> None:
    conv = Conv2d(1, 2, 3, rng=np.random.default_rng(0))
    conv.weight.value[...] = 0
    conv.weight.value[0, 0, 1, 1] = 1
    layers = conv, Flatten(), Linear(72, 2, rng=np.random.default_rng(0))
    path = small(tmp_path / "few.html", *layers, classes=["a", "b"])
    with browse(path) as shown:
        choose(shown, 0, map=0, row=1, column=1)
        frame = "Its window on the image is the frame of 3 x 3 pixels. "
        assert text(shown, "#reach-text") == frame + "One pixel changes it now."
        choose(shown, 0, map=1)
        assert text(shown, "#reach-text") == frame + "No pixel changes it now."
        choose(shown, 2)
        assert text(shown, "#reach-text").endswith("pixels. 36 pixels change it now.")
        shown.click("#language")
        assert text(shown, "#reach-text") == "它在图像上的窗口是框内的 8 x 8 个像素。此刻有 36 个像素会改变它。"
        assert shown.inner_text("#given-text").endswith("的数。样本的标签是 a。")


@pytest.mark.slow
def test_of_many_maps_no_button_is_cut(tmp_path: Path, browse: Browse) -> None:
    """24 wrap freely; more are in a box whose bar shows."""
    rng = np.random.default_rng(0)
    layers = Conv2d(1, 24, 3, rng=rng), Conv2d(24, 40, 3, rng=rng), Conv2d(40, 2, 3, rng=rng), Flatten()
    with browse(small(tmp_path / "maps.html", *layers, classes=[str(k) for k in range(8)])) as shown:
        fits = "(({ scrollHeight, clientHeight }) => scrollHeight <= clientHeight)(document.getElementById('chips'))"
        choose(shown, 1)
        assert (shown.locator(".chip").count(), shown.evaluate(fits)) == (24, True)
        choose(shown, 2)
        assert (shown.locator(".chip").count(), shown.evaluate(fits)) == (40, False)
        assert shown.evaluate("getComputedStyle(document.getElementById('chips')).overflowY") == "scroll"


@pytest.mark.slow
def test_the_parts_of_the_column_are_named_at_first_sight(digits: tuple[Model, Path], browse: Browse) -> None:
    with browse(digits[1]) as shown:
        links = shown.locator(".parts a")
        assert links.all_inner_texts() == ["One number", "Which pixels reach it", "Why this class"]
        for link, name in zip(links.all(), ("number", "reach", "why"), strict=True):
            assert link.bounding_box()["y"] < 800
            link.click()
            box = shown.locator(f"#{name}-title").bounding_box()
            assert shown.locator(".parts").bounding_box()["height"] <= box["y"] < 800 - box["height"]
            assert shown.evaluate("document.activeElement.id") == f"{name}-title"


def test_weights_are_counted_as_in_summary(tmp_path: Path, browse: Browse) -> None:
    network = models.lenet5_1998(rng=np.random.default_rng(0))
    model = Model(network, DIGITS, (1, 32, 32))
    explore(model, tmp_path / "old.html", samples=samples(DIGITS, (1, 32, 32)))
    sums = total(cost(network, (1, 32, 32)))
    assert (sums.parameters, sums.fixed) == (60_000, 840)
    with browse(tmp_path / "old.html") as shown:
        assert shown.inner_text("#about").endswith("· 60\u202f000 weights · 840 fixed numbers")
        tiny = shown.evaluate("[0, 1e-30, 0.0004].map(Words.percent)")
        assert set(tiny) == {"<\u00a00.1\u00a0%"}


def number_of(share: str) -> float:
    return 0.05 if share.startswith("<") else float(share.removesuffix("\u00a0%"))


# What is untrusted, and what is seen by all


@pytest.mark.promise("S6")
def test_hostile_class_names_are_shown_as_text(tmp_path: Path, browse: Browse) -> None:
    rng = np.random.default_rng(0)
    names = list(HOSTILE_NAMES)
    layers = [Flatten(), Linear(36, len(names), rng=rng)]
    model = Model(Sequential(*layers), names, (1, 6, 6), recipe={"name": names[0]})
    explore(model, tmp_path / "hostile.html")
    with browse(tmp_path / "hostile.html", size="phone") as shown:
        assert shown.inner_text("h1") == shown.evaluate("(name) => Words.visible(name)", names[0])
        options = shown.locator("#why-class option").all_text_contents()
        assert len(options) == len(names)
        for option, name in zip(options, names, strict=True):
            assert re.sub(r"\\u(\{\w+\}|\w{4})", "", option) == "".join(c for c in name if c.isprintable())
        elements = "document.querySelectorAll('img, iframe, svg, math, base, body script:not([src])').length"
        assert shown.evaluate(elements) == 1 + len(SCRIPTS)
        assert no_sideways(shown)


def test_accessible(digits: tuple[Model, Path], browse: Browse, accessibility: Judge) -> None:
    with browse(digits[1], size="phone", dark=True, language="zh-CN") as shown:
        assert accessibility(shown) == []


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_accessible_in_every_state(
    digits: tuple[Model, Path], browse: Browse, accessibility: Judge, language: str, dark: bool, size: str
) -> None:
    with browse(digits[1], size=size, dark=dark, language=language) as shown:
        assert accessibility(shown) == []
        for step in (1, 3, 8, 11):  # a convolution half done, a pool, a list, the scores
            choose(shown, step)
            shown.click("#forward") if shown.is_visible("#forward") else None
            assert accessibility(shown) == []
            assert no_sideways(shown)


@pytest.mark.slow
def test_the_page_follows_the_system(digits: tuple[Model, Path], browse: Browse) -> None:
    """Without motion nothing plays; when night falls the maps are painted anew, and on paper it is day."""
    picture = "document.querySelector('#layers canvas').toDataURL()"
    with browse(digits[1]) as shown:
        shown.emulate_media(reduced_motion="reduce")
        assert not shown.is_visible("#play")
        assert shown.is_visible("#forward")
        day = shown.evaluate(picture)
        shown.emulate_media(color_scheme="dark")
        settle(shown)
        assert shown.evaluate(picture) != day
        shown.emulate_media(media="print")
        settle(shown)
        assert shown.evaluate(picture) == day


@pytest.mark.slow
def test_photos_of_three_colours(tmp_path: Path, browse: Browse) -> None:
    from PIL import Image

    rng = np.random.default_rng(1)
    names = ["cat", "dog"]
    layers = [
        Conv2d(3, 4, 3, stride=2, padding=1, rng=rng),
        ReLU(),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(4, 2, rng=rng),
    ]
    transform = Pipeline([Pad(1), Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))])
    model = Model(Sequential(*layers), names, (3, 16, 16), transform=transform)
    explore(model, tmp_path / "none.html")
    with browse(tmp_path / "none.html", language="zh-CN") as shown:
        assert shown.inner_text("#given-text").endswith("的数。请选择一张图片。")
        assert not shown.is_visible("#given")
        check_nothing(shown)
        photo = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        shown.set_input_files("#file", tmp_path / "photo.png")
        shown.locator("#given-text", has_text="来自 photo.png。").wait_for()
        assert shown.is_visible("#given")
        assert not shown.inner_text("#to-text").endswith("其值为 0")  # the largest number of this image, not of nothing
    explore(model, tmp_path / "photos.html", samples=samples(names, (3, 16, 16)))
    with browse(tmp_path / "photos.html", size="phone") as shown:
        assert not shown.is_visible("#pad")
        assert shown.inner_text("#draw-title") == "The image"
        shown.evaluate(WATCH)
        shown.click("#samples button >> nth=1")
        check_answer(shown, model)
        choose(shown, 2, map=3, row=0, column=1)
        assert shown.locator(".chip").count() == 3
        choose(shown, 4)
        assert shown.locator(".list tbody tr").count() == 11  # 81 numbers are too many for a grid
        assert "71" in shown.inner_text(".list tbody tr:last-child")
        choose(shown, 2, map=3, row=0, column=1)
        assert "1 x 3 pixels" in text(shown, "#reach-text")  # the others of the window are padding, and padding
        assert no_sideways(shown)


@pytest.mark.slow
@pytest.mark.big
def test_resnet20_begins_folded_up(tmp_path: Path, browse: Browse, accessibility: Judge) -> None:
    model = Model(models.resnet20(rng=np.random.default_rng(0)), DIGITS, (3, 32, 32))
    explore(model, tmp_path / "resnet20.html", samples=samples(DIGITS, (3, 32, 32)))
    with browse(tmp_path / "resnet20.html", size="phone") as shown:
        steps = shown.locator("#at-step option").count()
        assert shown.locator("#layers details[open]").count() < 6 < steps
        shown.evaluate(WATCH)
        shown.click("#samples button >> nth=4")
        check_answer(shown, model)
        sums = [i for i in range(steps) if "Residual" in shown.locator("#at-step option").nth(i).inner_text()]
        choose(shown, sums[0])
        assert shown.locator(".list tbody tr").count() == 2
        choose(shown, sums[-1])
        assert "32 x 32 pixels" in text(shown, "#reach-text")
        shortcut = next(i for i in range(steps) if "ZeroPad" in shown.locator("#at-step option").nth(i).inner_text())
        choose(shown, shortcut, map=31, row=3, column=3)
        assert "padding" in shown.inner_text("#sentence")
        assert "map" not in shown.inner_text("#from-text")
        choose(shown, shortcut, map=0, row=3, column=2)
        assert "map 0 of 16" in shown.inner_text("#from-text")
        shown.click("#open-all")
        assert shown.locator("#layers details[open]").count() == steps
        assert no_sideways(shown)
        assert accessibility(shown) == []


@pytest.mark.slow
@pytest.mark.big
def test_a_trained_network_reads_what_is_drawn(digits_run: Path, tmp_path: Path, browse: Browse) -> None:
    model = load(digits_run)
    explore(model, tmp_path / "digits.html")
    with browse(tmp_path / "digits.html") as shown:
        assert says(shown) == "2"  # the stroke that is there at the start
        shown.click("#clear")
        stroke(shown, (0.5, 0.15), (0.5, 0.85))
        assert says(shown) == "1"
        shown.click("#clear")
        circle = [(0.5 + 0.22 * np.sin(a), 0.5 - 0.33 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 16)]
        stroke(shown, *circle)
        assert says(shown) == "0"


def test_the_page_is_small_and_holds_no_address(digits: tuple[Model, Path]) -> None:
    html = digits[1].read_text("utf-8")
    assert len(html) < 600_000
    assert "http" not in html.replace("http-equiv", "")
    assert "innerHTML" not in html
    assert json.loads(html.partition('id="data">')[2].partition("</script>")[0])["classes"] == DIGITS
