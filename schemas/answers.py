"""One answered or refused question."""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="answers",
    grain="One answered or refused question.",
    key=("question_id",),
    columns=(
        Column("question_id", "string", doc="question"),
        Column("answer", "string", nullable=True, doc="null where refused"),
        Column("article_ids", "array<string>", doc="articles that it rests on, best first"),
        Column("confidence", "double", doc="0 to 1"),
        Column("refused", "boolean", doc="no article answers it well enough"),
        Column("model_version", "string", doc="fingerprint of the model that answered"),
    ),
    rules=(
        Rule("answered_or_refused", "refused OR answer IS NOT NULL", "neither answered nor refused"),
        Rule("confidence_in_range", "confidence BETWEEN 0 AND 1", "confidence is not 0 to 1"),
    ),
    relations=(Relation("question_id", "questions", "question_id"),),
    partition_by=("run_date",),
)
