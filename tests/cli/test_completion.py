from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from stridenet import cli
from stridenet.zoo import recipes


def completed(*words: str) -> list[str]:
    """What Tab offers after `stridenet WORDS`, the last of which is begun."""
    complete = BashComplete(cli.cli, {}, "stridenet", "_STRIDENET_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("tr",), ["train"]),
        (("train", "lenet5-d"), ["lenet5-digits"]),
        (("train", ""), recipes.names()),
        (("train", "--data", "mn"), ["mnist"]),
        (("train", "--time"), ["--time-budget"]),
        (("train", "--kernels", ""), ["auto", "loops", "im2col", "batchlast"]),
        (("train", "--kernels", "im"), ["im2col"]),
        (("evaluate", "run", "--data", "d"), ["digits"]),
        (("recipes", "--show", "lenet5-m"), ["lenet5-mnist"]),
        (("summary", "lenet5-m"), ["lenet5-mnist"]),
        (("export", "run", "--format", ""), ["onnx", "python", "safetensors"]),
        (("data", "ver"), ["verify"]),
        (("data", "fetch", ""), ["mnist", "cifar10"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
    ],
)
def test_what_is_offered(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_where_there_is_no_name_files_and_folders_are_offered() -> None:
    complete = BashComplete(cli.cli, {}, "stridenet", "_STRIDENET_COMPLETE")
    for words, kind in ((["train"], "file"), (["train", "--data"], "dir"), (["evaluate"], "file")):
        assert [item.type for item in complete.get_completions(words, "./my")] == [kind]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_the_shell(shell: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run(["completion", shell]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert f"_STRIDENET_COMPLETE={shell}_complete" in out
    program = shutil.which(shell)
    if program:
        (tmp_path / "script").write_text(out)
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True, timeout=30)


def test_the_script_is_answered(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_STRIDENET_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "stridenet pre")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as ended:
        cli.run([])
    assert (ended.value.code, capfd.readouterr()) == (0, ("plain,predict\n", ""))
