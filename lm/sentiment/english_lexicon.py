"""Rates a text by a lexicon of English, which knows words that a shop with few reviews has not seen yet.

VADER (Hutto & Gilbert, ICWSM 2014) knows 7,500 rated words, emoticons and emoji, negation and degree. It rates a text
without any of them, such as most Chinese texts, as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from lm.sentiment.ngrams import both_ends

#: Characters; VADER's time grows with the square of the words, so only the two ends of a longer text are read.
_LONGEST = 4000


def compound(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts,) compound scores from -1 (negative) to 1 (positive); 0 where no word is known."""
    return np.array(
        [_analyzer().polarity_scores(both_ends(text, _LONGEST))["compound"] for text in texts], dtype=np.float64
    )


def logits(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, 3) logits of the labels negative, neutral and positive: minus the compound score, 0, the score."""
    return compound(texts)[:, None] * np.array([-1.0, 0.0, 1.0])


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
