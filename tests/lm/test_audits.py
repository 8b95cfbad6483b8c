"""The audit of each task on tiny shops: canaries reach the training, and the product's own decoding completes none."""

from __future__ import annotations

import pytest

from lm.answers.audit_answers import audit_answers
from lm.answers.train_answers import AnswersTrainSettings
from lm.checkpoint.checkpoint import load_tokenizer
from lm.recommend_training.audit_recommender import audit_recommender, planted, without
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import CustomerEvents
from lm.sentiment.audit_sentiment import audit_sentiment, planted_canaries
from lm.sentiment.train_sentiment import SentimentSettings
from lm.text.prompt import Event
from lm.train import canaries, text_audit
from lm.train.canaries import draw_canaries
from lm.train.training_state import TrainingError
from tests.lm.answers.test_answer_writer import ARTICLES, past
from tests.lm.recommend_training.test_train_recommender import ITEMS, shop
from tests.lm.sentiment.test_train_sentiment import reviews

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"n_embd": 16, "n_layer": 1, "vocab_size": 300, "max_epochs": 1, "learning_rate": 1e-2, "batch_tokens": 1500}


@pytest.fixture(autouse=True)
def fewer_candidates(monkeypatch):
    monkeypatch.setattr(canaries, "CANDIDATES", 100)
    monkeypatch.setattr(text_audit, "FREE_SAMPLES", 4)


def test_no_list_of_a_recommender_completes_a_canary(tmp_path):
    settings = RecommendTrainSettings(**SMALL, max_tokens=80, pretrain_epochs=60)
    found = audit_recommender(shop(), ITEMS, settings, tmp_path / "copy")
    assert len(found.canaries) == 18
    assert found.leaks(17) == []
    # Sixty passes over every line teach what redaction misses; what it replaces is never read.
    mean = {
        form: sum(one.exposure for one in found.canaries if one.form == form) / 9 for form in ("redacted", "missed")
    }
    assert mean["missed"] > mean["redacted"] + 1


def test_a_canary_of_few_customers_is_no_token_of_a_sentiment_model(tmp_path):
    texts, labels = reviews()
    settings = SentimentSettings(**SMALL, max_tokens=40, min_steps=0)
    found = audit_sentiment(texts, labels, settings, tmp_path / "copy", writers=[f"u{i}" for i in range(len(texts))])
    assert found.leaks(17) == []
    assert set(found.membership) == {"its text", "its label"}
    assert all(one.members == one.held_out > 0 for one in found.membership.values())
    tokens = load_tokenizer(tmp_path / "copy").get_vocab()
    rare = [
        word
        for canary in planted_canaries(settings.seed)
        if canary.repeats < settings.min_customers and canary.form == "missed" and canary.kind == "name"
        for word in canary.secret.split()
    ]
    assert rare
    assert not {f"Ġ{word}" for word in rare} & set(tokens)


def test_no_answer_completes_a_canary(tmp_path):
    settings = AnswersTrainSettings(**SMALL, min_steps=0, prompt_tokens=160, max_answer_tokens=48)
    decoding = {"candidates": 2, "max_new_tokens": 24, "temperature": 0.5, "top_p": 0.95}
    found = audit_answers(past(), ARTICLES, settings, decoding, tmp_path / "copy")
    assert found.leaks(17) == []
    assert found.membership["its answer"].held_out > 0


def test_different_customers_search_for_a_canary():
    customers = shop(40)
    copy = planted(customers, draw_canaries(0)[:3])
    texts = [event.text for one in copy for event in one.events]
    assert sorted(texts.count(canary.text) for canary in draw_canaries(0)[:3]) == [1, 4, 16]
    assert all(len(one.events) == len(one.days) for one in copy)
    with pytest.raises(TrainingError, match="too few for an audit"):
        planted(customers[:10], draw_canaries(0))


def test_a_held_out_event_leaves_with_its_day_and_moment():
    a, b = Event("searched", None, None, "a"), Event("searched", None, None, "b")
    assert without(CustomerEvents([a, b, a], [1, 2, 3], [10, 20, 30]), {a}) == CustomerEvents([b], [2], [20])
