"""Rows that the prompts job renders from a batch in the types that Spark hands to Python."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pyarrow as pa

from jobs.tables.prompts import _render_batch, hash_ids
from lm.checkpoint.manifest import Manifest
from lm.text.prompt import Event, PromptEncoder
from tests.models import train_tokenizer

BUDGET = 60
INSTANT = pa.timestamp("us", tz="UTC")
EVENT = pa.struct(
    [
        pa.field("at", INSTANT, nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("item_id", "title", "text")),
        pa.field("rating", pa.int32()),
    ]
)


def batch(histories: list[list[Event]], excluded: list[list[str]]) -> pa.RecordBatch:
    """A batch of customers c0, c1, ...; its lists are declared without nulls, as collect_set declares them."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    events = [[{"at": at, **event._asdict()} for event in history] for history in histories]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([f"c{n}" for n in range(len(histories))]),
            pa.array(events, pa.list_(pa.field("element", EVENT, nullable=False))),
            pa.array([10 + len(history) for history in histories], pa.int64()),
            pa.array([at] * len(histories), INSTANT),
            pa.array(excluded, pa.list_(pa.field("element", pa.string(), nullable=False))),
        ],
        names=["user_id", "events", "events_total", "last_event_at", "excluded"],
    )


def test_a_batch_becomes_one_row_a_customer() -> None:
    encoder = PromptEncoder(train_tokenizer(), Manifest())
    histories = [
        [Event("bought", "a", "Inkjet printer"), Event("searched", text="ink for my printer")],
        [],
        [Event("bought", "b", f"Black ink cartridge {n}") for n in range(9)],
    ]
    excluded = [["a"], [], ["a", "b", "商品"]]
    whole = batch([[], *histories], [["other"], *excluded])
    rows = _render_batch(whole.slice(1), encoder, BUDGET).to_pylist()
    assert [row["user_id"] for row in rows] == ["c1", "c2", "c3"]
    for row, history, ids in zip(rows, histories, excluded, strict=True):
        rendered = encoder.render(history, BUDGET)
        assert (row["prompt"], row["tokens"], row["events_used"]) == rendered[:3]
        assert row["events_dropped"] == 10 + len(history) - rendered.events_used
        assert row["prompt_hash"] == hashlib.sha256(rendered.prompt.encode()).hexdigest()[:32]
        assert (row["excluded"], row["excluded_hash"]) == (ids, hash_ids(ids))
    assert 0 < rows[2]["events_used"] < 9


def test_events_stand_in_the_order_of_the_prompts_lines() -> None:
    encoder = PromptEncoder(train_tokenizer(), Manifest())
    histories = [
        [Event("searched", text="call 020 7946 0958"), Event("bought", "a", "Inkjet printer")],
        [],
        [Event("reviewed", "b", "Black ink cartridge", "very good", 5)],
    ]
    rows = _render_batch(batch(histories, [[]] * 3), encoder, BUDGET, with_events=True).to_pylist()
    assert [[(event["kind"], event["text"], event["title"]) for event in row["events"]] for row in rows] == [
        [("searched", "call [PHONE]", None), ("bought", "Inkjet printer", "Inkjet printer")],
        [],
        [("reviewed", "Black ink cartridge: very good", "Black ink cartridge")],
    ]
    assert all(event["at"] is not None for row in rows for event in row["events"])
    coded = PromptEncoder(train_tokenizer(), Manifest(coding="item_tokens", item_ids=["a"], first_item_token=400))
    history = [Event("bought", "a", "Inkjet printer"), Event("searched", text="ink")]
    (row,) = _render_batch(batch([history], [[]]), coded, BUDGET, with_events=True).to_pylist()
    assert [event["text"] for event in row["events"]] == ["ink", "Inkjet printer"]
    assert row["prompt"].index("ink") < row["prompt"].index("<|item:a|>")
