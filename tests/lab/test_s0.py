from __future__ import annotations

import pytest

from lab import s0


def test_every_technique_runs_beside_its_published_time() -> None:
    rows = s0.rows(seconds=1e-6)
    assert [(work, name, published) for work, name, _, published in rows] == [
        (f"{work} {direction}", name, time)
        for work, last, times in [
            ("conv", "strided", ((484, 28.4, 3.63), (132, 66.2, 19.6))),
            ("max pool", "reshape", ((133, 1.21, 0.108), (0.556, 0.282, 0.753))),
        ]
        for direction, published in zip(("forward", "backward"), times, strict=True)
        for name, time in [
            *zip(("loops", "im2col", last), published, strict=True),
            *((more, None) for more in ("offsets", "fft") if work == "conv"),
            ("stridenet im2col", None),
            ("stridenet batchlast", None),
        ]
    ]
    assert all(here > 0 for _, _, here, _ in rows)


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made_up = [("conv forward", "loops", 274.9, 484.0), ("conv forward", "stridenet im2col", 0.2, None)]
    monkeypatch.setattr(s0, "rows", lambda: made_up)
    s0.main()
    _, _, _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["conv", "forward", "loops", "274.900", "484"]
    assert second.split() == ["stridenet", "im2col", "0.200"]
