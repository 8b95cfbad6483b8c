"""Writes `prompts`: one row per customer, the text that GPT-2 reads, packed token-exactly into its budget.

For the engineer who asks why a list looks as it does. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lm.prompt import Event, PromptEncoder

#: What the renderer hands on; `excluded` is not part of the table but of the request made from the row.
_RENDERED = {
    "user_id": "string",
    "prompt": "string",
    "prompt_hash": "string",
    "tokens": "int",
    "events_used": "int",
    "events_dropped": "int",
    "last_event_at": "timestamp",
    "excluded": "array<string>",
    "excluded_hash": "string",
}


def prompts(histories: DataFrame, load_encoder: Callable[[], PromptEncoder], budget: int) -> DataFrame:
    """Render each customer's history; at most `budget` tokens as the model itself counts them.

    `load_encoder` runs once per Python worker and batch stream, so that the driver needs no tokenizer.
    Returns the columns of the `prompts` contract and, for the request, `excluded` and `excluded_hash`.
    """

    def render(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        encoder = load_encoder()
        for batch in batches:
            yield _render_batch(batch, encoder, budget)

    rows = histories.select("user_id", "events", "events_total", "last_event_at", _exclusions("purchased"))
    return rows.mapInArrow(render, ", ".join(f"{name} {kind}" for name, kind in _RENDERED.items()))


def without_exclusions(prompts: DataFrame) -> DataFrame:
    """Keep lists free to repeat purchases: the request excludes nothing."""
    nothing = F.array().cast("array<string>")
    return prompts.withColumns({"excluded": nothing, "excluded_hash": F.lit(hash_ids([]))})


def hash_ids(ids: Iterable[str]) -> str:
    """32 hex digits that depend on the set of ids; NUL cannot occur in an id (inputs strip it)."""
    return hashlib.sha256("\0".join(sorted(ids)).encode()).hexdigest()[:32]


def _exclusions(purchased: str) -> Column:
    return F.array_sort(F.col(purchased)).alias("excluded")


def _render_batch(batch: pa.RecordBatch, encoder: PromptEncoder, budget: int) -> pa.RecordBatch:
    rendered = encoder.render_many(_events_of(batch.column("events")), budget)
    excluded = batch.column("excluded")
    totals = batch.column("events_total").to_pylist()
    columns = [
        batch.column("user_id"),
        pa.array([r.prompt for r in rendered], pa.string()),
        pa.array([hashlib.sha256(r.prompt.encode()).hexdigest()[:32] for r in rendered], pa.string()),
        pa.array([r.tokens for r in rendered], pa.int32()),
        pa.array([r.events_used for r in rendered], pa.int32()),
        pa.array([total - r.events_used for total, r in zip(totals, rendered, strict=True)], pa.int32()),
        batch.column("last_event_at"),
        excluded,
        pa.array([hash_ids(ids) for ids in excluded.to_pylist()], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(_RENDERED))


def _events_of(events: pa.ListArray) -> list[list[Event]]:
    """Unpack Arrow's list<struct> column by column: some ten times faster than one dict per event."""
    flat = events.flatten()
    rows = list(
        map(
            Event,
            flat.field("kind").to_pylist(),
            flat.field("item_id").to_pylist(),
            flat.field("title").to_pylist(),
            flat.field("text").to_pylist(),
            flat.field("rating").to_pylist(),
        )
    )
    offsets = events.offsets.to_pylist()
    start = offsets[0]
    return [rows[a - start : b - start] for a, b in itertools.pairwise(offsets)]
