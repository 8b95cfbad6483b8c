"""Published dates without a night: what `runs` and `recommendations` would hold, written straight to a store."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.store.store import Store

_RUNS = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "status")),
        *((name, pa.timestamp("us", tz="UTC")) for name in ("started_at", "finished_at")),
        ("rows", pa.map_(pa.string(), pa.int64())),
        ("tokens", pa.int64()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("versions", pa.map_(pa.string(), pa.string())),
    ]
)
_LISTS = pa.schema([("user_id", pa.string()), ("rank", pa.int32())])


def put(
    store: Store,
    day: date,
    run_id: str | None = None,
    *,
    lists: int = 3,
    status: str = "published",
    minutes: float = 2,
    rows: dict[str, int] | None = None,
    seconds: dict[str, float] | None = None,
    versions: dict[str, str] | None = None,
) -> None:
    """One date as a night would have left it."""
    started = datetime(day.year, day.month, day.day, 2, tzinfo=UTC) + timedelta(days=1)
    run: dict[str, Any] = {
        "run_id": run_id or f"{day}-run",
        "status": status,
        "started_at": started,
        "finished_at": started + timedelta(minutes=minutes),
        "rows": list((rows or {}).items()),
        "tokens": 1,
        "seconds": list((seconds or {}).items()),
        "versions": list((versions or {}).items()),
    }
    _write(store, "runs", day, pa.Table.from_pylist([run], _RUNS))
    ranks = [{"user_id": "u", "rank": rank} for rank in range(1, lists + 1)]
    _write(store, "recommendations", day, pa.Table.from_pylist(ranks, _LISTS))


def _write(store: Store, table: str, day: date, rows: pa.Table) -> None:
    folder = Path(store.date_folder(table, day))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / "part-00000.parquet")
