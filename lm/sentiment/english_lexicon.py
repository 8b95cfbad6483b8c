"""What a lexicon of English says of a text: what a shop with a few hundred reviews has not seen yet.

VADER (Hutto & Gilbert, ICWSM 2014) knows 7,500 rated words, emoticons and emoji, negation and degree; of a text without
any of them, as most Chinese ones, it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from lm.text.ngram_counts import both_ends

#: Characters; of a longer text its two ends are read: its time grows with the square of the words.
_LONGEST = 4000


def compound(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts,) from -1, all bad, to 1, all good; 0 where no word is known."""
    return np.array(
        [_analyzer().polarity_scores(both_ends(text, _LONGEST))["compound"] for text in texts], dtype=np.float64
    )


def logits(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, 3) the same for and against the labels negative, neutral and positive."""
    return compound(texts)[:, None] * np.array([-1.0, 0.0, 1.0])


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
