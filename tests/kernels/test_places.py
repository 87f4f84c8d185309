"""Lists of places: what the windows of an image read, and the outputs that each pixel meets, counted one by one."""

from __future__ import annotations

import numpy as np
import pytest

from stridenet.kernels.places import Frame, meetings, outputs, reach, starts, taps
from stridenet.shapes import Margins, Window, window

NONE: Margins = ((0, 0), (0, 0))


def random_window(seed: int) -> tuple[Window, tuple[int, int]]:
    """A window that fits, and the image that it slides over."""
    rng = np.random.default_rng(seed)
    while True:
        size, kernel, stride, dilation = ((int(a), int(b)) for a, b in rng.integers([1], [[12], [5], [4], [4]], (4, 2)))
        (top, bottom), (left, right) = ((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
        margins = (top, bottom), (left, right)
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        if all(n + sum(m) >= span for n, m, span in zip(size, margins, spans, strict=True)):
            return window("w", size, kernel, stride, margins, dilation), size


def test_a_frame_is_an_image_with_a_margin() -> None:
    frame = Frame((2, 3, 4), ((1, 2), (3, 0)), 16, slack=5, at=1000)
    assert frame.row == 16 * 7
    assert frame.channel == 6 * frame.row + 5
    assert frame.size == 2 * frame.channel
    assert frame.start == 1000 + frame.row + 3 * 16
    assert frame.start + frame.place(-1, -3) == 1000
    assert frame.place(2, 3) == 2 * frame.row + 48
    vector = Frame((1, 1, 9), NONE, 1)
    assert (vector.row, vector.size, vector.start) == (9, 9, 0)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("seed", range(30))
def test_starts_and_taps_are_the_windows_of_the_padded_image(seed: int, step: int) -> None:
    geometry, (H, W) = random_window(seed)
    image = np.random.default_rng(seed).standard_normal((2, H, W))
    frame = Frame((2, H, W), geometry.padding, step, slack=seed, at=seed)
    memory = np.zeros(frame.at + frame.size)
    for c in range(2):
        for h in range(H):
            for w in range(W):
                memory[frame.start + c * frame.channel + frame.place(h, w)] = image[c, h, w]
    padded = np.pad(image, ((0, 0), *geometry.padding))
    (R, S), (down, right), (apart, aside) = geometry.kernel, geometry.stride, geometry.dilation
    order = outputs(geometry)
    assert len(order) == geometry.output[0] * geometry.output[1]
    assert len(set(order)) == len(order)
    for (p, q), start in zip(order, starts(frame, geometry, order), strict=True):
        found = memory[frame.start + start + np.array(taps(frame, geometry, range(2)))]
        at = p * down, q * right
        wanted = padded[:, at[0] : at[0] + R * apart : apart, at[1] : at[1] + S * aside : aside]
        assert np.array_equal(found, wanted[:, :R, :S].reshape(-1))


@pytest.mark.parametrize("seed", range(60))
def test_meetings_are_all_pairs_of_a_pixel_and_an_output(seed: int) -> None:
    """Those that are not exact meet outputs beside the image too, as far as `reach` says."""
    geometry, size = random_window(seed)
    for axis, length in enumerate(size):
        step, apart, (before, _) = geometry.stride[axis], geometry.dilation[axis], geometry.padding[axis]
        wanted = {
            (p * step - before + r * apart, r, p)
            for p in range(geometry.output[axis])
            for r in range(geometry.kernel[axis])
            if 0 <= p * step - before + r * apart < length
        }
        for exact in True, False:
            groups = meetings(geometry, axis, length, exact=exact)
            pixels = [pixel for group in groups for pixel in group.pixels]
            assert len(set(pixels)) == len(pixels)
            found = [
                (pixel, r, i - m)
                for group in groups
                for pixel, i in zip(group.pixels, group.outputs, strict=True)
                for r, m in zip(group.taps, group.behind, strict=True)
            ]
            assert len(set(found)) == len(found)
            low, high = reach(geometry, axis, groups)
            assert all(-low <= p < geometry.output[axis] + high for _, _, p in found)
            if exact:
                assert (low, high) == (0, 0)
                assert set(found) == wanted
            else:
                assert {each for each in found if 0 <= each[2] < geometry.output[axis]} == wanted
                assert all(pixel == p * step - before + r * apart for pixel, r, p in found)
