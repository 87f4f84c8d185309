"""What may be wrong with a network, its data or its training: a code for each, why it matters and what to do.

A recipe whose notes say `expected_findings = ["plateau"]` has that one on purpose.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of finding: `what` in general, `why` it matters, what to `do`, and the `source` of the check."""

    what: str
    why: str
    do: str
    source: str


_NOTES = "Karpathy, CS231n notes 3"  # "Learning", https://cs231n.github.io/neural-networks-3/

KINDS: dict[str, Kind] = {
    "initial-loss": Kind(
        "The first loss is not that of a network that knows nothing.",
        "The last layer starts too large, or the loss is not the one that is meant.",
        "Look at the start values of the last layer, at the scale of the images and at the loss.",
        _NOTES,
    ),
    "cannot-overfit": Kind(
        "A few hundred steps on 20 images do not get all 20 right.",
        "What cannot learn 20 images by heart will not learn 60 000.",
        "Check the gradients, then lr, lower and higher; take dropout and decay out until it can.",
        _NOTES,
    ),
    "plateau": Kind(
        "The loss stays where it was at the start.",
        "Nothing is learnt until it leaves the plateau, which may be never.",
        "Start with larger weights (he_normal), normalise the images, or raise lr.",
        "B22; report S2, twelve epochs at 2.30",
    ),
    "wrong-gradient": Kind(
        "A gradient is not the slope of what the layer computes.",
        "The steps lead elsewhere; a network often learns all the same, somewhat worse.",
        "Compare the backward of that layer with its forward, on the smallest example there is.",
        f"B1, B2, B6; {_NOTES}",
    ),
    "gradient-scale": Kind(
        "A gradient is a fixed multiple of the slope.",
        "A sum stands beside a mean: lr means another thing there, or for each batch size.",
        "Divide the gradient by what the loss was divided by, of weights and biases alike.",
        "B6",
    ),
    "gradients-add-up": Kind(
        "The same batch gives another gradient the second time.",
        "Gradients are not reset: each step goes along the sum of all before it.",
        "Call zero_grad before each backward, and see that it sets every gradient to zero.",
        "B3",
    ),
    "still-parameter": Kind(
        "A parameter that is trained gets no gradient, or does not move.",
        "It stays as it was drawn, and the layers behind it learn from random features.",
        "See that its backward stores the gradient, that the optimizer has it, and that no ReLU behind it is dead.",
        "B1",
    ),
    "update-ratio": Kind(
        "A step is too large or too small beside the weights that it moves.",
        "Large steps undo what was learnt; with tiny ones nothing is learnt in the time there is.",
        "Change lr, or the start values of that layer, until a step is about a thousandth of its weights.",
        f"{_NOTES}: about 1e-3",
    ),
    "dead-relu": Kind(
        "Many units of a ReLU are zero for every image.",
        "They pass no gradient, so that most of them never come back.",
        "Lower lr, start biases at zero and weights with he_normal, or take LeakyReLU.",
        "Karpathy, CS231n notes 1: up to 40 %",
    ),
    "non-finite": Kind(
        "A number that must be finite is infinite or NaN.",
        "Everything that is computed from it is lost.",
        "Lower lr, set clip_norm, and look at the scale of the images.",
        "B11",
    ),
    "one-scale-start": Kind(
        "Weights of layers of different width start with one scale, and the signal fades or explodes.",
        "What reaches the scores hardly depends on the image, and so does the gradient.",
        "Start each layer by its number of inputs: he_normal before a ReLU, lecun_normal before a tanh.",
        "B22; He et al. 2015",
    ),
    "test-statistics": Kind(
        "Images that judge are prepared by statistics of their own.",
        "They do not look as a single new image will, and the figure says nothing about it.",
        "Fit the transform on the training images alone and use that one for all.",
        "B20",
    ),
    "small-validation": Kind(
        "So few validation images that chance decides which epoch is best.",
        "The highest of several accuracies is then a lucky one, and too high.",
        "Hold out more images, or none and take the last epoch.",
        "B18; Wilson 1927",
    ),
    "repeated-images": Kind(
        "Images of one set are in another one too.",
        "What was learnt by heart counts as known; a test that chooses is no test.",
        "Take them out of one of the two sets, or split before images are copied or augmented.",
        "B18; Barz and Denzler 2020",
    ),
    "tied-pools": Kind(
        "Nearly every window of a max pooling has several equal maxima.",
        "The pooling sees constant windows, and which pixel gets the gradient is a matter of convention.",
        "Look for dead units, constant images or too much padding before that layer.",
        "B10; docs/benchmarks.md, Ties",
    ),
}


class Finding(NamedTuple):
    """Something wrong: its kind by `code`, `where`, and `what` was measured there, a sentence without its point.

    Where that tells more than the kind, `cure` is what to do, as `what` is written.
    """

    code: str
    where: str
    what: str
    cure: str = ""

    @property
    def do(self) -> str:
        """What to do."""
        return _sentence(self.cure) if self.cure else KINDS[self.code].do

    def line(self) -> str:
        """The finding on one line."""
        return f"{self.code} in {self.where}: {self.what}{f'; {self.cure}' if self.cure else ''}"

    def block(self) -> str:
        """The finding to be read: a sentence a line."""
        rows = {"what": _sentence(self.what), "where": self.where, "why": KINDS[self.code].why, "do": self.do}
        return "\n".join([self.code, *(f"  {name:<7}{text}" for name, text in rows.items())])

    def as_dict(self) -> dict[str, str]:
        """The finding for programs."""
        said = {"code": self.code, "where": self.where, "what": self.what}
        return said | {"why": KINDS[self.code].why, "do": self.do}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


class Check(NamedTuple):
    """What was looked at, the `figure` that was measured, and what is wrong with it."""

    name: str
    figure: str
    findings: tuple[Finding, ...] = ()


def unexpected(checks: Iterable[Check], expected: Container[str]) -> list[Finding]:
    """The findings of `checks` whose codes are not `expected`."""
    return [finding for check in checks for finding in check.findings if finding.code not in expected]
