"""One question that a customer asked."""

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
    ),
    rules=(Rule("text_not_blank", "trim(text) <> ''", "text has no characters"),),
    time_column="asked_at",
)
