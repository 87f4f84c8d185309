"""What several test files share: memory orders, the measure of an error, workers, hostile names, the command line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from stridenet import layout
from stridenet.communicator import Communicator
from stridenet.layout import Array
from stridenet.train.trainer import Callback, Trainer


def _sliced(x: Array) -> Array:
    """Every second element of an array full of NaN: who reads a wrong one shows it."""
    room = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype)
    view = room[tuple(slice(1, None, 2) for _ in x.shape)]
    view[...] = x
    return view


# Copies of x, equal to it, in a memory order of their own.
LAYOUTS = {
    "batch-inner": lambda x: layout.outer(np.moveaxis(x, 0, -1).copy()),
    "c-order": lambda x: x.copy(order="C"),
    "fortran": lambda x: x.copy(order="F"),
    "reversed": lambda x: np.flip(np.flip(x).copy()),
    "sliced": _sliced,
}

# The command line, as a program for `python -c`.
MAIN = "from stridenet.cli import main; main()"

# The same without the four pictures, which take longer than a small training.
MAIN_WITHOUT_PICTURES = f"from stridenet import experiment\nexperiment.Run._pictures = lambda *a: None\n{MAIN}"

# Forty class names that a model file or a folder may hold. Each has a character that no page may show as it is, <, >, &
# or ", or one that does not print: so that none of them may stand in a page as it stands here.
HOSTILE_NAMES = (
    "<script>alert(1)</script>",
    "<SCRIPT SRC='https://evil.example/x.js'></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<meta http-equiv='refresh' content='0;url=https://evil.example'>",
    "<base href='https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<style>*{display:none}</style>",
    "</script><script>alert(1)</script>",
    "</style></title></textarea></template></noscript><b>out</b>",
    "</select></option></button></svg></table>",
    "<!--<script>",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)' x=\"",
    "x\"');alert(1);//",
    'x\\");alert(1);//',
    "&lt;script&gt;alert(2)&lt;/script&gt;",
    "&#60;b&#62;&NotAnEntity;&amp;amp;",
    'javascript:alert("1")',
    "JaVaScRiPt:alert(1)//<b>",
    "${alert(`<1>`)}",
    '{{constructor.constructor("alert(1)")()}}',
    "{% include '<x>' %} {0!r} %s %n $1 \\1 &",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "\x00nul\x00",
    "two\nlines\r\nand a\ttab",
    "\u202etxt.exe\u202c \u2066isolated\u2069 \ufeff",
    "\u2028line\u2029paragraph\u200bnothing",
    "\udc80\ud800 lone surrogates \udfff",  # a path that is no UTF-8 has them
    "汉字<类别>“引号”&",
    "<b>" + "long " * 2000,
)


class StopAt(Callback):
    """Stops a training after step `step`, counted from 1."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.optimizer.t == self.step:
            trainer.stop()


def normwise(found: Array, wanted: Array) -> float:
    """max |found - wanted| / max |wanted|; the plain maximum where all wanted are zero."""
    assert found.shape == wanted.shape
    scale = float(np.max(np.abs(wanted), initial=0.0))
    return float(np.max(np.abs(found - wanted), initial=0.0)) / (scale or 1.0)


class Together(Communicator):
    """One of several threads; a barrier before and behind each exchange."""

    def __init__(self, rank: int, vectors: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self.vectors, self.barrier = rank, len(vectors), vectors, barrier

    def mean(self, vector: Array) -> None:
        self.vectors[self.rank] = vector.copy()
        self.barrier.wait(30)
        total = sum(self.vectors) / self.size
        self.barrier.wait(30)
        vector[...] = total


def together(size: int, work: Callable[[Communicator], Any]) -> list[Any]:
    """What `work` gives, or raises, in each of `size` threads."""
    vectors, barrier, results = [None] * size, threading.Barrier(size), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(Together(rank, vectors, barrier))
        except Exception as error:  # noqa: BLE001
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def drawn(rng: np.random.Generator, size: tuple[int, int], ink: int, paper: int) -> np.ndarray:
    """A thick bent line, off the centre, on paper that is a little uneven."""
    plane = paper + rng.normal(0, 2, size) + np.linspace(0, 12, size[1])
    for t in np.linspace(0, 1, 60):
        i, j = int(size[0] * (0.2 + 0.6 * t)), int(size[1] * (0.3 + 0.3 * t * t))
        plane[i : i + size[0] // 12 + 1, j : j + size[1] // 12 + 1] = ink
    return np.clip(plane, 0, 255).astype(np.uint8)
