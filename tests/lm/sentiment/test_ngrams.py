"""N-grams counted in numpy: the same as counted by hand, the same in any company, and back from the disk."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from jobs.scoring import models
from jobs.spark.errors import ConfigurationError
from lm.checkpoint.checkpoint import NGRAMS_FILE, NGRAMS_VERSION, CheckpointError
from lm.sentiment import ngrams
from lm.sentiment.ngrams import Design, Ngrams
from lm.text import ngram_counts
from lm.text.ngram_counts import normalise
from tests.models import save_classifier

ENGLISH = ["not good at all", "very good indeed", "not bad at all", "bad, very bad"] * 5
CHINESE = ["质量很好", "质量很差", "不好用", "好用"] * 5
LABELS = np.array([0, 2, 2, 0] * 5 + [2, 0, 0, 2] * 5)


@pytest.fixture(scope="module")
def head():
    return Ngrams.fit_each(ENGLISH + CHINESE, LABELS, 3, [Design(100.0)])[0]


def by_hand(text, longest):
    """(characters, words): the n-grams of a text."""
    shown = normalise(text)
    letters = [shown[i : i + n] for n in range(1, longest + 1) for i in range(len(shown) - n + 1)]
    words = "".join(c if c.isalnum() else " " for c in shown).split()
    return letters, [*words, *pairwise(words)]


@given(st.lists(st.text(max_size=30), max_size=4), st.integers(1, 7))
def test_counts_are_those_counted_by_hand(texts, longest):
    found = list(ngram_counts.ngram_counts(texts, longest))
    assert len(found) == (1 if texts else 0)
    for row, text in enumerate(texts):
        for block, expected in zip(found[0], by_hand(text, longest), strict=True):
            times = np.sort(block[[row]].data)
            counts = np.sort([1 + np.log(expected.count(one)) for one in set(expected)])
            np.testing.assert_allclose(times, counts)


def test_learns_two_words_and_two_languages(head):
    for p in head.logits(["not good", "not bad", "很好", "很差"]):
        assert p.argmax(axis=1).tolist() == [0, 2, 2, 0]
        assert (p[:, 1] < p.max(axis=1) - 2).all()  # no text is neutral


def test_a_weaker_penalty_makes_larger_weights():
    heads = Ngrams.fit_each(ENGLISH + CHINESE, LABELS, 3, [Design(1.0), Design(5.0), Design(25.0)])
    sizes = [np.abs(head.weight).max() for head in heads]
    assert sizes[0] * 1.2 < sizes[1] < sizes[2] / 1.2


def test_of_equal_texts_in_any_company_the_bits_are_equal(head, monkeypatch):
    whole = head.logits(ENGLISH + CHINESE)
    assert (np.concatenate([head.logits([text]) for text in ENGLISH + CHINESE], axis=1) == whole).all()
    monkeypatch.setattr(ngram_counts, "_TEXTS_AT_ONCE", 7)
    assert (head.logits(ENGLISH + CHINESE) == whole).all()
    [again] = Ngrams.fit_each(ENGLISH + CHINESE, LABELS, 3, [Design(100.0)])
    assert all((values == getattr(again, name)).all() for name, values in vars(head).items())


def test_unknown_and_empty_texts_have_the_bias(head):
    assert head.logits([]).shape == (2, 0, 3)
    np.testing.assert_allclose(head.logits(["", "😀"]), np.stack([head.bias, head.bias], axis=1), rtol=1e-6)


def test_a_word_weighs_by_how_rare_it_is_and_by_what_it_says_of_the_label():
    texts = ["good thing"] * 6 + ["bad thing"] * 2 + ["good", "bad"]
    labels = np.array([2] * 6 + [0] * 2 + [2, 0])
    [fitted] = Ngrams.fit_each(texts, labels, 3, [Design(1.0)])
    rarity, says = fitted.scales
    where = {word: next(ngram_counts.ngram_counts([word], 4))[1].indices[0] for word in ("good", "bad", "thing")}
    words = fitted.words.tolist()
    at = {word: len(rarity) - len(words) + words.index(bucket) for word, bucket in where.items()}
    assert rarity[at["bad"]] == pytest.approx(np.log(11 / 4) + 1)
    assert rarity[at["bad"]] > rarity[at["good"]] > rarity[at["thing"]]
    assert says[at["good"]] == pytest.approx(np.log((8 / 9) / (1 / 5)))
    assert says[at["thing"]] == pytest.approx(abs(np.log((7 / 9) / (3 / 5))))


def test_a_text_is_as_long_as_another(head):
    [block] = ngram_counts.ngram_counts(["good", "not good at all, very bad indeed", "😀"], 4)
    counts = ngrams._known(block, (head.characters, head.words))
    for of in range(2):
        lengths = scipy.sparse.linalg.norm(head._weighed(counts, of), axis=1)
        np.testing.assert_allclose(lengths, [1, 1, 0])
    apart = replace(head, apart=np.array(True))._weighed(counts, 0)  # by rarity, which is never 0
    for part in (apart[:, : len(head.characters)], apart[:, len(head.characters) :]):
        np.testing.assert_allclose(scipy.sparse.linalg.norm(part, axis=1), [1, 1, 0])


def test_designs_that_see_different_ngrams_are_kept_so(tmp_path):
    designs = [Design(3.0), Design(3.0, apart=True), Design(3.0, characters=6), Design(1.0)]
    heads = Ngrams.fit_each(ENGLISH + CHINESE, LABELS, 3, designs)
    for i, (head, design) in enumerate(zip(heads, designs, strict=True)):
        head.save(tmp_path)
        again = Ngrams.load(tmp_path)
        assert (again.apart, again.longest) == (design.apart, design.characters)
        assert (again.logits(ENGLISH) == head.logits(ENGLISH)).all()
        assert all(np.abs(head.logits(ENGLISH) - other.logits(ENGLISH)).max() > 0.01 for other in heads[:i])
        assert all((Ngrams.fit_each(ENGLISH + CHINESE, LABELS, 3, [design])[0].weight == head.weight).ravel())


@pytest.mark.parametrize("lost", ["apart", "longest", "weight"])
def test_a_file_that_lacks_a_part_is_named(head, tmp_path, lost):
    head.save(tmp_path)
    tensors = load_file(tmp_path / NGRAMS_FILE)
    del tensors[lost]
    save_file(tensors, tmp_path / NGRAMS_FILE, {"version": NGRAMS_VERSION})
    with pytest.raises(CheckpointError, match=r"ngrams\.safetensors cannot be read"):
        Ngrams.load(tmp_path)


def test_more_texts_than_memory_should_hold_are_left_out(monkeypatch):
    monkeypatch.setattr(ngrams, "MOST_CHARACTERS", 5)
    assert [ngrams.affordable(texts) for texts in ([], ["ab"], ["ab", "abc"], ["ab", "abcd", ""])] == [0, 1, 2, 1]
    monkeypatch.setattr(ngrams, "MOST_CHARACTERS", 30_000_000)
    assert ngrams.affordable(["x" * 10**9]) == 1


def test_long_texts_have_two_ends(head):
    middle = head.logits(["x" * 30_000 + " not bad " + "x" * 30_000])
    ends = head.logits(["x" * 30_000 + " not bad"])
    assert not np.allclose(middle, ends)


def test_is_kept_and_a_broken_file_is_named(head, tmp_path):
    head.save(tmp_path)
    assert (Ngrams.load(tmp_path).logits(ENGLISH) == head.logits(ENGLISH)).all()
    (tmp_path / "ngrams.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"ngrams\.safetensors cannot be read"):
        Ngrams.load(tmp_path)
    assert Ngrams.load(tmp_path / "elsewhere") is None


def test_a_file_of_the_release_with_other_lengths_is_refused(head, tmp_path):
    save_classifier(tmp_path)
    save_file({name: np.ascontiguousarray(values) for name, values in vars(head).items()}, tmp_path / NGRAMS_FILE)
    with pytest.raises(CheckpointError, match="of another release: train the model again"):
        Ngrams.load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"models\.sentiment: .*of another release.*\n.*regulars train"):
        models.find("sentiment", str(tmp_path), "regulars.yaml")


def test_a_word_may_be_bad_of_one_thing_and_good_of_another(tmp_path, monkeypatch):
    texts = ["so cold", "so cold", "so warm", "so warm", "awful", "lovely"] * 10
    about = ["soup", "beer", "soup", "beer", "soup", "beer"] * 10
    labels = np.array([0, 2, 2, 0, 0, 2] * 10)
    designs = [Design(100.0), Design(100.0, by_category=True)]
    plain, by_category = Ngrams.fit_each(texts, labels, 3, designs, categories=about)
    assert (plain.weight == Ngrams.fit_each(texts, labels, 3, designs[:1])[0].weight).all()
    asked = ["cold", "cold", "warm", "warm"]
    for p in by_category.logits(asked, [" Soup", "beer", "soup", "beer"]):
        assert p.argmax(axis=1).tolist() == [0, 2, 2, 0]
    for p in by_category.logits(["lovely", "awful"], ["", "lamps"]):  # what all categories share
        assert p.argmax(axis=1).tolist() == [2, 0]
    assert (by_category.logits(asked) == by_category.logits(asked, ["lamps"] * 4)).all()

    whole = by_category.logits(texts, about)
    monkeypatch.setattr(ngram_counts, "_TEXTS_AT_ONCE", 7)
    assert (by_category.logits(texts, about) == whole).all()
    for head, knows in ((plain, False), (by_category, True)):
        save_classifier(tmp_path)
        head.save(tmp_path)
        assert (Ngrams.load(tmp_path).logits(texts, about) == head.logits(texts, about)).all()
        assert models.find("sentiment", str(tmp_path), "regulars.yaml").reads_category == knows
    assert not models.find("sentiment", str(save_classifier(tmp_path / "without")), "regulars.yaml").reads_category


def test_a_file_of_before_categories_is_read(head, tmp_path):
    before = {name: np.ascontiguousarray(values) for name, values in vars(head).items()}
    del before["categories"], before["copies"]
    save_classifier(tmp_path)
    save_file(before, tmp_path / NGRAMS_FILE, {"version": NGRAMS_VERSION})
    assert (Ngrams.load(tmp_path).logits(ENGLISH, ["soup"] * len(ENGLISH)) == head.logits(ENGLISH)).all()
    assert not models.find("sentiment", str(tmp_path), "regulars.yaml").reads_category


def test_texts_with_copies_need_twice_the_memory(monkeypatch):
    monkeypatch.setattr(ngrams, "MOST_CHARACTERS", 8)
    assert [ngrams.affordable(["abc", "de"], about) for about in (None, ["", ""], ["", "x"], ["x", "x"])] == [
        2,
        2,
        2,
        1,
    ]
