"""Training the classifier on reviews whose words fit their stars."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lm.checkpoint.checkpoint import load_tokenizer
from lm.checkpoint.manifest import read_manifest
from lm.checkpoint.tokenizer import PADDING
from lm.sentiment import english_lexicon
from lm.sentiment.calibration import softmax
from lm.sentiment.classifier import SentimentClassifier
from lm.sentiment.labels import UNRATED
from lm.sentiment.ngrams import Ngrams
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.review_parts import Parts
from lm.sentiment.train_sentiment import SentimentSettings, _Classification, _counted, train_sentiment
from lm.text.prompt import PromptEncoder
from lm.text.splits import split_of
from lm.train.private_steps import PrivacyBudget
from lm.train.training_state import TrainingError
from tests.models import save_causal
from tests.opinions import FILLER, WORDS

TINY = SentimentSettings(
    n_embd=24,
    n_layer=1,
    vocab_size=300,
    max_tokens=40,
    dropout=0.1,
    learning_rate=1e-2,
    batch_tokens=250,
    max_epochs=12,
    min_steps=0,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def reviews(count=500, seed=0, shares=(0.2, 0.2, 0.6)):
    rng = random.Random(seed)
    labels = rng.choices((0, 1, 2), shares, k=count)
    texts = [
        " ".join([*rng.choices(FILLER, k=6), rng.choice(WORDS[label]), *rng.choices(FILLER, k=3)]) for label in labels
    ]
    return texts, labels


def all_train(count):
    return Parts(np.ones(count, dtype=np.int64), np.ones(count, dtype=bool), np.arange(count, dtype=np.uint64))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("models") / "sentiment"
    texts, labels = reviews()
    unrated = [f"unheard words number {i}" for i in range(40)]
    figures = train_sentiment(texts + unrated, labels + [UNRATED] * 40, TINY, out, window={"as_of": "2026-01-01"})
    return out, figures


def test_learns_what_the_words_say(trained):
    _, figures = trained
    assert figures["accuracy"] > 0.9 > figures["majority_accuracy"]
    assert figures["macro_f1"] > 0.9 > 2 * figures["majority_macro_f1"]
    assert figures["accuracy_low"] <= figures["accuracy"] <= figures["accuracy_high"]
    assert 0 <= figures["expected_calibration_error"] < 0.1


def test_a_training_with_differential_privacy_tells_what_it_covers(tmp_path):
    settings = replace(TINY, privacy=PrivacyBudget(epsilon=8.0, batch=40), pretrain_epochs=0, max_epochs=1, min_steps=8)
    texts, labels = reviews(240)
    figures = train_sentiment(texts, labels, settings, tmp_path / "model")
    told = read_manifest(tmp_path / "model").training["privacy"]
    assert told["unit"] == "one review"
    assert told["steps"] >= 8
    assert 7.9 < told["epsilon"] <= 8
    assert "n-grams" in told["not_covered"]
    assert figures["reviews"] > 0
    with pytest.raises(TrainingError, match="pretrain_epochs: this learns without noise"):
        train_sentiment(texts, labels, replace(settings, pretrain_epochs=1), tmp_path / "other")


def test_the_engine_gives_the_probabilities_that_were_judged(trained):
    out, figures = trained
    texts, labels = reviews()
    test = [i for i, text in enumerate(texts) if split_of(text) == "test"]
    assert len(test) == figures["reviews"]
    judged = SentimentClassifier.load(out, dtype="float32", threads=1).judge([texts[i] for i in test], TINY.max_tokens)
    assert (judged.label == np.array([labels[i] for i in test])).mean() == pytest.approx(figures["accuracy"])
    assert not judged.shortened.any()


def test_hugging_face_gives_the_same_probabilities_but_for_the_ngrams_in_a_padded_batch(trained):
    out, _ = trained
    texts = ["awful", "it was lovely and great in my kitchen", "the lamp was okay"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert tokenizer.pad_token == PADDING
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)).logits
    manifest = read_manifest(out)
    ngrams = manifest.ngram_weight * Ngrams.load(out).logits(texts)
    lexicon = manifest.lexicon_weight * english_lexicon.logits(texts)
    clean = softmax(logits.double().numpy() / manifest.temperature + ngrams + lexicon + manifest.offsets)
    theirs = clean @ np.array(manifest.lapses)
    ours = SentimentClassifier.load(out, dtype="float32", threads=1).classify(texts, TINY.max_tokens)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert model.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}


def test_the_manifest_says_how_it_came_about(trained):
    out, figures = trained
    manifest = read_manifest(out)
    assert (manifest.task, manifest.labels) == ("sentiment", ["negative", "neutral", "positive"])
    assert manifest.metrics == figures
    assert manifest.temperature != 1
    assert manifest.ngram_weight > 0
    assert manifest.training["window"] == {"as_of": "2026-01-01"}
    assert {line["stage"] for line in manifest.training["lines"]} == {"finetune"}
    assert len(manifest.training["lines"]) >= manifest.training["epochs"]
    assert [path.name for path in out.parent.iterdir()] == ["sentiment"]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    short = SentimentSettings(**(vars(TINY) | {"max_epochs": 1}))
    for name in ("a", "b"):
        train_sentiment(*reviews(200), short, tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_stars_that_contradict_their_words_take_no_sureness_from_the_others(tmp_path):
    texts, labels = reviews(1500, shares=(0.4, 0.1, 0.5))
    swapped = random.Random(1).sample(range(1500), 90)
    for i in swapped:
        labels[i] = 2 - labels[i]
    train_sentiment(texts, labels, TINY, tmp_path / "model")
    unseen, true = reviews(300, seed=9, shares=(0.4, 0.1, 0.5))
    p = SentimentClassifier.load(tmp_path / "model", dtype="float32", threads=1).classify(unseen, 40)
    sure = p[np.arange(300), true][np.array(true) != 1]
    assert np.quantile(sure, 0.02) > 0.85
    assert sure.max() < 0.995


def test_without_ngrams_gpt2_stands_alone(tmp_path):
    alone = SentimentSettings(**(vars(TINY) | {"max_epochs": 1, "ngrams": False}))
    train_sentiment(*reviews(200), alone, tmp_path / "model")
    assert Ngrams.load(tmp_path / "model") is None
    assert read_manifest(tmp_path / "model").ngram_weight == 0
    assert SentimentClassifier.load(tmp_path / "model").classify(["lovely"], 40).shape == (1, 3)


def test_a_rare_class_is_not_given_up(tmp_path):
    longer = SentimentSettings(**(vars(TINY) | {"patience": 12}))
    figures = train_sentiment(*reviews(1500, shares=(0.07, 0.07, 0.86)), longer, tmp_path / "model")
    assert figures["majority_accuracy"] > 0.8
    assert figures["balanced_accuracy"] > 0.8


def test_a_class_a_quarter_as_frequent_weighs_twice():
    labels = np.array([2] * 16 + [0] * 4 + [1])
    rated = Rated(labels, all_train(21))
    weights = _Classification(None, [np.array([1], np.int32)] * 21, rated, TINY).weights.numpy()
    assert weights[0] / weights[2] == pytest.approx(2)
    assert weights[1] / weights[2] == pytest.approx(4)
    assert weights[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("stock", [True, False])
def test_a_language_model_is_fine_tuned_with_its_own_tokenizer(tmp_path, stock):
    start = save_causal(tmp_path / "start", stock=stock)
    settings = SentimentSettings(**(vars(TINY) | {"init": str(start), "max_epochs": 2, "pretrain_epochs": 0}))
    train_sentiment(*reviews(200), settings, tmp_path / "model")
    before, after = (load_tokenizer(path).get_vocab() for path in (start, tmp_path / "model"))
    assert after == before | {PADDING: len(before)}
    again = SentimentSettings(**(vars(settings) | {"init": str(tmp_path / "model")}))
    train_sentiment(*reviews(200), again, tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").get_vocab() == after


def test_few_reviews_are_passed_more_often(tmp_path):
    often = SentimentSettings(**(vars(TINY) | {"max_epochs": 1, "min_steps": 70, "patience": 99}))
    train_sentiment(*reviews(200), often, tmp_path / "model")
    notes = read_manifest(tmp_path / "model").training
    rated = Rated.split(reviews(200)[0], np.array(reviews(200)[1]))
    assert 2 <= len(notes["lines"]) == -(-70 // _steps_of(tmp_path / "model", rated, often))


def _steps_of(model, rated, settings):
    encoder = PromptEncoder.load(model)
    documents = [np.array(tokens, np.int32) for tokens, _ in encoder.encode_reviews(reviews(200)[0], 40)]
    return _Classification(None, documents, rated, settings).steps


def test_a_step_sees_a_part_of_a_review_and_always_its_end():
    half = SentimentSettings(**(vars(TINY) | {"token_dropout": 0.5}))
    rated = Rated(np.array([0, 2]), all_train(2))
    task = _Classification(None, [np.arange(1000, dtype=np.int32)] * 2, rated, half)
    torch.manual_seed(0)
    thinned = [task._thinned(task.documents[0]) for _ in range(20)]
    assert {int(one[-1]) for one in thinned} == {999}
    assert np.mean([len(one) for one in thinned]) == pytest.approx(500, abs=15)
    assert (np.diff(thinned[0]) > 0).all()
    assert thinned[0].tolist() != thinned[1].tolist()


def test_too_little_to_learn_from_is_said(tmp_path):
    with pytest.raises(TrainingError, match="20 rated reviews with 20 different texts are too few"):
        train_sentiment(*reviews(20), TINY, tmp_path / "model")
    with pytest.raises(TrainingError, match="300 rated reviews with 2 different texts are too few"):
        train_sentiment(["good", "bad"] * 150, [2, 0] * 150, TINY, tmp_path / "model")
    texts, _ = reviews(200)
    with pytest.raises(TrainingError, match="same sentiment"):
        train_sentiment(texts, [2] * 200, TINY, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_copies_of_a_text_are_in_one_part(text):
    assert split_of(text) == split_of(f"  {text}\n") == split_of(" ".join(text)) == split_of(text.casefold())


def test_parts_are_eight_one_one():
    parts = [split_of(f"review number {i}") for i in range(10_000)]
    shares = [parts.count(part) / 10_000 for part in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_the_time_left_is_that_of_the_parts_that_are_not_done(monkeypatch):
    clock = iter([100.0, 109.0, 110.0, 130.0])
    monkeypatch.setattr("lm.sentiment.train_sentiment.time.monotonic", lambda: next(clock))
    heard = []
    told = _counted("head", heard.append)
    told(1, 8)
    told(2, 8)
    told(6, 8)
    assert math.isnan(heard[0].seconds_left)  # too early
    assert [(one.step, one.steps, one.seconds_left) for one in heard[1:]] == [(2, 8, 30), (6, 8, 10)]
