"""`stridenet doctor`, and what `stridenet train` says of findings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stridenet import cli
from stridenet.errors import DownloadError
from stridenet.model import Model
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential
from stridenet.train.findings import KINDS
from stridenet.zoo import recipes

MNIST = [name for name in recipes.names() if recipes.load(name)["data"]["name"] == "mnist"]
CIFAR10 = [name for name in recipes.names() if recipes.load(name)["data"]["name"] == "cifar10"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def change(path: Path, old: str, new: str) -> str:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return str(path)


def test_silence_has_figures(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", str(recipe_file)]) == 0
    *lines, empty, last = capsys.readouterr().out.splitlines()
    assert [line[:14].strip() for line in lines] == [
        *("first loss", "start values", "gradients", "two rounds", "a step", "moved", "step size", "dead ReLUs"),
        *("tied pools", "overfit", "statistics", "validation", "repeated"),
    ]
    assert empty == ""
    assert last == f"{recipe_file}: nothing to report"
    assert max(map(len, lines)) <= 120


def test_a_finding_is_printed_and_fails(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = change(recipe_file, "validation = 128", "validation = 4")
    assert cli.run(["doctor", path]) == 1
    out = capsys.readouterr().out
    assert out.endswith(
        f"""

small-validation
  what   An accuracy on 4 images is known to 35 points either way.
  where  validation images
  why    {KINDS["small-validation"].why}
  do     {KINDS["small-validation"].do}

{recipe_file}: 1 finding to report
"""
    )


def test_an_expected_finding_is_named_and_does_not_fail(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(recipe_file, "validation = 128", "validation = 4")
    path = change(recipe_file, "train = ", 'notes = { expected_findings = ["small-validation"] }\ntrain = ')
    assert cli.run(["doctor", path]) == 0
    *_, expected, _, last = capsys.readouterr().out.splitlines()
    assert expected.startswith("expected      small-validation in validation images: an accuracy on 4 images is")
    assert last == f"{path}: nothing that was not expected"


def test_json(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = change(recipe_file, "validation = 128", "validation = 4")
    assert cli.run(["doctor", path, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["source"] == path
    assert {"name", "figure"} == report["checks"][0].keys()
    (finding,) = report["findings"]
    assert (finding["code"], finding["where"]) == ("small-validation", "validation images")
    assert finding["why"] == KINDS["small-validation"].why
    assert report["expected"] == []


def test_other_data(recipe_file: Path, small_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = change(recipe_file, str(small_data), "there-is-none")
    assert cli.run(["doctor", path]) == 1
    assert "there-is-none" in capsys.readouterr().err
    assert cli.run(["doctor", path, "--data", str(small_data)]) == 0


def test_a_model(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", str(digits_run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:14].strip() for line in lines[:-2]] == ["finite", "gradients", "dead ReLUs", "tied pools", "history"]


def test_a_run_whose_history_shows_what_went_wrong(
    recipe_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of nothing: no gradient and no unit is wrong with it."""
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *given: None)
    assert cli.run(["train", str(recipe_file), "--out", "slow", "--lr", "1e-9"]) == 0
    said = capsys.readouterr().out
    assert said.count("finding  update-ratio in training: steps are only ") == 1
    assert cli.run(["doctor", "slow"]) == 1
    out = capsys.readouterr().out
    assert "slow: 1 finding to report" in out
    assert "  do     Raise lr.\n" in out
    path = change(recipe_file, "train = ", 'notes = { expected_findings = ["update-ratio"] }\ntrain = ')
    assert cli.run(["train", path, "--out", "meant", "--lr", "1e-9", "--quiet"]) == 0
    assert cli.run(["doctor", "meant"]) == 0
    assert "expected      update-ratio in training: steps are only " in capsys.readouterr().out
    (Path("meant") / "history.jsonl").write_text('{"epoch": 3}\n')
    assert cli.run(["doctor", "meant"]) == 1
    assert "expected the row of epoch 0" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [1e4, 1e12])
def test_a_model_of_large_weights_has_right_gradients(
    scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Sequential(Flatten(), Linear(256, 4, rng=np.random.default_rng(0)), input_shape=(1, 16, 16))
    network.layers[1].weight.value *= scale
    Model(network, "abcd", (1, 16, 16)).save(tmp_path / "model.safetensors")
    assert cli.run(["doctor", "model.safetensors"]) == 0
    said = "; not measured in layer 1 Linear (bias): too large weights, or a forward that jumps"
    assert (said in capsys.readouterr().out) is (scale > 1e4)


@pytest.mark.parametrize(("name", "size"), [("cifar10", "170 MB"), ("mnist", "11 MB")])
def test_a_download_is_said(
    name: str, size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise DownloadError("no network")

    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path))
    monkeypatch.setattr("stridenet.data.fetch.is_cached", lambda *given: False)
    monkeypatch.setattr(f"stridenet.data.fetch.fetch_{name}", refuse)
    recipe = {"cifar10": "s4-cifar10", "mnist": "lenet5-mnist"}[name]
    assert cli.run(["doctor", recipe]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    said, error = [line for line in err.splitlines() if "kernels" not in line and "compiled" not in line]
    assert said.startswith(f"data {name} is not here: ")
    assert said.endswith(f"downloaded once, {size}")
    assert error == "stridenet: no network"


@pytest.mark.parametrize("recipe", [{}, {"data": {"name": "there-is-none"}}, {"data": 3, "train": []}])
def test_a_model_without_its_data(
    recipe: dict[str, object], small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Sequential(Flatten(), Linear(256, 4, rng=np.random.default_rng(0)), input_shape=(1, 16, 16))
    Model(network, "abcd", (1, 16, 16), recipe=recipe).save(tmp_path / "model.safetensors")
    assert cli.run(["doctor", "model.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert [line[:14].strip() for line in out.splitlines()[:-2]] == ["finite", "gradients"]
    assert (err == "no images: there-is-none is not here; give --data for dead ReLUs and tied pools\n") is (
        recipe.get("data") == {"name": "there-is-none"}
    )
    assert cli.run(["doctor", "model.safetensors", "--data", str(small_data)]) == 0
    assert "dead ReLUs    no such layer" in capsys.readouterr().out
    assert cli.run(["doctor", "model.safetensors", "--data", "nor-here"]) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lenet5-minst", "did you mean 'lenet5-mnist'?"),
        ("nowhere/model", "`stridenet recipes` lists the recipes"),
        ("", "expected a recipe or a path"),
        ("model.onnx", "expected a model of stridenet, which has gradients"),
    ],
)
def test_what_it_refuses(source: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert cli.run(["doctor", source]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_recipe_that_expects_what_there_is_not(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = change(recipe_file, "train = ", 'notes = { expected_findings = ["platou"] }\ntrain = ')
    assert cli.run(["doctor", path]) == 2
    assert "recipe.notes.expected_findings[0]: expected one of initial-loss," in capsys.readouterr().err


# Training


def test_a_training_says_its_findings(
    recipe_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *given: None)
    assert cli.run(["train", str(recipe_file), "--out", "fine", "--epochs", "1"]) == 0
    assert "finding" not in capsys.readouterr().out
    path = change(recipe_file, "validation = 128", "validation = 4")
    assert cli.run(["train", path, "--out", "few", "--epochs", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finding")]
    (line,) = lines
    assert line.startswith(
        "finding  small-validation in validation images: an accuracy on 4 images is known to 35 points"
    )
    change(recipe_file, "train = ", 'notes = { expected_findings = ["small-validation"] }\ntrain = ')
    assert cli.run(["train", path, "--out", "expected", "--epochs", "1"]) == 0
    assert "finding" not in capsys.readouterr().out


# The recipes that come along


def silent(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    assert cli.run(["doctor", "--json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


@pytest.mark.big
def test_the_digits_are_fine(capsys: pytest.CaptureFixture[str]) -> None:
    silent(capsys, "lenet5-digits")


@pytest.mark.slow
@pytest.mark.big
@pytest.mark.parametrize("name", MNIST)
def test_the_recipes_of_mnist_are_fine(name: str, mnist_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent(capsys, name, "--data", str(mnist_folder))


@pytest.mark.slow
@pytest.mark.big
@pytest.mark.parametrize("name", CIFAR10)
def test_the_recipes_of_cifar10_are_fine(name: str, cifar10_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent(capsys, name, "--data", str(cifar10_folder))


@pytest.mark.slow
@pytest.mark.big
def test_a_whole_training_on_digits_has_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "lenet5-digits"]) == 0
    assert "finding" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.big
def test_what_is_expected_of_a_recipe_is_found(mnist_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "s2-pynet", "--data", str(mnist_folder), "--json"]) == 0
    found = {finding["code"] for finding in json.loads(capsys.readouterr().out)["expected"]}
    assert found == set(recipes.load("s2-pynet")["notes"]["expected_findings"])
