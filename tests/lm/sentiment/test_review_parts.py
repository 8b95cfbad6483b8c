"""Near-copies and pieces of a review stay in one part; a common phrase joins no reviews."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from lm.sentiment.review_parts import FOLDS, _groups, parts_of
from lm.text.splits import split_of

SYLLABLES = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "au", "ei")]


def sentences(count, words=12, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choice(SYLLABLES) + rng.choice(SYLLABLES) for _ in range(words)) for _ in range(count)]


def pieces(sentence):
    words = sentence.split()
    return [sentence, " ".join(words[:9]), " ".join(words[1:10]), " ".join(words[3:6]), " ".join(words[8:])]


def test_pieces_of_a_sentence_are_of_its_group_and_others_are_not():
    whole = sentences(200)
    _, group = _groups([piece for sentence in whole for piece in pieces(sentence)])
    of = group.reshape(200, 5)
    assert (of == of[:, :1]).all()
    assert len(np.unique(of[:, 0])) == 200


def test_a_word_of_many_reviews_is_of_none_and_with_its_copies():
    texts = [*(f"{sentence} great" for sentence in sentences(200)), "great", "Great!", "GREAT"]
    _, group = _groups(texts)
    assert len(np.unique(group[-3:])) == 1
    assert not np.isin(group[-3:], group[:-3]).any()


def test_what_a_hundredth_of_all_texts_says_joins_nothing():
    phrase = "one two three four five six seven eight"
    texts = [f"{sentence} {phrase}" if i % 4 == 0 else sentence for i, sentence in enumerate(sentences(400))]
    assert len(np.unique(_groups(texts)[1])) == 400


def test_eight_folds_train_for_one_that_validates_and_pieces_do_not_judge():
    texts = [piece for sentence in sentences(3000) for piece in pieces(sentence)]
    parts = parts_of(texts)
    test = [split_of(whole) == "test" for whole in texts[::5]]
    assert parts.rows("test").tolist() == [i for i in range(len(texts)) if test[i // 5]]
    for fold in range(FOLDS):
        kept_out = len(parts.rows("validation", fold)) + len(parts.rows("aside", fold))
        assert 0.08 < kept_out / len(texts) < 0.12
        side = np.empty(len(texts), dtype=object)
        for part in ("train", "validation", "aside", "test"):
            side[parts.rows(part, fold)] = part
        sides = side.reshape(3000, 5)
        for sentence in sides:
            assert set(sentence) in ({"train"}, {"test"}, {"validation", "aside"}), "near-copies are on one side"
        short = Counter(sides[sides[:, 0] == "validation"][:, 3:].ravel().tolist())
        assert set(short) == {"aside"}


def test_what_many_write_is_never_kept_from_training():
    """An unlucky hash would have the model guess, every night, at the most frequent text of all."""
    texts = sentences(1000)
    often = next(f"stock phrase {i}" for i in range(99) if split_of(f"stock phrase {i}") == "test")
    for copies, known in ((15, False), (21, True), (600, True)):
        shop = [*texts, *[often] * (copies - 1), often.upper()]
        parts = parts_of(shop)
        is_test = np.isin(np.arange(len(shop)), parts.rows("test"))
        assert is_test[1000:].tolist() == [not known] * copies
        assert is_test[:1000].tolist() == [split_of(text) == "test" for text in texts]
        assert len(set(parts.fold[1000:].tolist())) == 1
    assert 3024 in parts_of([*texts * 3, *[often] * 25]).rows("test")  # less than a hundredth


def test_every_text_that_is_no_piece_judges_once_and_trains_otherwise():
    texts = sentences(1000)
    parts = parts_of(texts)
    every = set(range(1000)) - set(parts.rows("test").tolist())
    judging = [parts.rows("validation", fold).tolist() for fold in range(FOLDS)]
    assert sorted(row for rows in judging for row in rows) == sorted(every)
    for fold, rows in enumerate(judging):
        assert set(parts.rows("train", fold).tolist()) == every - set(rows)


def test_parts_do_not_depend_on_the_order():
    texts = [piece for sentence in sentences(300) for piece in pieces(sentence)] + ["", "😀", "很好", "good"] * 3
    order = np.random.default_rng(0).permutation(len(texts))
    parts, shuffled = parts_of(texts), parts_of([texts[i] for i in order])
    assert shuffled.fold.tolist() == parts.fold[order].tolist()
    assert shuffled.judges.tolist() == parts.judges[order].tolist()
