"""The lexicon of English: what it says, where it is silent, and that no text takes long."""

from __future__ import annotations

import numpy as np

from lm.sentiment import english_lexicon


def test_says_good_bad_and_not_good_and_nothing_of_unknown_words():
    good, bad, not_good, unknown, chinese, empty = english_lexicon.compound(
        ["a lovely lamp", "a horrible lamp", "the lamp is not good", "a lamp", "质量很好", ""]
    )
    assert good > 0.3
    assert max(bad, not_good) < -0.3
    assert unknown == chinese == empty == 0


def test_logits_are_for_one_label_and_against_the_other():
    found = english_lexicon.logits(["a lovely lamp", "a lamp"])
    assert found[0].tolist() == [-found[0, 2], 0, found[0, 2]]
    assert found[0, 2] > 0
    assert (found[1] == 0).all()
    assert english_lexicon.logits([]).shape == (0, 3)


def test_of_a_long_text_both_ends_are_read():
    middle, end = "x " * 40_000 + "lovely" + " x" * 40_000, "x " * 40_000 + "lovely"
    assert english_lexicon.compound([middle])[0] == 0
    assert english_lexicon.compound([end])[0] > 0.3
    alone = english_lexicon.compound(["good"])
    np.testing.assert_array_equal(english_lexicon.compound([end, "good"])[1:], alone)
