"""Random streams: the same for ever, and each its own."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stridenet.nn.init import he_normal
from stridenet.seeding import stream

PURPOSES = ("init", "shuffle", "augment", "dropout", "split")


@pytest.mark.promise("K5")
def test_the_streams_never_change() -> None:
    digest = hashlib.sha256()
    for seed in range(20):
        for purpose in PURPOSES:
            digest.update(stream(seed, purpose, 3).bytes(64))
        digest.update(stream(seed, "shuffle", 7).permutation(1000).astype("<i8").tobytes())
        digest.update(he_normal(stream(seed, "init"), (6, 1, 5, 5)).astype("<f4").tobytes())
        digest.update((stream(seed, "dropout", 11, 2).random((16, 8), np.float32) >= 0.5).tobytes())
    assert digest.hexdigest() == "5104312f7daea51f002a559b1245ba488f2402361076f99ab7149261ff3312fb"


def test_every_purpose_and_key_has_its_own_stream() -> None:
    keys = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
    firsts = {stream(seed, p, *key).bytes(16) for seed in (0, 1, 2**40) for p in PURPOSES for key in keys}
    assert len(firsts) == 3 * len(PURPOSES) * len(keys)


def test_a_stream_depends_on_nothing_else() -> None:
    before = stream(5, "augment", 2).bytes(32)
    np.random.default_rng(0).random(10)
    stream(5, "augment", 2).random(100)
    assert stream(5, "augment", 2).bytes(32) == before
