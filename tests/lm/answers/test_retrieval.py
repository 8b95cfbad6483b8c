"""Articles are found by their words and by past questions, in English and in Chinese, with a confidence."""

from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
import pytest

from lm.answers.answer_prompt import Article
from lm.answers.retrieval import BM25, RankModel, Retriever, bm25_terms, hashed_features
from lm.answers.train_retrieval import LabelledQuestions, link_by_answer, train_ranker
from lm.checkpoint.checkpoint import CheckpointError

ARTICLES = [
    Article("cancel", "Cancel an order", "Choose Cancel under Your orders before it is packed."),
    Article("track", "Track a parcel", "The link in the dispatch e-mail shows where your parcel is."),
    Article("refund", "When refunds arrive", "We refund within 3 days of the return."),
    Article("invoice", "Invoices", "Download the invoice as PDF."),
    Article("password", "Reset a password", "Choose Forgot password at the login."),
    Article("退货", "退货", "未使用的商品30天内可以退货。"),
]
WAYS = {
    "cancel": ("stop {}", "i do not want {} any more", "please do not send {}", "cancel {} now"),
    "track": ("where is {}", "{} has not arrived", "has {} been sent yet", "{} is late, where is it"),
    "refund": ("when is my money back for {}", "no refund of {} yet", "refund {} please", "money for {} missing"),
    "invoice": ("i need a bill for {}", "invoice of {}", "send me the receipt of {}", "bill {} please"),
    "password": ("cannot log in to {}", "my password for {} is gone", "forgot login of {}", "locked out of {}"),
    "退货": ("{}不想要了", "怎么退{}", "{}可以退吗", "我要退回{}"),
}
THINGS = ("it", "the soap", "my order", "the lamp", "order 7", "the blue pen", "this", "the printer")


@pytest.fixture(scope="module")
def asked() -> LabelledQuestions:
    rows = [(way.format(thing), article) for article, ways in WAYS.items() for way in ways for thing in THINGS[:6]]
    return LabelledQuestions([q for q, _ in rows], [a for _, a in rows], ARTICLES)


@pytest.fixture(scope="module")
def model(asked) -> RankModel:
    return train_ranker(asked)


def test_past_questions_teach_what_words_cannot(model):
    questions = [way.format(thing) for ways in WAYS.values() for way in ways for thing in THINGS[6:]]
    right = [article for article, ways in WAYS.items() for _ in ways for _ in THINGS[6:]]
    ranked = Retriever(ARTICLES, model).rank(questions, 3)
    learned = np.mean([one.article_ids[0] == wanted for one, wanted in zip(ranked, right, strict=True)])
    scores = BM25([f"{a.title}\n{a.body}" for a in ARTICLES]).scores(questions)
    plain = np.mean([ARTICLES[i].article_id == wanted for i, wanted in zip(scores.argmax(axis=1), right, strict=True)])
    assert learned > 0.9 > plain


def test_features_are_words_pairs_and_the_characters_of_words():
    names = ["w ab", "w 0", "p ab 0", "c <ab", "c ab>", "c <ab>", "c <0>"]
    assert hashed_features("Ab 12") == Counter(zlib.crc32(name.encode()) & (2**20 - 1) for name in names)
    assert hashed_features("退货").total() == 5  # two characters, one pair as a term, and two pairs of terms


def test_what_nothing_answers_is_less_sure(model):
    retriever = Retriever(ARTICLES, model)
    known = retriever.rank(["where is the lamp", "怎么退这个"], 1)
    foreign = retriever.rank(["a gorgeous , witty , seductive movie", "the cat sat", "电影很好看"], 1)
    assert min(one.confidence for one in known) > max(one.confidence for one in foreign)
    assert all(0 <= one.confidence <= 1 for one in [*known, *foreign])


def test_an_article_written_today_is_found_by_its_words(model):
    new = Article("gift", "Gift wrapping", "We wrap presents for 2.50, choose Gift wrapping at the checkout.")
    ranked = Retriever([*ARTICLES, new], model).rank(["do you do gift wrapping of presents"], 2)
    assert ranked[0].article_ids[0] == "gift"


def test_the_same_after_saving_and_in_any_order(model, tmp_path):
    model.save(tmp_path)
    again = RankModel.load(tmp_path)
    questions = ["where is it", "", "???", "退", "refund of order 12345"]
    ranked = Retriever(ARTICLES, model).rank(questions, 3)
    assert Retriever(ARTICLES[::-1], again).rank(questions, 3) == ranked
    assert Retriever(ARTICLES, again).rank(questions[::-1], 3) == ranked[::-1]
    (tmp_path / "ranker.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="train it with"):
        RankModel.load(tmp_path)


def test_terms():
    assert bm25_terms("Where's my ORDER 12?") == ["where", "s", "my", "order", "12"]
    assert bm25_terms("我要退货") == ["我", "要", "退", "货", "我要", "要退", "退货"]
    assert hashed_features("order 12") == hashed_features("order 99")
    assert hashed_features("order") != hashed_features("parcel")


def test_articles_of_answers_that_name_none():
    answers = ["You can download the invoice as a PDF.", "我们30天内可以退货"]
    assert link_by_answer(answers, ARTICLES) == ["invoice", "退货"]
