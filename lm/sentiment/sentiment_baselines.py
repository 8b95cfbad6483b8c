"""What a sentiment model must beat: plain models that learn from the same reviews, and a lexicon of English."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline

from lm.sentiment import english_lexicon

#: Compound scores beyond these are positive or negative (Hutto & Gilbert, "VADER", ICWSM 2014).
_VADER_NEUTRAL = 0.05


def tfidf_logistic_regression(
    texts: Sequence[str], labels: NDArray[np.int64], judged: Sequence[str], classes: int
) -> NDArray[np.float64]:
    """(judged, classes) probabilities by TF-IDF of words and characters and a class-balanced logistic regression."""
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)),
            # Chinese has no spaces: to it the characters are the words.
            ("characters", TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=3, sublinear_tf=True)),
        ]
    )
    model = make_pipeline(features, LogisticRegression(C=5, max_iter=300, class_weight="balanced"))
    model.fit(list(texts), labels)
    found = np.zeros((len(judged), classes))
    found[:, model.classes_] = model.predict_proba(list(judged))
    return found


def vader(judged: Sequence[str]) -> NDArray[np.int64]:
    """(judged,) labels 0 negative, 1 neutral, 2 positive by the lexicon; it knows no language but English."""
    scores = english_lexicon.compound(judged)
    return np.where(scores > _VADER_NEUTRAL, 2, np.where(scores < -_VADER_NEUTRAL, 0, 1)).astype(np.int64)
