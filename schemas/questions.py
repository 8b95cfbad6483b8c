"""One question that a customer asked.

`regulars train --task answers` learns from past questions with answers. Map `answer` to the text that the customer
got, and `article_id` to the help article that it used, if the shop records it.
"""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="questions",
    grain="One question that a customer asked.",
    key=("question_id",),
    columns=(
        Column("question_id", "string", doc="question"),
        Column("user_id", "string", nullable=True, doc="customer, where known"),
        Column("text", "string", doc="the customer's words"),
        Column("asked_at", "timestamp", doc="when it was asked"),
        Column("answer", "string", nullable=True, doc="answer of the staff; only training reads it"),
        Column(
            "article_id", "string", nullable=True, doc="help article that the answer used; if null, training guesses it"
        ),
        Column("answered_at", "timestamp", nullable=True, doc="when the staff answered; if null, asked_at"),
    ),
    rules=(Rule("text_not_blank", "trim(text) <> ''", "text has no characters"),),
    time_column="asked_at",
)
