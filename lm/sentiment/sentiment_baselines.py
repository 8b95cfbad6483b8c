"""Baselines of the sentiment model: TF-IDF with logistic regression on the same reviews, and VADER alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from lm.sentiment import english_lexicon

#: Compound scores beyond these are positive or negative (Hutto & Gilbert, "VADER", ICWSM 2014).
_VADER_NEUTRAL = 0.05


def tfidf_logistic_regression(
    texts: Sequence[str], labels: NDArray[np.int64], judged: Sequence[str], classes: int
) -> NDArray[np.float64]:
    """(judged, classes) probabilities of a class-balanced logistic regression over TF-IDF of words and characters.

    Where all texts have one label, or too few share an n-gram, the probabilities are the labels' shares.
    """
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)),
            # Chinese has no spaces between words.
            ("characters", TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=3, sublinear_tf=True)),
        ]
    )
    shares = np.bincount(labels, minlength=classes) / len(labels)
    found = np.tile(shares, (len(judged), 1))
    try:
        known = features.fit_transform(list(texts))
    except ValueError:  # no n-gram is in enough texts
        return found
    if (shares > 0).sum() > 1:
        model = LogisticRegression(C=5, max_iter=300, class_weight="balanced").fit(known, labels)
        found[:, model.classes_] = model.predict_proba(features.transform(list(judged)))
    return found


def vader(judged: Sequence[str]) -> NDArray[np.int64]:
    """(judged,) labels 0 negative, 1 neutral, 2 positive by VADER, which knows English only."""
    scores = english_lexicon.compound(judged)
    return np.where(scores > _VADER_NEUTRAL, 2, np.where(scores < -_VADER_NEUTRAL, 0, 1)).astype(np.int64)
