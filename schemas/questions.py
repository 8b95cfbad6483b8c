"""One question that a customer asked.

A shop's past questions with their answers are what `regulars train --task answers` learns from: map `answer` to the
text that went to the customer, and `article_id` to the help article that it used, where the shop notes that.
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
        Column("answer", "string", nullable=True, doc="what staff answered; read by training alone"),
        Column("article_id", "string", nullable=True, doc="help article that the answer used; without it, a guess"),
        Column("answered_at", "timestamp", nullable=True, doc="when staff answered; without it, when it was asked"),
    ),
    rules=(Rule("text_not_blank", "trim(text) <> ''", "text has no characters"),),
    time_column="asked_at",
)
