from __future__ import annotations

import json
from pathlib import Path

import pytest

from stridenet import cli
from stridenet.zoo import recipes


def test_the_recipes_are_listed_with_their_titles(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["recipes"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert lines == [[name, recipes.load(name)["about"]["title"]] for name in recipes.names()]


@pytest.mark.parametrize("name", recipes.names())
def test_a_shown_recipe_is_a_beginning_of_ones_own(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["recipes", "--show", name]) == 0
    path = tmp_path / f"{name}.toml"
    path.write_text(capfd.readouterr().out, "utf-8")
    assert recipes.load(str(path)) == recipes.load(name)
    assert path.read_text("utf-8") == recipes.source(name)
    assert path.read_text("utf-8").startswith("#")  # comments come along


def test_json_documents(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["recipes", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert [entry["name"] for entry in listed] == recipes.names()
    assert all(entry.keys() == {"name", "title"} for entry in listed)
    assert cli.run(["recipes", "--show", "lenet5-mnist", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == recipes.load("lenet5-mnist")


def test_a_file_of_ones_own_is_shown_with_its_defaults(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(recipe_file.parent)
    assert cli.run(["recipes", "--show", "small.toml", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == recipes.load("small.toml")
    assert cli.run(["recipes", "--show", "small.toml"]) == 2
    message = "stridenet: recipes --show: expected a name, got the file 'small.toml'; add --json\n"
    assert capfd.readouterr() == ("", message)
