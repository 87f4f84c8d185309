"""How the workers of one run exchange vectors; alone, there is nothing to exchange."""

from __future__ import annotations

from stridenet.layout import Array


class Communicator:
    """One worker by itself: rank 0 of 1. Other communicators have the same four names."""

    rank, size = 0, 1

    def mean(self, vector: Array) -> None:
        """Replace `vector` (P,) by its mean over all workers, in place."""

    def broadcast(self, vector: Array) -> None:
        """Replace `vector` (P,) by that of rank 0, in place."""


SOLO = Communicator()
