"""N-grams: counted as by hand, equal in any company, learned for each category, and read back from the disk."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from jobs.scoring import models
from jobs.spark.errors import ConfigurationError
from lm.checkpoint.checkpoint import NGRAMS_FILE, NGRAMS_VERSION, CheckpointError
from lm.sentiment import ngrams
from lm.sentiment.fit_ngrams import _inverse_frequencies, _shared, affordable, fit_ngrams
from lm.sentiment.ngrams import Ngrams, normalise
from tests.models import save_classifier

ENGLISH = ["not good at all", "very good indeed", "not bad at all", "bad, very bad"] * 5
CHINESE = ["质量很好", "质量很差", "不好用", "好用"] * 5
LABELS = np.array([0, 2, 2, 0] * 5 + [2, 0, 0, 2] * 5)
NONE = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def model():
    return fit_ngrams(ENGLISH + CHINESE, LABELS, 3)


def counted(texts, hashes=None, known=NONE):
    """The matrices of all texts, by kind."""
    hashes = np.zeros(len(texts), np.int64) if hashes is None else hashes
    return list(ngrams.count_ngrams(texts, hashes, known))


def bucket_of(word):
    """The bucket of a word among the features of words."""
    return counted([word])[0][1].indices[0]


@given(st.lists(st.text(max_size=30), max_size=4))
def test_counts_are_those_counted_by_hand(texts):
    found = counted(texts)
    assert len(found) == (1 if texts else 0)
    for row, text in enumerate(texts):
        shown = normalise(text)
        letters = [shown[i : i + n] for n in range(1, 7) for i in range(len(shown) - n + 1)]
        words = "".join(c if c.isalnum() else " " for c in shown).split()
        for block, expected in zip(found[0], (letters, [*words, *pairwise(words)], [], []), strict=True):
            logs = np.sort([1 + np.log(expected.count(one)) for one in set(expected)])
            np.testing.assert_allclose(np.sort(block[[row]].data), logs)


def test_learns_two_words_and_two_languages(model):
    found = model.logits(["not good", "not bad", "很好", "很差"])
    assert found.argmax(axis=1).tolist() == [0, 2, 2, 0]
    assert (found[:, 1] < found.max(axis=1) - 2).all()  # no text is neutral


def test_a_text_has_the_same_bits_in_any_company(model, monkeypatch):
    whole = model.logits(ENGLISH + CHINESE)
    assert (np.concatenate([model.logits([text]) for text in ENGLISH + CHINESE]) == whole).all()
    monkeypatch.setattr(ngrams, "_TEXTS_AT_ONCE", 7)
    assert (model.logits(ENGLISH + CHINESE) == whole).all()
    again = fit_ngrams(ENGLISH + CHINESE, LABELS, 3)
    assert all((values == getattr(again, name)).all() for name, values in vars(model).items())


def test_unknown_and_empty_texts_have_the_bias(model):
    assert model.logits([]).shape == (0, 3)
    np.testing.assert_allclose(model.logits(["", "😀"]), np.stack([model.bias, model.bias]), rtol=1e-6)


def test_a_label_without_texts_keeps_the_logit_of_its_share():
    model = fit_ngrams(ENGLISH, LABELS[:20], 3)
    assert (model.weight[:, 1] == 0).all()
    assert model.bias[1] == pytest.approx(np.log(0.5 / 20))


def test_a_word_weighs_by_what_it_says_of_the_label():
    texts = ["good thing"] * 6 + ["bad thing"] * 2 + ["good", "bad"]
    model = fit_ngrams(texts, np.array([2] * 6 + [0] * 2 + [2, 0]), 3)
    _, words, *_ = np.split(model.buckets, model.ends[:-1])
    at = {word: model.ends[0] + words.tolist().index(bucket_of(word)) for word in ("good", "bad", "thing")}
    assert model.scale[at["good"]] == pytest.approx(np.log((8 / 9) / (1 / 5)))
    assert model.scale[at["thing"]] == pytest.approx(abs(np.log((7 / 9) / (3 / 5))))


def test_with_tfidf_the_logits_are_the_mean_of_two_models(monkeypatch, tmp_path):
    texts = ["good thing"] * 6 + ["bad thing"] * 2 + ["good", "bad"]
    labels = np.array([2] * 6 + [0] * 2 + [2, 0])
    both, ratios = (fit_ngrams(texts, labels, 3, with_tfidf=on) for on in (True, False))
    second = both.scale[len(ratios.scale) :]
    words = both.buckets[both.ends[4] : both.ends[5]].tolist()
    rarity = {word: second[both.ends[0] + words.index(bucket_of(word))] for word in ("good", "thing")}
    assert rarity == {
        "good": pytest.approx(1 + np.log((1 + 10) / (1 + 7))),
        "thing": pytest.approx(1 + np.log((1 + 10) / (1 + 8))),
    }
    monkeypatch.setattr("lm.sentiment.fit_ngrams._log_ratios", _inverse_frequencies)
    monkeypatch.setattr(
        "lm.sentiment.fit_ngrams.LogisticRegression",
        lambda **options: LogisticRegression(**options | {"class_weight": "balanced"}),
    )
    tfidf = fit_ngrams(texts, labels, 3)
    asked = ["good", "bad thing", "thing", "neither"]
    expected = (ratios.logits(asked) + tfidf.logits(asked)) / 2
    np.testing.assert_allclose(both.logits(asked), expected, rtol=1e-5)
    assert not np.allclose(ratios.logits(asked), tfidf.logits(asked))
    both.save(tmp_path)
    assert (Ngrams.load(tmp_path).logits(asked) == both.logits(asked)).all()


def test_each_kind_of_features_has_length_1(model):
    texts = ["very good indeed", "not good at all, very bad indeed", "😀"]
    kept = np.split(model.buckets, model.ends[:-1])
    counts = [ngrams.select_columns(*of) for of in zip(counted(texts)[0], kept, strict=True)]
    weighed = ngrams.weigh_features(counts, model.scale, model.ends)
    for kind in (weighed[:, : model.ends[0]], weighed[:, model.ends[0] :]):
        np.testing.assert_allclose(scipy.sparse.linalg.norm(kind, axis=1), [1, 1, 0])


@pytest.mark.parametrize("lost", ["buckets", "ends", "weight"])
def test_a_file_that_lacks_a_part_is_named(model, tmp_path, lost):
    model.save(tmp_path)
    tensors = load_file(tmp_path / NGRAMS_FILE)
    del tensors[lost]
    save_file(tensors, tmp_path / NGRAMS_FILE, {"version": NGRAMS_VERSION})
    with pytest.raises(CheckpointError, match=r"ngrams\.safetensors cannot be read"):
        Ngrams.load(tmp_path)


def test_more_texts_than_memory_should_hold_are_left_out(monkeypatch):
    monkeypatch.setattr("lm.sentiment.fit_ngrams.MOST_CHARACTERS", 5)
    assert [affordable(texts) for texts in ([], ["ab"], ["ab", "abc"], ["ab", "abcd", ""])] == [0, 1, 2, 1]
    monkeypatch.setattr("lm.sentiment.fit_ngrams.MOST_CHARACTERS", 30_000_000)
    assert affordable(["x" * 10**9]) == 1
    monkeypatch.setattr("lm.sentiment.fit_ngrams.MOST_CHARACTERS", 8)
    about = (None, ["", ""], ["", "x"], ["x", "x"])
    assert [affordable(["abc", "de"], categories) for categories in about] == [2, 2, 2, 1]


def test_only_the_ends_of_a_long_text_are_read(model):
    middle = model.logits(["x" * 30_000 + " not bad " + "x" * 30_000])
    ends = model.logits(["x" * 30_000 + " not bad"])
    assert not np.allclose(middle, ends)


def test_is_kept_and_a_broken_file_is_named(model, tmp_path):
    model.save(tmp_path)
    assert (Ngrams.load(tmp_path).logits(ENGLISH) == model.logits(ENGLISH)).all()
    (tmp_path / "ngrams.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"ngrams\.safetensors cannot be read"):
        Ngrams.load(tmp_path)
    assert Ngrams.load(tmp_path / "elsewhere") is None


def test_a_file_of_another_release_is_refused(model, tmp_path):
    save_classifier(tmp_path)
    tensors = {name: np.ascontiguousarray(values) for name, values in vars(model).items()}
    save_file(tensors, tmp_path / NGRAMS_FILE, {"version": "3"})
    with pytest.raises(CheckpointError, match="of another release: train the model again"):
        Ngrams.load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"models\.sentiment: .*of another release.*\n.*regulars train"):
        models.find("sentiment", str(tmp_path), "regulars.yaml")


def test_a_word_may_be_bad_of_one_thing_and_good_of_another(tmp_path, monkeypatch):
    texts = ["so cold", "so cold", "so warm", "so warm", "awful", "lovely"] * 10
    about = ["soup", "beer", "soup", "beer", "soup", "beer"] * 10
    labels = np.array([0, 2, 2, 0, 0, 2] * 10)
    plain = fit_ngrams(texts, labels, 3, ["soup"] * len(texts))
    by_category = fit_ngrams(texts, labels, 3, about)
    assert (plain.weight == fit_ngrams(texts, labels, 3).weight).all()
    asked = ["cold", "cold", "warm", "warm"]
    found = by_category.logits(asked, [" Soup", "beer", "soup", "beer"])
    assert found.argmax(axis=1).tolist() == [0, 2, 2, 0]
    assert by_category.logits(["lovely", "awful"], ["", "lamps"]).argmax(axis=1).tolist() == [2, 0]
    assert (by_category.logits(asked) == by_category.logits(asked, ["lamps"] * 4)).all()

    whole = by_category.logits(texts, about)
    monkeypatch.setattr(ngrams, "_TEXTS_AT_ONCE", 7)
    assert (by_category.logits(texts, about) == whole).all()
    for model, knows in ((plain, False), (by_category, True)):
        save_classifier(tmp_path)
        model.save(tmp_path)
        assert (Ngrams.load(tmp_path).logits(texts, about) == model.logits(texts, about)).all()
        assert models.find("sentiment", str(tmp_path), "regulars.yaml").reads_category == knows
    assert not models.find("sentiment", str(save_classifier(tmp_path / "without")), "regulars.yaml").reads_category


def test_copies_are_of_known_categories_and_differ_between_them():
    known = np.array([5, 9])
    texts, hashes = ["good", "good", "good", "good"], np.array([0, 5, 9, 7])
    *_, characters, words = counted(texts, hashes, known)[0]
    assert np.diff(words.indptr).tolist() == [0, 1, 1, 0]
    first, second = words.indices
    assert first != second
    assert np.diff(characters.indptr).tolist() == [0, 9, 9, 0]  # g o d go oo od goo ood good


def test_an_ngram_is_kept_from_the_least_number_of_writers_on():
    counts = scipy.sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]))
    one_writer_twice = np.array([0, 1, 2, 2])
    assert _shared([counts], one_writer_twice, 2).tolist() == [0, 1]
    assert _shared([counts], one_writer_twice, 3).tolist() == [1]
    assert _shared([counts], one_writer_twice, 4).tolist() == []
