"""The check of an array that every operation makes first."""

from __future__ import annotations

from types import EllipsisType

from stridenet.errors import ShapeError
from stridenet.layout import Array


def check(
    who: str, name: str, x: Array, shape: tuple[int | str | EllipsisType, ...], like: Array | None = None
) -> None:
    """Raise ShapeError unless `x` is a float array of `shape`; a word stands for any length, ... for any axes."""
    known = [s for s in shape if s is not ...]
    fits = x.ndim == len(known) if ... not in shape else x.ndim >= len(known)
    if not fits or any(isinstance(s, int) and s != n for s, n in zip(known, x.shape, strict=False)):
        text = ", ".join("..." if s is ... else str(s) for s in shape)
        raise ShapeError(f"{who}: expected {name} of shape ({text}), got {x.shape}")
    if x.dtype.char not in "fd" or not x.dtype.isnative:
        raise ShapeError(f"{who}: expected {name} of dtype float32 or float64, got {x.dtype}; use {name}.astype")
    if like is not None and x.dtype != like.dtype:
        raise ShapeError(f"{who}: expected arrays of one dtype, got {like.dtype} and {name} {x.dtype}; use astype")
