"""The table of answers: what is known of a customer then, refusals with their reasons, one row a question."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from jobs.config.settings import AnswerSettings
from jobs.spark.contracts import enforce
from jobs.tables import answers
from jobs.training.train_answers import past_questions
from lm.answers.asker import Asker, QuestionPrompt
from schemas import contract

DAY = date(2026, 3, 1)


class FakeAsker:
    """Refuses what says nothing; the prompt shows what it was given."""

    customer = staticmethod(Asker.customer)

    def ask(self, texts, customers, *, budget, links, min_confidence):
        return [
            QuestionPrompt(None, ["a2"], 0.1, "low_confidence")
            if text == "nonsense"
            else QuestionPrompt(f"{text} {customer}", ["a1", "a2"], 0.9, None)
            for text, customer in zip(texts, customers, strict=True)
        ]


class FakeWriter:
    def write(self, prompts, **how):
        assert how["candidates"] == 3
        return [(None, 0.0, 0) if "unspeakable" in prompt else (f"to {len(prompt)}", 0.5, 2) for prompt in prompts]


@pytest.fixture(scope="module")
def used(spark):
    def frame(rows, schema):
        return spark.createDataFrame(rows, schema)

    at = datetime
    questions = [
        ("q1", "u1", "where is O2", at(2026, 3, 1, 12), None, None, None),
        ("q2", None, "where is O2", at(2026, 3, 1, 13), None, None, None),
        ("q3", "u1", "nonsense", at(2026, 3, 1, 14), None, None, None),
        ("q4", "u2", "unspeakable", at(2026, 3, 1, 0), None, None, None),
        ("q5", None, "where is O2", at(2026, 3, 1, 23, 59), None, None, None),
        ("q6", "u1", "yesterday", at(2026, 2, 28, 23, 59), "said", "a1", at(2026, 3, 1, 9)),
        ("q7", "u1", "before", at(2026, 2, 20), "said too", None, None),
        ("q8", "u1", "not yet", at(2026, 2, 20), "later", None, at(2026, 3, 2, 9)),
        ("q9", "u1", "blank", at(2026, 2, 20), " ", None, None),
    ]
    ids = "user_id string, item_id string"
    return {
        "questions": frame(
            questions,
            "question_id string, user_id string, text string, asked_at timestamp, answer string, article_id string, "
            "answered_at timestamp",
        ),
        "items": frame([("i1", "Soap"), ("i2", "Pen"), ("i3", "Ink")], "item_id string, title string"),
        "purchases": frame(
            [
                ("u1", "i2", "O1", at(2026, 2, 1)),
                ("u1", "i1", "O2", at(2026, 3, 1, 11)),
                ("u1", "i3", "O2", at(2026, 3, 1, 11)),
                ("u1", "i3", "O9", at(2026, 3, 1, 12, 1)),  # after the question
                ("u2", "i1", None, at(2026, 2, 1)),
            ],
            f"{ids}, order_id string, purchased_at timestamp",
        ),
        "reviews": frame(
            [
                ("u1", "i1", "r1", 2, "leaks", at(2026, 2, 1)),
                ("u1", "i2", "r2", None, "fine", at(2026, 2, 2)),
                ("u1", "i3", "r3", 5, "after", at(2026, 3, 2)),
            ],
            f"{ids}, review_id string, rating int, text string, reviewed_at timestamp",
        ),
    }


def test_a_customer_is_known_as_of_the_question(used):
    rows = {r.question_id: r for r in answers.with_customer(used["questions"], used).collect()}
    assert len(rows) == 9
    assert [(o.order_id, o.ordered_on, list(o.titles)) for o in rows["q1"].orders] == [
        ("O2", "2026-03-01", ["Ink", "Soap"]),
        ("O1", "2026-02-01", ["Pen"]),
    ]
    assert [tuple(r) for r in rows["q1"].own_reviews] == [(None, "Pen", "fine"), (2, "Soap", "leaks")]
    assert rows["q2"].orders is None
    assert rows["q2"].own_reviews is None
    assert [tuple(o) for o in rows["q4"].orders] == [("", "2026-02-01", ["Soap"])]
    # Of one customer the newest purchases count, whatever their number.
    few = answers._newest(used["questions"].where("question_id = 'q1'"), used["purchases"], "purchased_at", 1)
    assert [r.order_id for r in few.collect()] == ["O2"]


def test_one_row_a_question_of_the_date(spark, used):
    settings = AnswerSettings(candidates=3)
    due = answers.questions_of(used["questions"], DAY, 0)
    asked = answers.with_prompts(answers.with_customer(due, used), FakeAsker, settings)
    keyed = asked.withColumn("key", asked.prompt).withColumn("prompt_hash", asked.prompt).cache()
    requests = keyed.where("key IS NOT NULL").dropDuplicates(["key"])
    assert requests.count() == 3  # the two strangers ask the same
    scored = answers.score(requests, FakeWriter, settings).where("prompt NOT LIKE '%Soap%'")  # one comes too late
    table = enforce(answers.answers(keyed, scored, "m1"), contract("answers"))
    rows = {r.question_id: r for r in table.collect()}
    assert sorted(rows) == ["q1", "q2", "q3", "q4", "q5"]
    assert {i: r.refused_because for i, r in rows.items()} == {
        "q1": "deadline", "q2": None, "q3": "low_confidence", "q4": "deadline", "q5": None,
    }  # fmt: skip
    assert rows["q2"].answer == rows["q5"].answer is not None
    assert rows["q3"].article_ids == ["a2"]
    assert rows["q3"].answer is None
    assert [r.refused for r in rows.values()] == [r.answer is None for r in rows.values()]
    late = answers.score(requests, FakeWriter, settings)
    reasons = {r.question_id: r.refused_because for r in answers.answers(keyed, late, "m1").collect()}
    assert reasons["q4"] == answers.NOT_GROUNDED
    keyed.unpersist()


def test_what_staff_had_answered_is_learned_from(used):
    past = past_questions(used, DAY, "Europe/London")
    assert [(one.text, one.answer, one.article_id) for one in past] == [
        ("yesterday", "said", "a1"),
        ("before", "said too", None),
    ]
    assert [order.order_id for order in past[0].customer.orders] == ["O1"]
    assert [review.title for review in past[0].customer.reviews] == ["Pen", "Soap"]
