"""The ten digits as pictures of 12 rows and 7 columns: what the output units of the LeNet-5 of 1998 compare with.

LeCun et al. 1998 show theirs in figure 3 and print no numbers; these are drawn anew. Digits that look alike have codes
that lie near each other.
"""

from __future__ import annotations

import numpy as np

from stridenet.layout import Array

_FIRST = """
.#####.   ...##..   .#####.   #######   ....##.
##...##   ..###..   ##...##   .....##   ...###.
##...##   .####..   .....##   ....##.   ..####.
##...##   ...##..   .....##   ...##..   .##.##.
##...##   ...##..   ....##.   ..####.   ##..##.
##...##   ...##..   ...##..   .....##   ##..##.
##...##   ...##..   ..##...   .....##   #######
##...##   ...##..   .##....   .....##   ....##.
##...##   ...##..   ##.....   .....##   ....##.
##...##   ...##..   ##.....   ##...##   ....##.
.#####.   .######   #######   .#####.   ....##.
.......   .......   .......   .......   .......
"""
_LAST = """
#######   .#####.   #######   .#####.   .#####.
##.....   ##...##   .....##   ##...##   ##...##
##.....   ##.....   .....##   ##...##   ##...##
##.....   ##.....   ....##.   ##...##   ##...##
######.   ######.   ....##.   .##.##.   ##...##
.....##   ##...##   ...##..   ..###..   .######
.....##   ##...##   ...##..   .##.##.   .....##
.....##   ##...##   ..##...   ##...##   .....##
.....##   ##...##   ..##...   ##...##   .....##
##...##   ##...##   .##....   ##...##   ##...##
.#####.   .#####.   .##....   .#####.   .#####.
.......   .......   .......   .......   .......
"""


def digits() -> Array:
    """The codes of the digits 0 to 9, float32 (10, 84), row by row: +1 where there is ink, else -1.

    >>> digits()[7].reshape(12, 7)[1].astype(int).tolist()  # the second row of the 7
    [-1, -1, -1, -1, -1, 1, 1]
    """
    lines = [block.split() for block in (_FIRST, _LAST)]  # five pictures side by side: each fifth word is a row of one
    pictures = ["".join(words[i::5]) for words in lines for i in range(5)]
    return np.array([[1 if mark == "#" else -1 for mark in picture] for picture in pictures], np.float32)
