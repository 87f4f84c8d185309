from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from stridenet import cli


@pytest.fixture
def run(digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder `run` below the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stridenet.viz.insides.SECONDS", 0.001)
    shutil.copytree(digits_run, "run", ignore=shutil.ignore_patterns("checkpoints"))
    return Path("run")


def said(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_report_is_put_into_the_run_and_made_anew(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    page = run / "report.html"
    page.write_text("old")
    assert cli.run(["report", str(run), "--image", "3"]) == 0
    assert re.fullmatch(r"run/report\.html  \d+ kB; open it in a browser\n", capfd.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path != page} == before
    assert "Test image 3, " in page.read_text("utf-8")


def test_no_other_file_is_replaced_unasked(
    run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stridenet.viz.report.page_about", lambda runs, image: f"{[str(run.folder) for run in runs]}")
    shutil.copytree(run, "other")
    Path("report.html").write_text("mine")
    for arguments in ([str(run), "other"], [str(run), "--out", "report.html"]):
        assert cli.run(["report", *arguments]) == 1
        assert said(capfd) == "stridenet: report.html: expected a path that is not there yet; --force replaces it\n"
    assert Path("report.html").read_text() == "mine"
    assert cli.run(["report", str(run), "--out", "report.html", "--force", "--data", "digits"]) == 0
    assert Path("report.html").read_text("utf-8") == "['run']"
    assert not (run / "report.html").exists()
    assert cli.run(["report", str(run), str(run.resolve())]) == 0  # the same run
    assert (run / "report.html").read_text("utf-8") == "['run']"


def test_what_is_not_in_the_page_is_said(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run / "recipe.json").write_text((run / "recipe.json").read_text().replace('"digits"', '"nowhere"'))
    assert cli.run(["report", str(run)]) == 0
    written, why = capfd.readouterr().out.splitlines()
    assert written.endswith("kB; open it in a browser")
    assert why.startswith("The test images are not here: data nowhere: expected a folder or one of")
    assert why.endswith("With --data the report finds them elsewhere.")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none"], 1, "none: no such file or folder; check the path"),
        (
            ["run/model.safetensors"],
            1,
            "run/model.safetensors: expected a run folder with recipe.json, got a file; give run",
        ),
        (["."], 1, ".: expected a run folder with recipe.json, got a folder of runs; give one or more of run\n"),
        (["run", "--image", "359"], 2, "report: expected an image below the 359 of the test set, got 359"),
        (["run", "--image", "-1"], 2, "'--image': -1 is not in the range x>=0"),
        (["run", "--out", "model.safetensors"], 2, "report: expected --out with the suffix .html"),
        (["run", "--data", "nowhere"], 1, "data nowhere: expected a folder or one of mnist, cifar10, digits"),
        ([], 2, "Missing argument 'RUN...'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    arguments: list[str], code: int, words: str, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["report", *arguments]) == code
    assert words in said(capfd)
    assert not list(Path().glob("*.html"))


def test_a_damaged_run_is_said_in_a_line(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run / "history.jsonl").write_text("{\n")
    assert cli.run(["report", str(run)]) == 1
    assert "run/history.jsonl: line 1: expected strict JSON, got: " in said(capfd)
    assert not (run / "report.html").exists()
