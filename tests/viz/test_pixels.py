"""Arrays as PNG, read back by Pillow."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.viz import pixels


def read_back(pixels: bytes) -> Array:
    with Image.open(io.BytesIO(pixels)) as image:
        assert image.format == "PNG"
        return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 100)])
def test_a_png_has_just_the_pixels(size: tuple[int, int], channels: int) -> None:
    wanted = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    np.testing.assert_array_equal(read_back(pixels.png(wanted)), wanted)
    address = pixels.source(wanted[::-1])  # in any memory order
    assert address.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(read_back(base64.b64decode(address.partition(",")[2])), wanted[::-1])


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 2), (0, 3, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"png: expected pixels \(H, W, 1, 3 or 4\)"):
        pixels.png(np.zeros(shape, np.uint8))


def test_a_photo_is_the_image() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    np.testing.assert_array_equal(pixels.photo(image), image.transpose(1, 2, 0))
    np.testing.assert_array_equal(pixels.photo(image / np.float32(255)), image.transpose(1, 2, 0))
    np.testing.assert_array_equal(pixels.photo(image[:2]), image[0, :, :, None])


def test_zero_is_clear_and_the_farthest_is_full() -> None:
    found = pixels.signed(np.array([[[0.0, 2.0]], [[-4.0, 1.0]]]), 2)
    assert found.shape == (1, 5, 4)
    assert found[0, :, 3].tolist() == [0, 128, 110, 255, 64]
    assert found[0, 1, :3].tolist() == [213, 94, 0]
    assert found[0, 3, :3].tolist() == [0, 114, 178]
    assert (pixels.signed(np.zeros((1, 2, 2)), 1)[..., 3] == 0).all()
    assert pixels.signed(np.ones((3, 2, 2)), 2)[3:, 3:, 3].max() == 0  # where there is no fourth


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((6, 1, 5, 5), 2, 3), ((100, 1, 3, 3), 7, 10), ((5, 3, 3, 3), 2, 3), ((40, 20, 3, 2), 16, 32)],
)
def test_filters_stand_in_rows(shape: tuple[int, ...], rows: int, columns: int) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found, (height, width) = pixels.filters(weight), (4 * shape[2], 4 * shape[3])
    assert found.shape == (rows * (height + 1) - 1, columns * (width + 1) - 1, 4)
    first = found[:height:4, :width:4]
    if shape[1] == 3:
        wanted = 255 * (0.5 + weight[0].transpose(1, 2, 0) / (2 * np.abs(weight).max()))
        np.testing.assert_allclose(first[..., :3], wanted, atol=0.51)
    else:
        limit = np.abs(weight[:64] if shape[1] == 1 else weight[:32, :16]).max()
        np.testing.assert_allclose(first[..., 3], 255 * np.abs(weight[0, 0]) / limit, atol=0.51)
