"""One answered or refused question."""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="answers",
    grain="One answered or refused question.",
    key=("question_id",),
    columns=(
        Column("question_id", "string", doc="question"),
        Column(
            "user_id", "string", nullable=True, doc="customer who asked, where known; earlier dates lack the column"
        ),
        Column("answer", "string", nullable=True, doc="null where refused"),
        Column("article_ids", "array<string>", doc="articles, best first; the answer is based on the first"),
        Column("confidence", "double", doc="calibrated probability that the first article is the right one"),
        Column("refused", "boolean", doc="whether there is no answer, only the articles"),
        Column(
            "refused_because",
            "string",
            nullable=True,
            doc="low_confidence, no_words, not_grounded, model_failed or deadline",
        ),
        Column("prompt_hash", "string", nullable=True, doc="SHA-256 of the prompt, 32 hex digits; null where refused"),
        Column("model_version", "string", doc="fingerprint of the model that answered"),
    ),
    rules=(
        Rule(
            "answered_or_refused",
            "refused = (answer IS NULL) AND refused = (refused_because IS NOT NULL)",
            "neither answered nor refused with a reason",
        ),
        Rule("confidence_in_range", "confidence BETWEEN 0 AND 1", "confidence is not 0 to 1"),
    ),
    relations=(Relation("question_id", "questions", "question_id"),),
    partition_by=("run_date",),
)
