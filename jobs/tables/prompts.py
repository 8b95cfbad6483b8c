"""Writes `prompts`: one row per customer, the text that GPT-2 reads, packed token-exactly into its budget.

For the engineer who asks why a list looks as it does. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lm.text.prompt import PromptEncoder

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
    return _hash("\0".join(sorted(ids)).encode())


def _exclusions(purchased: str) -> Column:
    return F.array_sort(F.col(purchased)).alias("excluded")


def _render_batch(batch: pa.RecordBatch, encoder: PromptEncoder, budget: int) -> pa.RecordBatch:
    rendered = encoder.render_columns(encoder.histories(batch.column("events")), budget)
    used = pa.array(rendered.events_used, pa.int32())
    excluded = batch.column("excluded")
    columns = [
        batch.column("user_id"),
        rendered.prompt,
        _hashes(rendered.prompt),
        pa.array(rendered.tokens, pa.int32()),
        used,
        pc.subtract(batch.column("events_total"), used).cast(pa.int32()),
        batch.column("last_event_at"),
        excluded,
        _hashes(_joined(excluded)),
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(_RENDERED))


def _joined(ids: pa.ListArray) -> pa.Array:
    """The ids, which Spark has sorted, as `hash_ids` joins them; rebuilt, for Arrow joins no list of non-nulls."""
    return pc.binary_join(pa.ListArray.from_arrays(ids.offsets, ids.values), "\0")


def _hashes(texts: pa.Array) -> pa.Array:
    return pa.array([_hash(text) for text in texts.cast(pa.binary()).to_pylist()], pa.string())


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]
