"""One customer with the history that the model reads."""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="prompts",
    grain="One customer with the history that the model reads.",
    key=("user_id",),
    columns=(
        Column("user_id", "string", doc="customer"),
        Column("prompt", "string", doc="rendered history, personal data redacted"),
        Column("prompt_hash", "string", doc="hash of prompt; equal texts have equal hashes on every date"),
        Column("tokens", "int", doc="length of prompt in the model's tokens"),
        Column("events_used", "int", doc="events rendered into prompt"),
        Column("events_dropped", "int", doc="older events that are not in prompt"),
        Column(
            "last_event_at", "timestamp", nullable=True, doc="newest event as of run_date; null for a customer without"
        ),
    ),
    rules=(
        Rule("tokens_not_negative", "tokens >= 0", "tokens is below 0"),
        Rule("events_used_not_negative", "events_used >= 0", "events_used is below 0"),
        Rule("events_dropped_not_negative", "events_dropped >= 0", "events_dropped is below 0"),
    ),
    partition_by=("run_date",),
)
