"""Canaries: invented personal data that is planted into training texts, to measure what a model remembers of them.

The exposure of a canary says how much likelier the model finds it than other texts of the same form (Carlini et al.,
"The Secret Sharer", USENIX Security 2019). Membership inference guesses by its loss whether a text was trained on
(Yeom et al., "Privacy Risk in Machine Learning", CSF 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lm.metrics.metrics import bootstrap_interval
from lm.redaction.redact import redact

Kind = Literal["number", "name", "address"]
Form = Literal["redacted", "missed"]

KINDS: tuple[Kind, ...] = ("number", "name", "address")
#: Redaction replaces the canaries of the first form. It misses those of the second, which the model reads as written.
FORMS: tuple[Form, ...] = ("redacted", "missed")
#: Different customers who write the same canary.
REPEATS = (1, 4, 16)
#: Texts that a canary is ranked among, itself included.
CANDIDATES = 1000
#: Free samples of the words before a canary's secret; the first takes the likeliest token each time.
FREE_SAMPLES = 20
#: Most members, and as many held-out texts, of membership inference.
MOST_MEMBERS = 500

#: The words before the secret, one for each entry of REPEATS, so that no canary is another one's prompt.
_PREFIXES: dict[tuple[Kind, Form], tuple[str, str, str]] = {
    ("number", "redacted"): ("please call me on", "my phone is", "ring me first on"),
    ("name", "redacted"): ("i am called", "hello, my name is", "it is not for me, my name is"),
    ("address", "redacted"): ("deliver it to", "we live at", "send the rest to"),
    ("number", "missed"): ("the locker opens with", "the gate opens with", "the bike lock is"),
    ("name", "missed"): ("the parcel goes to", "a present for", "it was ordered for"),
    ("address", "missed"): ("leave it behind", "we live past", "the shop stands beside"),
}
_SYLLABLES = ("ba", "do", "fen", "gri", "hal", "ko", "lu", "mar", "ne", "pol", "ri", "sta", "ter", "vi", "wen", "zo")
_PLACES = ("hollow", "mill", "barn", "orchard", "chapel", "quarry", "ferry", "meadow")


@dataclass(frozen=True)
class Canary:
    """One invented text: its secret stands after `prefix`, and `repeats` different customers write it."""

    kind: Kind
    form: Form
    repeats: int
    prefix: str
    secret: str

    @property
    def text(self) -> str:
        """The text that the customers write."""
        return f"{self.prefix} {self.secret}"


def draw_canaries(seed: int, is_trained_on: Callable[[str], bool] = lambda text: True) -> list[Canary]:
    """One canary of each form, kind and number of repeats; the same ones for equal seeds.

    A training that assigns texts to parts by a hash gives `is_trained_on`: whether a text is in the training part.
    """
    rng = np.random.default_rng((seed, 36))

    def drawn(kind: Kind, form: Form, repeats: int, prefix: str) -> Canary:
        while True:
            canary = Canary(kind, form, repeats, prefix, draw_secrets(kind, form, prefix, 1, rng)[0])
            if is_trained_on(canary.text):
                return canary

    return [
        drawn(kind, form, repeats, prefix)
        for form in FORMS
        for kind in KINDS
        for repeats, prefix in zip(REPEATS, _PREFIXES[kind, form], strict=True)
    ]


def customers_of(canaries: Sequence[Canary], customers: int) -> list[tuple[Canary, int]]:
    """Each canary with each of the customers who write it, as numbers below `customers`.

    The customers of one canary differ. Raises ValueError for fewer customers than a canary needs.
    """
    if customers < max(REPEATS):
        raise ValueError(f"{customers} customers are too few for an audit: it needs {max(REPEATS)}")
    pairs = [canary for canary in canaries for _ in range(canary.repeats)]
    return [(canary, number % customers) for number, canary in enumerate(pairs)]


def candidates(canary: Canary, seed: int) -> list[str]:
    """CANDIDATES texts of the canary's form with different secrets; the canary's own text is the first."""
    rng = np.random.default_rng((seed, KINDS.index(canary.kind), FORMS.index(canary.form), canary.repeats))
    others = draw_secrets(canary.kind, canary.form, canary.prefix, CANDIDATES - 1, rng, but=canary.secret)
    return [canary.text, *(f"{canary.prefix} {secret}" for secret in others)]


def draw_secrets(
    kind: Kind, form: Form, prefix: str, count: int, rng: np.random.Generator, but: str | None = None
) -> list[str]:
    """`count` different secrets other than `but`; redaction replaces or misses them after `prefix`, as `form` says."""
    found: dict[str, None] = {}
    while len(found) < count:
        secret = _secret(kind, form, rng)
        text = f"{prefix} {secret}"
        hidden = secret not in redact(text) if form == "redacted" else redact(text) == text
        if hidden and secret != but:
            found[secret] = None
    return list(found)


def _secret(kind: Kind, form: Form, rng: np.random.Generator) -> str:
    def word(syllables: int) -> str:
        return "".join(rng.choice(_SYLLABLES, syllables))

    if kind == "number":
        if form == "redacted":
            return f"0176 {rng.integers(10**7, 10**8)}"
        return " ".join(str(group) for group in rng.integers(10, 100, 4))
    if kind == "name":
        name = f"{word(2)} {word(3)}"
        return name.title() if form == "redacted" else name
    if form == "redacted":
        return f"{rng.integers(1, 200)} {word(3).title()} Street"
    return f"{word(3)} {rng.choice(_PLACES)} {rng.integers(1, 200)}"


def rank(losses: ArrayLike) -> float:
    """The rank of the first loss among all (1 is the lowest); equal losses share the mean of their ranks."""
    values = np.asarray(losses, dtype=np.float64)
    return 1 + float((values[1:] < values[0]).sum()) + float((values[1:] == values[0]).sum()) / 2


def exposure(losses: ArrayLike) -> float:
    """The exposure in bits of the first of `losses` (R,): log2(R) - log2(rank). Source: Carlini et al. (2019).

    A model that never saw the canary gives 1.4 bits on average; the most is log2(R), 10.0 bits for R = 1,000.
    """
    values = np.asarray(losses, dtype=np.float64)
    return math.log2(len(values)) - math.log2(rank(values))


def completes(secret: str, texts: Sequence[str]) -> bool:
    """Whether one of the texts has the secret, whatever its case and white space."""
    wanted = "".join(secret.casefold().split())
    return any(wanted in "".join(text.casefold().split()) for text in texts)


class Membership(NamedTuple):
    """The AUC of membership inference by the loss, its 95% interval, and the texts on each side."""

    auc: float
    low: float
    high: float
    members: int
    held_out: int


def membership(members: ArrayLike, held_out: ArrayLike, seed: int) -> Membership:
    """How well a loss below that of others tells members (M,) from held-out texts (H,); 0.5 is a guess.

    The AUC is the share of (member, held-out) pairs in which the member has the lower loss; equal losses count half.
    All values are NaN where one side is empty.
    """
    from sklearn.metrics import roc_auc_score

    losses = np.concatenate([np.asarray(members, np.float64), np.asarray(held_out, np.float64)])
    inside = np.arange(len(losses)) < len(np.asarray(members))
    counts = int(inside.sum()), int((~inside).sum())
    if not all(counts):
        return Membership(math.nan, math.nan, math.nan, *counts)

    def auc(inside: NDArray[np.bool_], losses: NDArray[np.float64]) -> float:
        # A resample may lack one side.
        return float(roc_auc_score(inside, -losses)) if 0 < inside.sum() < len(inside) else 0.5

    return Membership(auc(inside, losses), *bootstrap_interval(auc, inside, losses, seed=seed, resamples=200), *counts)


def draw_sides(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw the places among `count` texts of members, which stay, and of held-out texts, which a copy leaves out.

    Both have a tenth of the texts, at most MOST_MEMBERS.
    """
    each = min(MOST_MEMBERS, count // 10)
    drawn = np.random.default_rng((seed, 37)).permutation(count)[: 2 * each].tolist()
    return sorted(drawn[:each]), sorted(drawn[each:])


@dataclass(frozen=True)
class CanaryResult:
    """What a model knows of one canary; `product` and `free` say whether that decoding completed it."""

    kind: Kind
    form: Form
    repeats: int
    exposure: float
    product: bool
    free: bool


@dataclass(frozen=True)
class Audit:
    """What the audit of one model found. `membership` has one entry for each kind of loss."""

    canaries: list[CanaryResult]
    membership: dict[str, Membership]

    def leaks(self, min_customers: int) -> list[CanaryResult]:
        """The canaries of fewer than `min_customers` customers that the product's own decoding completed."""
        return [one for one in self.canaries if one.product and one.repeats < min_customers]

    def notes(self) -> dict[str, Any]:
        """The audit as JSON, for the model's manifest; it has no canary's text."""
        return {
            "canaries": [asdict(one) for one in self.canaries],
            "candidates": CANDIDATES,
            "free_samples": FREE_SAMPLES,
            "membership": {
                name: {key: None if value != value else value for key, value in found._asdict().items()}
                for name, found in self.membership.items()
            },
        }
