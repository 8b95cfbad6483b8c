"""Audits the training of a sentiment model: trains a copy with canaries among the reviews, and asks it for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lm.redaction.redact import redact
from lm.sentiment.classifier import SentimentClassifier
from lm.sentiment.labels import LABELS
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.review_parts import parts_of
from lm.sentiment.train_sentiment import SentimentSettings, train_sentiment
from lm.text.template import clean
from lm.train.canaries import REPEATS, Audit, Canary, customers_of, draw_canaries, draw_sides, membership
from lm.train.language_model import Tokens
from lm.train.text_audit import TextModel, as_tokens, judge_canaries
from lm.train.training_loop import ProgressCallback


def audit_sentiment(
    texts: Sequence[str],
    labels: Sequence[int],
    settings: SentimentSettings,
    folder: Path,
    *,
    categories: Sequence[str] | None = None,
    writers: Sequence[str] | None = None,
    report: ProgressCallback | None = None,
) -> Audit:
    """Train into `folder` on a copy of the reviews with canaries, and measure what the model remembers.

    Each canary is a positive review of new customers. Members and held-out texts are rated reviews of the training
    part that nobody else wrote; the copy leaves out the held-out ones. The product shows labels only, so no text of its
    own can complete a canary. Raises TrainingError as train_sentiment does.
    """
    seed = settings.seed
    canaries = planted_canaries(seed)
    rated = Rated.split(texts, np.asarray(labels, dtype=np.int64))
    copies = Counter(rated.parts.wording.tolist())
    pool = [i for i in rated.rows("train").tolist() if copies[rated.parts.wording[i]] == 1]
    members, held_out = ([pool[place] for place in side] for side in draw_sides(len(pool), seed))
    planted = customers_of(canaries, max(REPEATS))
    kept = sorted(set(range(len(texts))) - set(held_out))
    known = [f"review {i}" for i in range(len(texts))] if writers is None else list(writers)
    train_sentiment(
        [*(texts[i] for i in kept), *(canary.text for canary, _ in planted)],
        [*(labels[i] for i in kept), *[LABELS.index("positive")] * len(planted)],
        settings,
        folder,
        categories=None if categories is None else [*(categories[i] for i in kept), *[""] * len(planted)],
        writers=[*(known[i] for i in kept), *(f"canary customer {number}" for _, number in planted)],
        report=report,
    )
    model = TextModel.load(folder, "classifier")
    classifier = SentimentClassifier.load(folder, dtype="float32")

    def text_losses(rows: Sequence[int]) -> NDArray[np.float64]:
        return model.mean_losses([model.encode(clean(redact(texts[i])))[: settings.max_tokens] for i in rows])

    def label_losses(rows: Sequence[int]) -> NDArray[np.float64]:
        about = None if categories is None else [categories[i] for i in rows]
        p = classifier.judge([texts[i] for i in rows], settings.max_tokens, about).p
        chosen: NDArray[np.float64] = -np.log(np.maximum(p[np.arange(len(rows)), [labels[i] for i in rows]], 1e-12))
        return chosen

    def before(canary: Canary) -> Tokens:
        return as_tokens([])

    return Audit(
        judge_canaries(model, canaries, before, "", {}, seed),
        {
            "its text": membership(text_losses(members), text_losses(held_out), seed),
            "its label": membership(label_losses(members), label_losses(held_out), seed),
        },
    )


def planted_canaries(seed: int) -> list[Canary]:
    """The canaries of a seed whose texts the split gives to the training."""
    return draw_canaries(seed, lambda text: len(parts_of([text]).rows("train")) > 0)
