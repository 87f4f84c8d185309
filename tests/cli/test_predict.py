from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Child
from helpers import MAIN
from stridenet import cli
from stridenet.data.catalogue import open_data
from stridenet.model import Model, load
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential
from stridenet.viz.terminal import card

Captured = pytest.CaptureFixture[str]

LINE = re.compile(r"(?P<path>\S+)\s+(?P<name>\S+)  (?P<share>\d+\.\d) %|%")


def predicted(out: str) -> list[str]:
    """The class of each line."""
    return [re.split(r"\s{2,}", line)[1] for line in out.splitlines()]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, digits_run: Path) -> dict[str, list[Path]]:
    """Twelve test digits that the model knows, as large pictures in every format, light on dark and dark on light."""
    folder, test, model = tmp_path_factory.mktemp("pictures"), open_data("digits").test, load(digits_run)
    sure = np.flatnonzero(model.predict_proba(test.images).max(axis=1) > 0.97)
    right = sure[model.predict(test.images[sure]) == test.targets[sure]]
    chosen = [right[test.targets[right] == k][0] for k in range(10) if (test.targets[right] == k).any()]
    found: dict[str, list[Path]] = {}
    for suffix in ("png", "jpg", "bmp", "ppm"):
        for polarity in ("normal", "inverted"):
            for index in chosen:
                pixels = np.pad(test.images[index, 0], 2)
                image = Image.fromarray(255 - pixels if polarity == "inverted" else pixels)
                path = folder / f"{polarity}-{test.targets[index]}.{suffix}"
                image.resize((240, 240), Image.Resampling.BICUBIC).convert("RGB").save(path)
                found.setdefault(f"{polarity} {suffix}", []).append(path)
    return found


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "ppm"])
def test_size_format_and_polarity_do_not_matter(
    suffix: str, digits_run: Path, pictures: dict[str, list[Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    classes = []
    for polarity in ("normal", "inverted"):
        paths = pictures[f"{polarity} {suffix}"]
        assert len(paths) >= 7
        assert cli.run(["predict", str(digits_run), *map(str, paths)]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        classes.append(predicted(out))
        wanted = [path.stem.partition("-")[2] for path in paths]
        assert sum(a == b for a, b in zip(classes[-1], wanted, strict=True)) >= len(paths) - 2
    assert classes[0] == classes[1]


def test_a_line_holds_path_class_probability_and_the_second(
    digits_run: Path, pictures: dict[str, list[Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    path = pictures["normal png"][0]
    assert cli.run(["predict", str(digits_run), str(path)]) == 0
    model = load(digits_run)
    (probabilities,) = model.predict_proba(model.read(path))
    first, second = np.argsort(probabilities)[::-1][:2]
    line = f"{path}  {first}  {probabilities[first]:.1%}   (then {second}, {probabilities[second]:.1%})\n"
    assert capfd.readouterr().out == line


def test_the_image_and_a_bar_for_each_class_on_a_terminal(
    digits_run: Path, pictures: dict[str, list[Path]], tmp_path: Path, stridenet_child: Child, capfd: Captured
) -> None:
    path = pictures["normal png"][0]
    Image.new("L", (20, 20), 7).save(tmp_path / "blank.png")
    assert cli.run(["predict", str(digits_run), str(path), str(tmp_path / "blank.png"), "--show"]) == 0
    out = capfd.readouterr().out
    model = load(digits_run)
    (probabilities,) = model.predict_proba(model.read(path))
    shown = card(model.read(path)[0], model.classes, list(probabilities))
    first, *picture, last = out.splitlines()
    assert "\n".join(picture) == shown
    assert "(then" in first
    assert "nothing to recognise" in last
    ascii_only = stridenet_child("predict", digits_run, path, "--show", PYTHONIOENCODING="ascii")
    assert ascii_only.stdout.isascii()
    assert "####" in ascii_only.stdout
    assert "\\u" not in ascii_only.stdout


def test_a_terminal_gets_the_picture_unasked(digits_run: Path, pictures: dict[str, list[Path]]) -> None:
    ours, terminal = os.openpty()
    command = [sys.executable, "-c", MAIN, "predict", digits_run, pictures["normal png"][0]]
    with os.fdopen(ours, "rb", buffering=0) as screen:
        subprocess.run(
            command, stdout=terminal, env=os.environ | {"PYTHONIOENCODING": "utf-8"}, check=True, timeout=300
        )
        os.close(terminal)
        assert "█" in screen.read(100_000).decode()


def test_the_pictures_beside_a_broken_one_are_answered(
    digits_run: Path, pictures: dict[str, list[Path]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "letter.png"
    text.write_text("Dear model,\n")
    paths = [*pictures["normal png"][:2], text, pictures["normal png"][2]]
    assert cli.run(["predict", str(digits_run), *map(str, paths)]) == 1
    out, err = capfd.readouterr()
    assert out.count("\n") == 3
    assert err.count("\n") == 1
    assert "letter.png: expected a PNG, JPEG, BMP or PPM picture" in err


def test_the_same_as_one_json_document(
    digits_run: Path, pictures: dict[str, list[Path]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (20, 20), 7).save(tmp_path / "blank.png")
    (tmp_path / "letter.png").write_text("Dear model,\n")
    paths = [pictures["normal png"][0], tmp_path / "blank.png", tmp_path / "letter.png"]
    assert cli.run(["predict", str(digits_run), *map(str, paths), "--json"]) == 1
    out, err = capfd.readouterr()
    assert (out.count("\n"), err.count("\n")) == (1, 1)
    found = json.loads(out)
    assert found["classes"] == list("0123456789")
    assert [image["path"] for image in found["images"]] == list(map(str, paths))
    known, blank, broken = found["images"]
    model = load(digits_run)
    (probabilities,) = model.predict_proba(model.read(paths[0]))
    assert known.keys() == {"path", "class", "probability", "then", "probabilities"}
    assert known["probabilities"] == probabilities.tolist()
    assert known["class"] == str(probabilities.argmax())
    assert known["probability"] == probabilities.max()
    assert known["then"] == {"class": str(np.argsort(probabilities)[-2]), "probability": np.sort(probabilities)[-2]}
    assert blank.keys() == {"path", "nothing"}
    assert broken.keys() == {"path", "error"}
    assert "stridenet: " + broken["error"] + "\n" == err


@pytest.mark.promise("F06")
def test_class_and_file_names_are_escaped_and_one_class_is_enough(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = Sequential(Flatten(), Linear(64, 1, rng=np.random.default_rng(0)), input_shape=(1, 8, 8))
    Model(network, ("<script>\x1b[31m\n",), (1, 8, 8)).save(tmp_path / "model")
    path = tmp_path / "a\x1b[2J\n.png"
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(path)
    assert cli.run(["predict", str(tmp_path / "model"), str(path)]) == 0
    out = capfd.readouterr().out
    assert out.endswith("a\\x1b[2J\\n.png  <script>\\x1b[31m\\n  100.0%\n")
    assert out.count("\n") == 1


def test_colour_pictures_for_a_model_of_three_channels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for channels, code in ((3, 0), (2, 2)):
        network = Sequential(Flatten(), Linear(64 * channels, 2, rng=rng), input_shape=(channels, 8, 8))
        Model(network, ("a", "b"), (channels, 8, 8)).save(tmp_path / "model")
        Image.fromarray(rng.integers(0, 256, (30, 20, 3)).astype(np.uint8)).save(tmp_path / "p.png")
        assert cli.run(["predict", str(tmp_path / "model"), str(tmp_path / "p.png")]) == code
        out, err = capfd.readouterr()
        assert (out.count("\n"), err.count("\n")) == ((1, 0) if code == 0 else (0, 1))
    assert "expected a model of 1 or 3 channels, got 2" in err
