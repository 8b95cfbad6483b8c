"""Writes `prompts`: one row per customer with the text that GPT-2 reads, cut to a token budget.

For the engineer who asks why a list looks as it does. Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.tables.reasons import EVENTS
from lm.text.history_batch import HistoryBatch
from lm.text.prompt import PromptColumns, PromptEncoder

#: Columns of a rendered row. `excluded` belongs to the request that is made from the row, not to the table.
_RENDERED_COLUMNS = {
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


def prompts(
    histories: DataFrame, load_encoder: Callable[[], PromptEncoder], budget: int, *, with_events: bool = False
) -> DataFrame:
    """Render each customer's history into at most `budget` tokens of the model's own tokenizer.

    `load_encoder` runs once per Python worker and batch stream, so the driver needs no tokenizer.
    Returns the columns of the `prompts` contract and, for the request, `excluded` and `excluded_hash`.
    `with_events` adds the prompt's `events`, of the type EVENTS.
    """

    def render(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        encoder = load_encoder()
        for batch in batches:
            yield _render_batch(batch, encoder, budget, with_events)

    excluded = F.array_sort("purchased").alias("excluded")
    rows = histories.select("user_id", "events", "events_total", "last_event_at", excluded)
    columns = _RENDERED_COLUMNS | ({"events": EVENTS} if with_events else {})
    return rows.mapInArrow(render, ", ".join(f"{name} {kind}" for name, kind in columns.items()))


def hash_ids(ids: Iterable[str]) -> str:
    """Return 32 hex digits that depend on the set of ids alone; the separator NUL occurs in no id (inputs strip it)."""
    return _hash("\0".join(sorted(ids)).encode())


def _render_batch(
    batch: pa.RecordBatch, encoder: PromptEncoder, budget: int, with_events: bool = False
) -> pa.RecordBatch:
    histories = encoder.histories(batch.column("events"))
    rendered = encoder.render_columns(histories, budget)
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
    names = list(_RENDERED_COLUMNS)
    if with_events:
        columns.append(_shown_events(batch.column("events").flatten(), encoder, histories, rendered))
        names.append("events")
    return pa.RecordBatch.from_arrays(columns, names=names)


def _shown_events(
    events: pa.StructArray, encoder: PromptEncoder, histories: HistoryBatch, rendered: PromptColumns
) -> pa.ListArray:
    """The events of each prompt, in the order of its lines."""
    chosen = events.take(pa.array(rendered.source))
    fields = {
        "kind": chosen.field("kind"),
        "text": encoder.shown(histories, rendered.code),
        "title": chosen.field("title"),
        "at": chosen.field("at"),
    }
    offsets = np.concatenate([[0], np.cumsum(rendered.events_used)])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    )


def _joined(ids: pa.ListArray) -> pa.Array:
    """Join the ids, which Spark has sorted, as `hash_ids` does.

    The list array is rebuilt because Arrow joins no list whose values are declared non-null.
    """
    return pc.binary_join(pa.ListArray.from_arrays(ids.offsets, ids.values), "\0")


def _hashes(texts: pa.Array) -> pa.Array:
    return pa.array([_hash(text) for text in texts.cast(pa.binary()).to_pylist()], pa.string())


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]
