"""What all tests share: strict arithmetic, and the folders of real data."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import MAIN
from stridenet import kernels
from stridenet.data import fetch


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
    """No division by zero, no overflow and no invalid operation passes unseen."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets: STRIDENET_DATA, or shared/data beside the clone."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return _needed(Path(os.environ.get("STRIDENET_DATA") or beside))


@pytest.fixture(scope="session")
def mnist_folder(data_folder: Path) -> Path:
    """The folder of the four MNIST files."""
    return _needed(data_folder / "mnist")


@pytest.fixture(scope="session")
def cifar10_folder(data_folder: Path) -> Path:
    """The folder of the CIFAR-10 batches: beside the other data, else in the cache, which is filled once."""
    beside, tool = data_folder / "cifar-10-batches-py", data_folder.parent / "tools" / "make_cifar10.py"
    cached = fetch.cache_folder("tests") / "cifar-10-batches-py"
    if beside.is_dir() or cached.is_dir() or not tool.is_file():
        return _needed(beside if beside.is_dir() else cached)
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        subprocess.run([sys.executable, tool, folder], check=True, timeout=300)
        with contextlib.suppress(OSError):  # another process was faster
            (Path(folder) / cached.name).rename(cached)
    return cached


def _needed(folder: Path) -> Path:
    if not folder.is_dir():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"no folder {folder}; set STRIDENET_DATA to the folder of data sets")
    return folder


def pytest_collection_finish() -> None:
    """The garbage collector need not look through ten thousand tests, whenever one asks for it."""
    gc.collect()
    gc.freeze()


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """One line with the promises that the collected tests prove, one with the kernels that they run on."""
    promises = {name for item in items for mark in item.iter_markers("promise") for name in mark.args}
    chosen = config.getoption("--kernels") or kernels.resolve()
    if chosen == "loops":
        chosen += f", im2col for {sum(item.get_closest_marker('big') is not None for item in items)} big tests"
    return [f"promises: {' '.join(sorted(promises)) or 'none'}", f"kernels: {chosen}"]


# --kernels: what all tests run on that do not name their kernels

TRAINED = {"digits_run", "recipe_file", "small_data"}  # what stands on these trains or judges hundreds of images


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", choices=kernels.NAMES, help="for tests that name none, and for their children")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        promises = sorted({name for mark in item.iter_markers("promise") for name in mark.args})
        item.user_properties += [("promise", name) for name in promises]  # benchmarks/promises.py counts them
        if TRAINED & set(getattr(item, "fixturenames", ())):
            item.add_marker("big")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What "auto" stands for, here and in the test's children."""
    if name := item.config.getoption("--kernels"):
        kernels._AUTO = "im2col" if name == "loops" and item.get_closest_marker("big") else name
        os.environ["STRIDENET_KERNELS"] = kernels._AUTO


# A small world: a data set, a recipe, a trained run, and children that use them


def write_idx(path: Path, array: np.ndarray) -> None:
    """`array` of bytes as an IDX file."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four IDX files: 512 and 99 images 16 x 16 of four classes, light figures on black, noisy."""
    folder, rng = tmp_path_factory.mktemp("idx"), np.random.default_rng(0)
    figures = np.zeros((4, 16, 16))
    figures[0, 4:12, 7:9] = figures[1, 7:9, 4:12] = 200  # a line down, a line across
    figures[2, 4:12, 4:12] = 200
    figures[3, 4:12, 4:12] = 200 * np.eye(8)
    for name, count in (("train", 512), ("t10k", 99)):
        labels = rng.integers(0, 4, count)
        labels[:4] = range(4)
        images = figures[labels] + rng.integers(0, 55, (count, 16, 16)) * (figures[labels] > 0)
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture
def recipe_file(tmp_path: Path, small_data: Path) -> Path:
    """small.toml: three epochs of a small LeNet-5 on the images of `small_data`, four steps each."""
    path = tmp_path / "small.toml"
    path.write_text(f"""
model = {{ name = "lenet5", args = {{ classes = 4, input_size = 16 }} }}
data = {{ name = "{small_data}", validation = 128, augment = [{{ name = "random_shift", pixels = 1 }}] }}
optimizer = {{ name = "sgd", lr = 0.02, momentum = 0.9 }}
schedule = {{ name = "one_cycle" }}
train = {{ epochs = 3, batch_size = 96 }}
""")
    return path


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of lenet5-digits after six epochs: a model that knows most digits."""
    from stridenet import cli

    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert cli.run(["train", "lenet5-digits", "--epochs", "6", "--out", str(folder)]) == 0
    return folder


Child = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """child(code, *arguments, **environment): the code in another Python in tmp_path; None removes a variable."""

    def run(code: str, *arguments: object, **environment: str | None) -> subprocess.CompletedProcess[str]:
        merged = {name: text for name, text in (os.environ | environment).items() if text is not None}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=merged, capture_output=True, text=True, timeout=300, errors="replace"
        )

    return run


@pytest.fixture
def stridenet_child(child: Child) -> Child:
    """stridenet_child(*arguments, **environment): the command line in another process, in tmp_path."""
    return functools.partial(child, MAIN)


# Pages in a browser: Debian's Chromium, driven by Playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SIZES = {"desk": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium; the reason where there is none."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no browser; install Debian's package chromium and Python's playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


Browse = Callable[..., "contextlib.AbstractContextManager[Any]"]


@pytest.fixture
def browse(chromium: Any) -> Browse:
    """browse(path, size="desk", dark=False, language="en"): the page in the browser, as Playwright's Page.

    At its end nothing was said on the console that is an error or a warning, and no request has left the page.
    """

    @contextlib.contextmanager
    def browse(path: Path, *, size: str = "desk", dark: bool = False, language: str = "en-GB") -> Iterator[Any]:
        width, height = SIZES[size]
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale=language,
            has_touch=size == "phone",
        )
        page, wrong = context.new_page(), []
        page.set_default_timeout(20_000)  # milliseconds
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        own = path.resolve().as_uri()
        page.on("request", lambda request: request.url.startswith((own, "data:", "blob:")) or wrong.append(request.url))
        page.goto(own)
        yield page
        context.close()
        assert wrong == []

    return browse


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The script of axe-core, which judges a page's accessibility: AXE names the file."""
    path = Path(os.environ.get("AXE", Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"))
    if not path.is_file():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no axe-core; `npm install axe-core` somewhere, and let AXE name its axe.min.js")
    return path.read_text("utf-8")


@pytest.fixture
def accessibility(axe_source: str) -> Callable[[Any], list[str]]:
    """accessibility(page): what axe-core finds serious or critical, a line each."""

    def judge(page: Any) -> list[str]:
        page.evaluate(axe_source)  # runs outside the page's policy
        found = page.evaluate("axe.run().then((result) => result.violations)")
        return [
            f"{rule['id']}: {rule['help']}: {[node['html'][:160] for node in rule['nodes'][:4]]}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]

    return judge
