"""The memory order of activations: shape (N, C, H, W), batch innermost.

Every array a caller sees has the logical shape (N, C, H, W) or (N, D). Its memory is (C, H, W, N) or (D, N), as
`channels_last` in other libraries is a memory order and not a shape; the strides are the only tag. Columns are then
copied in runs of N, and the product W(K, C*R*S) @ columns(C*R*S, P*Q*N) is the next layer's layout already.

Correctness never depends on the layout, only speed does. Ufuncs, `reshape(N, C*H*W)`, `astype`, `np.copy` and
reductions keep it; `x.copy()`, `np.pad`, `np.ascontiguousarray`, fancy indexing and `ravel()` lose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stridenet.errors import LayoutError

Array = npt.NDArray[Any]
ALIGNMENT = 64  # bytes: a register, and a line of the cache

# glibc gives a large freed array back to the system at once, and the next one costs a page fault for every 4 KiB: most
# of the time of a LeNet-5 step. Freeing one block just under 32 MiB, its limit, makes it keep memory up to twice that.
np.empty((32 << 20) - (64 << 10), np.uint8)


def buffer(shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    """An uninitialised C-contiguous array that begins where a register of 64 bytes may.

    Registers that lie across two lines of the cache are loaded at half the speed; NumPy itself aligns to 16 bytes.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def address(x: Array) -> int:
    """Where the memory of `x` begins."""
    return x.__array_interface__["data"][0]


def empty(shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    """An uninitialised array of logical `shape` (N, ...), batch innermost in memory, aligned as `buffer`.

    >>> empty((64, 6, 24, 24)).strides[0]
    4
    """
    return outer(buffer((*shape[1:], shape[0]), dtype))


def inner(x: Array) -> Array:
    """The free view (C, H, W, N) of x (N, C, H, W), or (D, N) of x (N, D); no copy.

    Raises:
        LayoutError: the memory of x is not batch innermost.
    """
    view = x.transpose(*range(1, x.ndim), 0)
    if not view.flags.c_contiguous:
        raise LayoutError(
            f"layout.inner: expected an array whose memory is batch innermost, got shape {x.shape} with strides"
            f" {x.strides}; use layout.to_batch_inner(x), which copies if it must"
        )
    return view


def outer(image: Array) -> Array:
    """The inverse of `inner`: the free view (N, C, H, W) of an array (C, H, W, N)."""
    return image.transpose(-1, *range(image.ndim - 1))


def to_batch_inner(x: Array) -> Array:
    """`x` itself if its memory is batch innermost, else a copy that is; the shape stays (N, C, H, W)."""
    view = x.transpose(*range(1, x.ndim), 0)
    return x if view.flags.c_contiguous else outer(np.ascontiguousarray(view))
