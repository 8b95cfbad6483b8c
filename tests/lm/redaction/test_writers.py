"""Only what enough different customers wrote becomes a part of a vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from lm.checkpoint.tokenizer import train_bpe
from lm.redaction.writers import common, known_writers
from lm.sentiment.fit_ngrams import fit_ngrams
from lm.sentiment.ngrams import count_ngrams

NOBODYS = np.zeros(1, np.int64)


def test_a_piece_needs_different_writers():
    pieces = [{"a", "b"}, {"a", "b"}, {"b"}, {"c"}]
    assert common(pieces, ["anna", "anna", "ben", None], 2) == {"b", "c"}
    assert common(pieces, ["anna", "anna", "ben", None], 1) == {"a", "b", "c"}


def test_one_name_for_all_texts_says_nothing_about_their_writers():
    assert len(set(known_writers(["nobody"] * 3, 3))) == 3
    assert len(set(known_writers(None, 3))) == 3
    assert known_writers(["a", None, "b"], 3) == ["a", None, "b"]
    assert known_writers([None, "a", "a"], 3)[0] is None


def texts_of(word: str, customers: int) -> tuple[list[str], list[str | None]]:
    """Reviews of 30 customers, of whom some write a rare word often, and a title of the shop."""
    writers: list[str | None] = [f"c{i % 30}" for i in range(300)]
    texts = [f"the lamp is bright {word if i % 30 < customers else 'and'} solid" for i in range(300)]
    return [*texts, "Quartzkettle"] * 2, [*writers, None] * 2


@pytest.mark.parametrize("folded", [False, True])
def test_no_token_spells_what_few_customers_wrote(folded):
    few, many = (
        train_bpe(texts, 400, folded=folded, writers=writers, min_writers=5).get_vocab()
        for texts, writers in (texts_of("zanzibarski", 4), texts_of("zanzibarski", 5))
    )
    assert not any("zanzi" in token for token in few)
    assert any("zanzi" in token for token in many)
    assert any("artzk" in token for token in few)  # the shop's word
    assert any("bright" in token for token in few)


@pytest.mark.parametrize("folded", [False, True])
def test_the_vocabulary_is_that_of_all_words_where_all_are_common(folded):
    texts, writers = texts_of("zanzibarski", 5)
    plain = train_bpe(texts, 350, folded=folded)
    assert train_bpe(texts, 350, folded=folded, writers=writers, min_writers=5).to_str() == plain.to_str()


def test_a_small_shop_keeps_the_bytes():
    tokenizer = train_bpe(["hello there"] * 9, 400, writers=["a", "b", "c"] * 3, min_writers=5)
    assert tokenizer.get_vocab_size() == 257
    assert tokenizer.decode(tokenizer.encode("hello Ж").ids) == "hello Ж"


def buckets_of(word: str) -> set[int]:
    (block,) = list(count_ngrams([word], NOBODYS, NOBODYS[:0]))
    return set(block[1].indices.tolist())


def test_no_feature_is_an_ngram_of_few_customers():
    labels = np.array([0, 1] * 30)
    writers = [f"c{i % 30}" for i in range(60)]
    for customers, is_feature in ((4, False), (5, True)):
        texts = [f"good lamp {'zanzibarski' if i % 30 < customers else 'it'} is" for i in range(60)]
        model = fit_ngrams(texts, labels, 2, writers=writers, min_writers=5)
        words = set(model.buckets[model.ends[0] : model.ends[1]].tolist())
        assert bool(buckets_of("zanzibarski") & words) == is_feature


def test_a_shop_without_common_ngrams_knows_the_shares_of_labels():
    model = fit_ngrams(["good", "bad", "good"], np.array([1, 0, 1]), 2, writers=["a", "b", "c"], min_writers=5)
    logits = model.logits(["good", "anything"])
    assert logits.shape == (2, 2)
    assert (logits[:, 1] > logits[:, 0]).all()
