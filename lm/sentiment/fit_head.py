"""Fits the head of the classifier on validation reviews; `lm.sentiment.sentiment_head` serves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lm.sentiment import english_lexicon
from lm.sentiment.calibration import fit_linear, label_weights, with_gpt2, without_ngrams
from lm.sentiment.fit_ngrams import affordable, fit_ngrams
from lm.sentiment.labels import LABELS
from lm.sentiment.ngrams import Ngrams
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.sentiment_head import Floats, Ints, SentimentHead

#: A lexicon that knows words of a smaller share of the texts, such as emoticons in Chinese, is not worth its time.
_LEXICON_COVERAGE = 0.1
#: From fewer reviews the log-count ratios of n-grams are noisy, so a TF-IDF model joins the linear model.
_FEW_REVIEWS = 2000


def fit_head(
    texts: Sequence[str],
    rated: Rated,
    gpt2: Floats,
    *,
    categories: Sequence[str] | None = None,
    ngrams: bool = True,
    lexicon: bool = True,
    writers: Sequence[str] | None = None,
    min_customers: int = 2,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> SentimentHead:
    """Fit the head on validation reviews; `gpt2` has the logits of those of fold 0, (rows, labels).

    The linear model is cheap, so several folds are trained to calibrate it; GPT-2 trains once, and its weight is
    fitted on fold 0. The n-grams that are kept learn from all reviews but the test's. `categories` are what the
    texts are about, "" if unknown. `writers` are the customers who wrote
    them; an n-gram needs `min_customers` of them. `report` hears how many of all linear models are trained.
    """
    folds = rated.folds() if ngrams else [0]
    validation = [rated.rows("validation", fold) for fold in folds]
    with_tfidf = len(rated.rows("known")) < _FEW_REVIEWS
    rows = np.concatenate(validation)
    labels, counts = rated.labels[rows], rated.counts(rows)

    def of(chosen: Ints) -> tuple[Sequence[str], Sequence[str] | None]:
        return [texts[i] for i in chosen], categories and [categories[i] for i in chosen]

    def trained(chosen: Ints, done: int) -> Ngrams:
        report(done, len(folds) + 1)
        order = np.random.default_rng(seed).permutation(chosen)
        order = order[: affordable(*of(order))]
        seen, about = of(order)
        wrote = writers and [writers[i] for i in order]
        return fit_ngrams(
            seen,
            rated.labels[order],
            len(LABELS),
            about,
            writers=wrote,
            min_writers=min_customers,
            with_tfidf=with_tfidf,
        )

    words = english_lexicon.logits([texts[i] for i in rows]) if lexicon else None
    if words is not None and words.any(axis=1).mean() < _LEXICON_COVERAGE:
        words = None
    if not ngrams:
        mixture = without_ngrams(fit_linear(labels, counts, gpt2, words))
        p = mixture.observed(mixture.of_text(gpt2, lexicon=words))
        return SentimentHead(None, mixture, label_weights(p, labels, counts, seed))
    judged = [
        trained(rated.rows("train", fold), done).logits(*of(judges))
        for done, (fold, judges) in enumerate(zip(folds, validation, strict=True))
    ]
    linear = np.concatenate(judged)
    model = trained(rated.rows("known"), len(folds))
    report(len(folds) + 1, len(folds) + 1)
    mixture = fit_linear(labels, counts, linear, words)
    p = mixture.observed(mixture.of_text(np.zeros_like(linear), linear, words))
    first = slice(len(gpt2))  # the rows of fold 0
    words = None if words is None else words[first]
    mixture = with_gpt2(mixture, labels[first], rated.counts(rows[first]), gpt2, linear[first], words)
    p[first] = mixture.observed(mixture.of_text(gpt2, linear[first], words))
    return SentimentHead(model, mixture, label_weights(p, labels, counts, seed))
