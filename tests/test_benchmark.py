"""What is timed and how it is reckoned; never how long it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet import benchmark, kernels
from stridenet.benchmark import Timing
from stridenet.errors import ConfigError, ShapeError
from stridenet.nn.layers import Conv2d

pytestmark = pytest.mark.big

BRIEF = 1e-6  # seconds: three rounds


class Clock:
    """A clock that only calls move on, each by its next duration; and the order of the calls."""

    def __init__(self, **durations: list[float]) -> None:
        self.now, self.order = 0.0, ""
        self.calls = {name: self.call(name, iter(values)) for name, values in durations.items()}

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, durations: Any) -> Any:
        def run() -> None:
            self.now += next(durations)
            self.order += name

        return run


def test_medians_of_calls_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(a=[9, 1, 2, 30], b=[9, 4, 4, 5])
    monkeypatch.setattr(benchmark, "time", clock)
    assert benchmark.medians(clock.calls, seconds=1) == {"a": 2, "b": 4}
    assert clock.order == "ab" + "ab" + "ba" + "ab"


def test_the_rounds_go_on_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(a=[1.0] * 9, b=[1.0] * 9)
    monkeypatch.setattr(benchmark, "time", clock)
    benchmark.medians(clock.calls, seconds=5)
    assert clock.order.count("a") == 1 + 5


@pytest.fixture(scope="module")
def operations() -> list[list[Timing]]:
    return list(benchmark.operations(seconds=BRIEF))


def test_every_operation_forward_and_backward(operations: list[list[Timing]]) -> None:
    assert [timings[0].work for timings in operations] == [
        f"{name} {direction}, {shape}"
        for name, shape in [
            ("conv 6@5x5", "64x1x28x28"),
            ("conv 16@5x5", "64x6x12x12"),
            ("conv 6@5x5", "16x1x28x28"),
            ("max pool 2x2", "64x6x24x24"),
            ("max pool 2x2", "64x1x28x28"),
            ("linear 120", "64x256"),
            ("batch norm", "64x6x24x24"),
        ]
        for direction in ("forward", "backward")
    ]
    for timings in operations:
        assert {timing.work for timing in timings} == {timings[0].work}
        ours = [timing for timing in timings if not timing.published]
        assert [(timing.technique, timing.threads) for timing in ours] == [
            ("im2col", 1),
            ("batchlast", 1),
            ("loops", 1),
        ]
        assert timings[: len(ours)] == ours


def test_the_published_times_stand_beside_those_of_their_shapes(operations: list[list[Timing]]) -> None:
    published = [
        (timing.work, {t.technique: t.milliseconds for t in timings if t.published})
        for timings in operations
        for timing in timings[:1]
        if timings[-1].published
    ]
    assert published == [
        ("conv 6@5x5 forward, 16x1x28x28", {"loops": 484, "im2col": 28.4, "strided": 3.63}),
        ("conv 6@5x5 backward, 16x1x28x28", {"loops": 132, "im2col": 66.2, "strided": 19.6}),
        ("max pool 2x2 forward, 64x1x28x28", {"loops": 133, "im2col": 1.21, "reshape": 0.108}),
        ("max pool 2x2 backward, 64x1x28x28", {"loops": 0.556, "im2col": 0.282, "reshape": 0.753}),
    ]
    assert all((timing.speedup is None) == timing.published for timings in operations for timing in timings)


def test_rates_follow_from_the_time_and_the_work(operations: list[list[Timing]]) -> None:
    flops = {
        "conv 6@5x5 forward, 64x1x28x28": 2 * 64 * 6 * 24 * 24 * 25,
        "conv 6@5x5 backward, 64x1x28x28": 4 * 64 * 6 * 24 * 24 * 25,
        "conv 16@5x5 forward, 64x6x12x12": 2 * 64 * 16 * 8 * 8 * 150,
        "linear 120 backward, 64x256": 4 * 64 * 256 * 120,
    }
    for timing in [timing for timings in operations for timing in timings]:
        seconds = timing.milliseconds / 1e3
        images = 16 if "16x1x28x28" in timing.work else 64
        assert timing.images_per_second == pytest.approx(images / seconds)
        assert (timing.gflops is None) == timing.work.startswith(("max pool", "batch norm"))
        if timing.work in flops:
            assert timing.gflops == pytest.approx(flops[timing.work] / seconds / 1e9)
    for first, *others in operations:
        assert first.speedup == 1
        for other in others:
            if other.speedup is not None:
                assert other.speedup == pytest.approx(first.milliseconds / other.milliseconds)


def test_an_operation_runs_with_the_kernels_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def conv2d(x: Any, *arguments: Any, **named: Any) -> Any:
        used.append(kernels.resolve())
        return x, None

    monkeypatch.setattr(benchmark.functional, "conv2d", conv2d)
    monkeypatch.setattr(benchmark.functional, "conv2d_backward", lambda dy, saved: None)
    next(benchmark.operations(seconds=BRIEF))
    assert used == ["im2col", "batchlast", "loops"] + 2 * ["im2col", "batchlast"] + ["batchlast", "im2col"] + [
        "im2col", "batchlast",
    ]  # fmt: skip


def test_a_training_step_in_every_way() -> None:
    found = benchmark.training("lenet5", batch_size=16, threads=(1, 2), seconds=BRIEF)
    assert [(timing.technique, timing.threads) for timing in found] == [
        (technique, threads) for threads in (1, 2) for technique in ("im2col", "batchlast", "plan")
    ]
    assert {timing.work for timing in found} == {"step, batch 16"}
    assert found[0].speedup == 1
    for timing in found:
        assert timing.images_per_second == pytest.approx(16e3 / timing.milliseconds)
        assert timing.gflops is not None
        macs = 86_400 + 153_600 + 256 * 120 + 120 * 84 + 84 * 10
        assert timing.gflops * timing.milliseconds * 1e6 == pytest.approx(2 * 16 * (3 * macs - 86_400))


def test_a_step_of_a_benchmark_leaves_the_weights_about_where_they_are() -> None:
    network, shape = benchmark._network("lenet5")
    trainer = benchmark.Trainer(network, benchmark.SGD(network.pack(), benchmark.RATE, momentum=0.9))
    before = network.pack().value.copy()
    x, y = benchmark._images(8, *shape), np.arange(8)
    for _ in range(20):
        trainer.step(x, y)
    moved = np.abs(network.pack().value - before).max()
    assert 0 < moved < 1e-2


def test_inference_in_every_way() -> None:
    found = benchmark.inference("lenet5", batch_size=3, threads=(1, 2), seconds=BRIEF)
    ways = [("im2col", 1), ("batchlast", 1), ("plan", 1), ("plan", 2)]
    assert [(timing.technique, timing.threads) for timing in found] == ways
    assert {timing.work for timing in found} == {"scores, batch 3"}
    macs = 86_400 + 153_600 + 256 * 120 + 120 * 84 + 84 * 10
    for timing in found:
        assert timing.images_per_second == pytest.approx(3e3 / timing.milliseconds)
        assert timing.gflops is not None
        assert timing.gflops * timing.milliseconds * 1e6 == pytest.approx(2 * 3 * macs)


def test_the_time_of_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    network, shape = benchmark._network("lenet5")
    before, mode = network.pack().value.copy(), network.eval().training
    asked: list[bool] = []
    backward = Conv2d.backward
    monkeypatch.setattr(
        Conv2d,
        "backward",
        lambda self, dy, *, need_dx=True: (asked.append(need_dx), backward(self, dy, need_dx=need_dx))[1],
    )
    found = benchmark.by_layer(network, shape, batch_size=2, seconds=BRIEF)
    assert [(each.name, repr(each.layer)) for each in found] == [
        (name, repr(layer)) for name, layer in network.children()
    ]
    assert all(each.forward > 0 and each.backward > 0 for each in found)
    assert asked[:2] == [True, False]  # from the last to the first, which has no dx to give
    assert np.array_equal(network.pack().value, before)
    assert network.training is mode is False
    with pytest.raises(ShapeError):
        benchmark.by_layer(network, (3, 28, 28), batch_size=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: benchmark.training("lenet6"), "benchmark: expected one of .*, got 'lenet6'; did you mean 'lenet5'"),
        (lambda: benchmark.inference("lenet5", batch_size=0), "benchmark: expected batch_size >= 1, got 0"),
        (lambda: benchmark.training("lenet5", threads=(0,)), "expected threads >= 1, got 0"),
        (
            lambda: benchmark.training("lenet5", threads=()),
            "benchmark: expected one number of threads or more, got none",
        ),
        (lambda: benchmark.training("lenet5", seconds=0), "benchmark: expected seconds > 0, got 0"),
        (lambda: next(benchmark.operations(seconds=-1)), "benchmark: expected seconds > 0, got -1"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
