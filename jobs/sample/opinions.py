"""Writes the sample shop's reviews, some of which contradict their stars, and its questions with answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sample.catalogue import FAMILIES
from jobs.sample.customers import SimulatedPurchases, in_opening_hours
from jobs.sample.events import CustomerBlock, finished, item_ids, order_ids, with_control_characters
from jobs.sample.goods import GROUPS
from jobs.sample.help_en import BEYOND_HELP, ENGLISH_HELP
from jobs.sample.help_zh import BEYOND_HELP_ZH, CHINESE_HELP
from jobs.sample.personal import draw_personal_data
from jobs.sample.phrases_en import ENGLISH
from jobs.sample.phrases_zh import CHINESE
from jobs.sample.random import Bools, Dice, Floats, Ints, Keys, hashed, keys, normal, uniform
from jobs.sample.replies import reply
from jobs.sample.review_grammar import long_review_text, review_text

_STAR_LIMITS = (-1.70, -1.20, -0.65, 0.08)  # opinions at which one star more begins
_UNRATED = 0.04
_CONTRADICTING = 0.036  # share of the reviews without three stars; 3% of all reviews
_PERSONAL = 0.015
_ASKS = 0.031  # questions per purchase
_PERSONAL_IN_QUESTIONS = 0.08
_ANONYMOUS = 0.15
_ANSWERED = 0.92  # share that staff answer within some hours
_LINKED = 0.7  # share of the answers for which staff noted the article
_NO_ARTICLE = 0.05  # share of the questions that no article answers; staff leave them too

#: Shares of reviews that are dirty, one kind a row.
REVIEW_DIRT = {
    "duplicate": 0.004,
    "unknown_item": 0.003,
    "null_user": 0.003,
    "future": 0.002,
    "unparsable_rating": 0.003,
    "rating_out_of_range": 0.003,
    "blank_text": 0.002,
    "long_text": 0.002,
    "control_characters": 0.003,
}
#: Shares of questions that are dirty.
QUESTION_DIRT = {"duplicate": 0.003, "future": 0.002, "blank_text": 0.002, "control_characters": 0.003}
_UNPARSABLE = ("five", "4 stars", "5/5", "★★★★★", "N/A", "good", "3,5 of 5", "五星")
_GROUP_OF_FAMILY = [group.name for group in GROUPS for _ in group.families]


class ReviewsTable(NamedTuple):
    """The table, and the ids of the reviews whose words contradict their stars on purpose."""

    table: pa.Table
    contradictions: pa.Array


class QuestionsTable(NamedTuple):
    """The table, and the article that answers each question."""

    table: pa.Table
    answered_by: pa.Table


def reviews_table(block: CustomerBlock, bought: SimulatedPurchases, seed: int) -> ReviewsTable:
    """Return reviews of some purchases, written days after them and within the period."""
    people = block.people
    eager = 0.06 + 0.34 * uniform(people.key, "eager to review") ** 2
    rows, day = _written_after(block, bought, "review", eager[bought.customer], median_days=4.0)
    customer, item, step = bought.customer[rows], bought.item[rows], bought.step[rows]
    key = people.key[customer]
    stars = _stars(block, customer, item, key, step, seed)
    dirt = block.dirt("reviews", key, step, REVIEW_DIRT)
    contradicts = (uniform(key, "contradicts", step) < _CONTRADICTING) & (stars != 3)
    unrated = uniform(key, "unrated", step) < _UNRATED
    word_stars = np.where(contradicts, 6 - stars, stars)
    ids = pa.array([f"V{c:07d}-{s:03d}" for c, s in zip(people.numbers[customer], step, strict=True)], pa.string())
    table = pa.table(
        {
            "review_id": ids,
            "user_id": block.users(customer, dirt["null_user"]),
            "item_id": item_ids(block.catalogue, item, dirt["unknown_item"], key, step),
            "rating": _ratings(stars, unrated, dirt, hashed(key, "odd rating", step).tolist()),
            "text": pa.array(_review_texts(block, customer, item, step, word_stars, dirt), pa.string()),
            "reviewed_at": block.instants(day, dirt["future"], key, step),
        }
    )
    block.planted["reviews", "unrated"] += int(
        (unrated & ~dirt["unparsable_rating"] & ~dirt["rating_out_of_range"]).sum()
    )
    clean = ~np.any(list(dirt.values()), axis=0) & ~unrated
    block.planted["reviews", "contradiction"] += int((contradicts & clean).sum())
    return ReviewsTable(finished(table, "reviewed_at", dirt["duplicate"]), ids.filter(pa.array(contradicts & clean)))


def _written_after(
    block: CustomerBlock, bought: SimulatedPurchases, what: str, share: Floats | float, median_days: float
) -> tuple[Ints, Floats]:
    """Draw the rows of purchases that are written about and the days, a lognormal time of at least a day later."""
    key = block.people.key[bought.customer]
    lag = 1 + median_days * np.exp(0.8 * normal(key, what + " lag", bought.step))
    hour = in_opening_hours(uniform(key, what + " hour", bought.step))
    day = np.floor(bought.day + lag) + hour
    rows = np.flatnonzero((uniform(key, what, bought.step) < share) & (day < block.period.days))
    return rows, day[rows]


def _stars(block: CustomerBlock, customer: Ints, item: Ints, key: Keys, step: Ints, seed: int) -> Ints:
    """Draw stars 1 to 5 from the item's quality, the customer's mood and chance; customers who leave give fewer."""
    quality = normal(keys(seed, "item", item), "quality")
    mood = normal(block.people.key, "mood") - 0.8 * block.people.churned
    opinion = 0.55 * quality + 0.5 * mood[customer] + normal(key, "opinion", step)
    return 1 + np.searchsorted(_STAR_LIMITS, opinion).astype(np.int64)


def _ratings(stars: Ints, unrated: Bools, dirt: dict[str, Bools], odd: list[int]) -> pa.Array:
    """Return the ratings as text, null where not rated."""
    ratings: list[str | None] = [None if no else str(s) for s, no in zip(stars.tolist(), unrated.tolist(), strict=True)]
    for row in np.flatnonzero(dirt["unparsable_rating"]).tolist():
        ratings[row] = _UNPARSABLE[odd[row] % len(_UNPARSABLE)]
    for row in np.flatnonzero(dirt["rating_out_of_range"]).tolist():
        ratings[row] = ("0", "9", "-1", "6")[odd[row] % 4]
    return pa.array(ratings, pa.string())


def _review_texts(
    block: CustomerBlock, customer: Ints, item: Ints, step: Ints, word_stars: Ints, dirt: dict[str, Bools]
) -> Iterator[str]:
    key = block.people.key[customer]
    private = uniform(key, "private review", step) < _PERSONAL
    columns = (
        hashed(key, "review text", step), block.people.chinese[customer], word_stars, block.catalogue.family[item],
        private, dirt["blank_text"], dirt["long_text"], dirt["control_characters"],
    )  # fmt: skip
    for seed, chinese, stars, family, has_personal, blank, long, control in zip(
        *(c.tolist() for c in columns), strict=True
    ):
        dice = Dice(seed)
        phrases = CHINESE if chinese else ENGLISH
        thing = dice.pick(FAMILIES[family].words_zh if chinese else FAMILIES[family].words)
        group = _GROUP_OF_FAMILY[family]
        if blank:
            yield ("", " ")[dice.below(2)]
            continue
        if long:
            yield long_review_text(dice, phrases, stars, group, thing, 2000 + dice.below(6000))
            continue
        text = review_text(dice, phrases, stars, group, thing)
        if has_personal:
            planted = draw_personal_data(dice, chinese)
            block.add_personal("reviews", planted)
            text = text + phrases.joiner + planted.sentence
        yield with_control_characters(dice, text) if control else text


def questions_table(block: CustomerBlock, bought: SimulatedPurchases) -> QuestionsTable:
    """Return questions that follow purchases, each with one intent."""
    people = block.people
    rows, day = _written_after(block, bought, "question", _ASKS, median_days=1.5)
    customer, step = bought.customer[rows], bought.step[rows]
    key = people.key[customer]
    dirt = block.dirt("questions", key, step, QUESTION_DIRT)
    anonymous = uniform(key, "anonymous", step) < _ANONYMOUS
    ids = pa.array([f"Q{c:07d}-{s:03d}" for c, s in zip(people.numbers[customer], step, strict=True)], pa.string())
    asked = list(_asked(block, bought, rows, dirt))
    replied_on = day + 0.05 + uniform(key, "reply lag", step)
    has_article = np.array([article is not None for _, article, _ in asked], np.bool_)
    answered = (uniform(key, "answered", step) < _ANSWERED) & (replied_on < block.period.days) & ~dirt["future"]
    answered &= has_article
    linked = answered & (uniform(key, "linked", step) < _LINKED)
    articles = pa.array([article for _, article, _ in asked], pa.string())
    table = pa.table(
        {
            "question_id": ids,
            "user_id": block.users(customer, anonymous),
            "text": pa.array([text for text, _, _ in asked], pa.string()),
            "asked_at": block.instants(day, dirt["future"], key, step),
            "answer": pc.if_else(pa.array(answered), pa.array([said for _, _, said in asked], pa.string()), None),
            "article_id": pc.if_else(pa.array(linked), articles, None),
            "answered_at": pc.if_else(
                pa.array(answered), block.instants(replied_on, np.zeros(len(day), np.bool_), key, step), None
            ),
        }
    )
    answered_by = pa.table({"question_id": ids, "article_id": articles}).filter(pa.array(has_article))
    return QuestionsTable(finished(table, "asked_at", dirt["duplicate"]), answered_by)


def _asked(
    block: CustomerBlock, bought: SimulatedPurchases, rows: Ints, dirt: dict[str, Bools]
) -> Iterator[tuple[str, str | None, str]]:
    """Yield the text of each question, the id of the article that answers it, if any, and the staff's answer."""
    customer, step = bought.customer[rows], bought.step[rows]
    orders = order_ids(block.people.numbers[customer], bought.order[rows]).to_pylist()
    titles = block.catalogue.titles.take(pa.array(bought.item[rows])).to_pylist()
    columns = (
        hashed(block.people.key[customer], "question text", step), block.people.chinese[customer],
        uniform(block.people.key[customer], "no article", step) < _NO_ARTICLE,
        dirt["blank_text"], dirt["control_characters"],
    )  # fmt: skip
    listed = zip(orders, titles, *(c.tolist() for c in columns), strict=True)
    for order, title, seed, chinese, is_beyond, blank, control in listed:
        dice = Dice(seed)
        intent = dice.pick(CHINESE_HELP if chinese else ENGLISH_HELP)
        asks = (BEYOND_HELP_ZH if chinese else BEYOND_HELP) if is_beyond else intent.questions
        text = dice.pick(asks).format(order=order, product=title, n=2 + dice.below(12))
        greeting, thanks = (_GREETINGS_ZH, _THANKS_ZH) if chinese else (_GREETINGS, _THANKS)
        text = dice.pick(greeting) + text + dice.pick(thanks)
        if dice.chance(int(100 * _PERSONAL_IN_QUESTIONS)):
            planted = draw_personal_data(dice, chinese)
            block.add_personal("questions", planted)
            text = text + ("" if chinese else " ") + planted.sentence
        if control:
            text = with_control_characters(dice, text)
        said = reply(Dice(seed ^ _REPLY_SEED), intent, text, order, title, chinese)
        yield "" if blank else text, None if is_beyond else article_id(intent.intent, chinese), said


_REPLY_SEED = 0x5DEECE66D  # gives a reply other draws than its question

_GREETINGS = ("", "", "", "Hi, ", "Hello, ", "Good morning. ")
_THANKS = ("", "", "", " Thanks", " Thank you!", " Please help.")
_GREETINGS_ZH = ("", "", "你好,", "您好,", "请问,")
_THANKS_ZH = ("", "", "谢谢", "急!")


def article_id(intent: str, chinese: bool) -> str:
    """Return the id of the intent's help article in the language."""
    return f"{intent}-{'zh' if chinese else 'en'}"


def articles_table() -> pa.Table:
    """Return the articles table: one help article for each intent and language."""
    articles = [(help_, zh) for zh, helps in ((False, ENGLISH_HELP), (True, CHINESE_HELP)) for help_ in helps]
    return pa.table(
        {
            "article_id": pa.array([article_id(help_.intent, zh) for help_, zh in articles], pa.string()),
            "title": pa.array([help_.title for help_, _ in articles], pa.string()),
            "body": pa.array([help_.body for help_, _ in articles], pa.string()),
        }
    )
