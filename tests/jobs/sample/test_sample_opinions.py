"""The sample shop's reviews fit their stars except where planted; its questions have an article that answers them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.sample import write_sample
from jobs.sample.help_en import ENGLISH_HELP
from jobs.sample.help_zh import CHINESE_HELP
from tests.sample_shop import CHINESE, Shop, share


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(write_sample(tmp_path_factory.mktemp("shop")))


@pytest.fixture(scope="module")
def clean_purchases(shop: Shop) -> pd.DataFrame:
    return shop.clean_purchases()


def words_of(text: str) -> list[str]:
    """Latin words, and pairs of Chinese characters."""
    chinese = CHINESE.findall(text)
    return re.findall(r"[a-z']+", text.lower()) + [a + b for a, b in itertools.pairwise(chinese)]


def naive_bayes(texts: list[str], labels: list[int]) -> Callable[[str], int]:
    counts = [Counter(w for t, y in zip(texts, labels, strict=True) if y == c for w in words_of(t)) for c in range(3)]
    vocabulary = len(set().union(*counts))
    totals = [sum(c.values()) + vocabulary for c in counts]
    priors = [np.log(labels.count(c) / len(labels)) for c in range(3)]
    return lambda text: int(
        np.argmax(
            [
                p + sum(np.log((c[w] + 1) / n) for w in words_of(text))
                for p, c, n in zip(priors, counts, totals, strict=True)
            ]
        )
    )


def rated(shop: Shop) -> pd.DataFrame:
    rows = shop["reviews"].drop_duplicates("review_id")
    rows = rows[rows.rating.isin(list("12345")) & (rows.text.str.strip() != "")]
    return rows.assign(label=rows.rating.astype(int).map({1: 0, 2: 0, 3: 1, 4: 2, 5: 2}))


@pytest.mark.parametrize("chinese", [False, True])
def test_words_fit_the_stars_except_where_planted(tmp_path: Path, shop: Shop, chinese: bool) -> None:
    sample = Shop(write_sample(tmp_path, customers=5000, seed=1)) if chinese else shop
    rows = rated(sample)
    rows = rows[rows.text.str.contains(CHINESE) == chinese]
    planted = rows.review_id.isin(sample.truth["contradictions"].review_id)
    fitting, contradicting = rows[~planted], rows[planted]
    assert fitting.label.value_counts(normalize=True).min() > 0.1
    train, test = fitting.iloc[::2], fitting.iloc[1::2]
    predict = naive_bayes(train.text.tolist(), train.label.tolist())
    right = test.text.map(predict) == test.label
    assert share(right) > 0.92
    for label in range(3):
        assert share(right[test.label == label]) > 0.8, label
    opposite = contradicting.text.map(predict) == 2 - contradicting.label
    assert share(opposite) > 0.9
    assert (contradicting.rating != "3").all()


def test_three_percent_of_ratings_contradict_the_words(shop: Shop) -> None:
    truth = shop.truth["contradictions"].review_id
    assert truth.is_unique
    assert truth.isin(shop["reviews"].review_id).all()
    assert len(truth) / len(rated(shop)) == pytest.approx(0.03, abs=0.007)
    assert len(truth) == shop.info.planted["reviews", "contradiction"]


def test_texts_vary_and_short_ones_occur_many_times(shop: Shop) -> None:
    texts = shop["reviews"].drop_duplicates("review_id").text
    assert texts.nunique() > 0.7 * len(texts)
    assert texts.value_counts().head(10).min() >= 20
    assert share(texts.str.len() > 120) > 0.25


def test_reviews_come_days_after_a_purchase_of_the_item(shop: Shop, clean_purchases: pd.DataFrame) -> None:
    first = clean_purchases.groupby(["user_id", "item_id"]).purchased_at.min().rename("bought_at").reset_index()
    reviews = shop["reviews"].merge(first, on=["user_id", "item_id"])
    assert len(reviews) > 0.95 * len(shop["reviews"])
    # Not all: where the purchase itself is a dirty row, the first clean one is a later one.
    assert share(reviews.reviewed_at > reviews.bought_at) > 0.995


def test_articles_are_one_for_each_intent_and_language(shop: Shop) -> None:
    articles = shop["articles"]
    assert [h.intent for h in ENGLISH_HELP] == [h.intent for h in CHINESE_HELP]
    assert len(articles) == 2 * len(ENGLISH_HELP) >= 50
    assert articles.article_id.is_unique
    assert articles[articles.article_id.str.endswith("-zh")].body.str.contains(CHINESE).all()
    assert not articles[articles.article_id.str.endswith("-en")].body.str.contains(CHINESE).any()


def test_questions_are_answered_by_an_article_and_name_own_orders(shop: Shop, clean_purchases: pd.DataFrame) -> None:
    asked = shop["questions"].drop_duplicates("question_id")
    assert set(asked.article_id.dropna()) <= set(shop["articles"].article_id)
    assert share(asked.answer.notna()) > 0.8
    assert (asked.answered_at.dropna() > asked.asked_at[asked.answered_at.notna()]).all()
    questions = asked.drop(columns="article_id").merge(shop.truth["answers"], on="question_id")
    beyond = asked[~asked.question_id.isin(questions.question_id)]
    assert share(~asked.question_id.isin(questions.question_id)) == pytest.approx(0.05, abs=0.03)
    assert beyond.answer.isna().all()
    assert beyond.article_id.isna().all()
    assert set(questions.article_id) <= set(shop["articles"].article_id)
    assert questions.article_id.nunique() > 40
    assert share(questions.user_id.isna()) == pytest.approx(0.15, abs=0.04)
    order = questions.text.str.extract(r"(A\d{7}-\d{3})")[0]
    assert share(order.notna()) > 0.2
    known = order.notna() & questions.user_id.notna()
    assert (order[known].str[1:8] == questions.user_id[known].str[1:]).all()
    assert share(order.dropna().isin(shop["purchases"].order_id)) == 1.0
    assert not questions.text.str.contains(r"\{").any()
