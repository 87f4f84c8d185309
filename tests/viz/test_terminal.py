"""An image and its probabilities in characters."""

from __future__ import annotations

import numpy as np
import pytest

from stridenet.viz.figures import letters
from stridenet.viz.terminal import SHADES, blocks, card


def test_a_character_is_the_brightness_of_two_pixels() -> None:
    image = np.array([[0, 0.25, 0.5, 1], [0, 0.25, 1, 1]])[None]  # (1, 2, 4)
    assert blocks(image) == [SHADES[0] + SHADES[1] + SHADES[3] + SHADES[4]]
    assert blocks(np.ones((3, 5, 5))) == [SHADES[4] * 5] * 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 300), (1, 300, 1), (2, 64, 64), (1, 33, 47), (1, 7, 5)])
def test_any_shape_keeps_its_brightness_and_its_proportions(shape: tuple[int, int, int]) -> None:
    lines = blocks(np.full(shape, 0.5))
    assert {len(line) for line in lines} == {min(shape[2], 32)}
    assert set("".join(lines)) == {SHADES[2]}
    assert len(lines) <= max(1, shape[1])
    if shape[1:] == (64, 64):
        assert len(lines) == 16


def test_a_wide_image_is_brought_to_32_columns_of_means() -> None:
    image = np.tile([0.0, 1.0], (1, 64, 32))  # black and white columns, two in a character
    assert blocks(image) == [SHADES[2] * 32] * 16


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("count", [1, 2, 10, 14, 15, 200])
def test_a_card_has_eighty_columns_and_a_bar_a_class(count: int, ascii_only: bool) -> None:
    rng = np.random.default_rng(0)
    classes = [f"class \x1b[31m {'long ' * 9}{i}" for i in range(count)]
    probabilities = rng.dirichlet(np.ones(count))
    text = card(rng.random((1, 28, 100)), classes, list(probabilities), ascii_only=ascii_only)
    assert max(map(letters, text.splitlines())) <= 80
    assert text.isascii() == ascii_only
    assert "\x1b" not in text
    shares = [float(line.split()[-1].rstrip("%")) for line in text.splitlines() if line.endswith("%")]
    wanted = probabilities if count <= 14 else np.sort(probabilities)[::-1][:14]
    assert shares == pytest.approx(100 * wanted, abs=0.051)


def test_bars_are_as_long_as_probabilities() -> None:
    text = card(np.zeros((1, 8, 8)), ["a", "b", "c"], [0.5, 0.25 + 1 / 160, 0.25 - 1 / 160])
    lengths = [line.count("█") for line in text.splitlines() if "%" in line]
    assert lengths == [10, 5, 4]
    assert "▏" in text  # an eighth
    assert "▉" in text


def test_chinese_names_take_two_columns_a_letter() -> None:
    text = card(np.zeros((1, 4, 4)), ["猫", "cat", "一只非常非常大的狗"], [0.5, 0.5, 0.0], ascii_only=True)
    cat, other, dog = text.splitlines()
    assert [cat.index("#"), other.index("#")] == [7 + 14, 7 + 15]  # 猫 is one character and two columns
    assert "一只非常非..." in dog
    assert letters(dog.partition("0.0%")[0]) == letters(other.partition("50.0%")[0]) + 1
