"""How long steps are beside the weights that they move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stridenet.train.findings import Finding

RATIOS = 1e-5, 1e-1  # of the length of a step to that of the weights: a hundred times less or more than the usual 1e-3
LOWER, RAISE = "lower lr", "raise lr"  # the cures


def long_steps(ratios: Mapping[str, float]) -> Iterator[Finding]:
    """One finding for all weights whose steps are too long; `ratios` of a step to the weights, by their names.

    >>> for finding in long_steps({"0.weight": 2.0, "3.weight": 1e-3}):
    ...     print(finding.line())
    update-ratio in training: steps are 2 times as long as the weights in 0.weight, expected 1e-05 to 0.1; lower lr
    """
    wrong = {name: ratio for name, ratio in ratios.items() if ratio > RATIOS[1]}
    if wrong:
        yield _steps_are(f"{max(wrong.values()):.2g} times as long as", wrong, LOWER)


def short_steps(ratios: Mapping[str, float]) -> Iterator[Finding]:
    """The same for steps that are too short; a ratio of 0 is none.

    >>> for finding in short_steps({"0.weight": 1e-6, "3.weight": 1e-3}):
    ...     print(finding.cure)
    raise lr, or the start values
    """
    wrong = {name: ratio for name, ratio in ratios.items() if 0 < ratio < RATIOS[0]}
    if wrong:
        cure = RAISE if len(wrong) == len(ratios) else f"{RAISE}, or the start values"
        yield _steps_are(f"only {min(wrong.values()):.2g} of", wrong, cure)


def _steps_are(beside: str, wrong: Mapping[str, float], cure: str) -> Finding:
    first, (low, high) = next(iter(wrong)), RATIOS
    where = first if len(wrong) == 1 else f"{len(wrong)} layers ({first} ...)"
    return Finding(
        "update-ratio", "training", f"steps are {beside} the weights in {where}, expected {low:g} to {high:g}", cure
    )
