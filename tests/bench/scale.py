"""What a night costs that computes only what changed, beside a night from nothing.

    python -m tests.bench.scale second_night [--customers 100000] [--changed 2000] [--times 1] [--days 120] [--json]

A sample shop with a model of item tokens (random weights, two blocks of width 128). Its first night starts from
nothing. The next date, `--changed` customers buy one product each, in a new file. That date is run twice: with what the
first night kept, and from nothing with a copy of the first night's ledger. `--times 5` does the same with five times
the customers and as many changed ones. `rows that differ` counts them by table, in what both runs published.
Processor seconds are those of Python, Java and all workers: other work on the machine changes them little.
Memory is the most that these processes held together. "Single tasks" is the share of a night in which nothing else ran
than tasks of Spark stages that have one task each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.config.config import load
from jobs.nightly import run_night
from jobs.sample import write_sample
from tests.bench.measure import console
from tests.bench.single_tasks import logged_session, single_tasks
from tests.models import save_causal
from tests.nights import without_inputs

PRODUCTS = 2_000
SHAPE = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512}
SETTINGS = ("gate.min_dates=1000", "models.sentiment=null", "report.write=false", "recommend.reasons=none")


class Shop:
    """A sample shop whose purchases come as one file a night."""

    def __init__(self, folder: Path, customers: int, days: int) -> None:
        self.folder = folder
        info = write_sample(folder, customers=customers, products=PRODUCTS, days=days)
        without_inputs(info.config, "questions", "articles")
        self.config_file, self.first = str(info.config), info.run_date
        ids = sorted(pd.read_parquet(folder / "data/items").item_id.dropna().unique())
        save_causal(folder / "models/recommend", item_ids=ids, **SHAPE)

    def buy(self, day: date, count: int) -> int:
        """On `day` some customers buy one product each; returns how many."""
        parts = [pq.read_table(part) for part in sorted((self.folder / "data/purchases").glob("*.parquet"))]
        rows = pa.concat_tables(parts)
        users = pc.unique(rows["user_id"].drop_null()).to_numpy(zero_copy_only=False)
        chosen = pa.array(np.random.default_rng(0).choice(np.sort(users), min(count, len(users)), replace=False))
        past = rows.filter(pc.is_in(rows["user_id"], chosen)).to_pandas().dropna(subset=["item_id"])
        some = past.drop_duplicates("user_id")
        at = pd.Timestamp(day, tz="Europe/London") + pd.Timedelta(hours=12)
        bought = some.assign(purchased_at=at, order_id=[f"bench-{n}" for n in range(len(some))], quantity=1)
        bought["purchased_at"] = bought.purchased_at.astype(past.purchased_at.dtype)
        table = pa.Table.from_pandas(bought, schema=rows.schema, preserve_index=False)
        pq.write_table(table, self.folder / "data/purchases/bench.parquet")
        return len(some)


@dataclass(frozen=True)
class Cost:
    """Seconds of one night by the clock, of the processors, and of its stages; GB held; its start and end (epoch)."""

    seconds: float
    processor: float
    stages: dict[str, float]
    memory: float
    within: tuple[float, float]


def night(spark: SparkSession, shop: Shop, store: str, day: date, *, by_change: bool) -> Cost:
    """Run one night and return its cost."""
    overrides = [*SETTINGS, f"store={shop.folder / store}", f"incremental.enabled={str(by_change).lower()}"]
    started, begun = time.perf_counter(), time.time()
    with _watched() as used:
        done = run_night(spark, load(shop.config_file, overrides), day, console, shop.config_file)
    seconds, processor = time.perf_counter() - started, used.processor_seconds
    console.print(
        f"[dim]{store} {day}: {seconds:.1f} s, {processor:.1f} s of the processors, {done.copied:,} of "
        f"{done.customers:,} customers copied[/dim]",
        highlight=False,
    )
    stages = {name: round(value, 1) for name, value in done.seconds.items()}
    return Cost(seconds, processor, stages, used.most_memory, (begun, begun + seconds))


class _Used:
    """What this process and its children used; `look` is called again and again, because children end."""

    def __init__(self) -> None:
        self.most_memory = 0.0  # GB held together
        self._before = self._seconds_of_each()
        self._now = dict(self._before)

    @property
    def processor_seconds(self) -> float:
        return sum(seconds - self._before.get(process, 0.0) for process, seconds in self._now.items())

    def look(self) -> None:
        """Note the memory and the processor seconds."""
        self._now |= self._seconds_of_each()
        held = 0
        for process in _processes():
            with contextlib.suppress(psutil.Error):
                held += process.memory_full_info().pss  # pages that workers share count once
        self.most_memory = max(self.most_memory, held / 1e9)

    @staticmethod
    def _seconds_of_each() -> dict[tuple[int, float], float]:
        found = {}
        for process in _processes():
            with contextlib.suppress(psutil.Error):
                found[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
        return found


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


@contextlib.contextmanager
def _watched() -> Iterator[_Used]:
    """Yield what is used while the block runs, looked at each second."""
    used, ended = _Used(), threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            used.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield used
    finally:
        ended.set()
        thread.join()
        used.look()


def differing_rows(one: Path, other: Path) -> dict[str, int]:
    """By table the rows that only one of two folders of tables has; large tables are several files of any bounds."""
    found = {}
    for table in sorted({path.name for folder in (one, other) for path in folder.iterdir()} - {"runs"}):
        with duckdb.connect() as connection:
            rows = [
                f"FROM read_parquet('{folder / table}/*/*.parquet', union_by_name = true)" for folder in (one, other)
            ]
            pairs = [f"({a} EXCEPT ALL {b})" for a, b in (rows, rows[::-1])]
            answer = connection.execute(f"SELECT count(*) FROM ({' UNION ALL '.join(pairs)})").fetchone()
        found[table] = int(answer[0]) if answer else 0
    return found


def second_night(
    spark: SparkSession, folder: Path, customers: int, days: int, changed: int, events: Path
) -> dict[str, object]:
    """Run the nights of one shop and return their figures; `events` is the event log of the session."""
    warm_up = Shop(folder / "warm-up", 200, days)
    for number in range(2):
        night(spark, warm_up, "store", warm_up.first + timedelta(days=number), by_change=True)
    shop = Shop(folder / "shop", customers, days)
    first = night(spark, shop, "by-change", shop.first, by_change=True)
    shutil.copytree(shop.folder / "by-change", shop.folder / "from-nothing", ignore=shutil.ignore_patterns("state"))
    day = shop.first + timedelta(days=1)
    bought = shop.buy(day, changed)
    second = night(spark, shop, "by-change", day, by_change=True)
    whole = night(spark, shop, "from-nothing", day, by_change=False)
    share, longest = single_tasks(events, first.within)
    return {
        "customers": customers,
        "changed": bought,
        "first night, seconds": first.seconds,
        "second night from nothing, seconds": whole.seconds,
        "second night by change, seconds": second.seconds,
        "by change / first night": second.seconds / first.seconds,
        "by change / second night from nothing": second.seconds / whole.seconds,
        "by change / first night, processor seconds": second.processor / first.processor,
        "by change / second night from nothing, processor seconds": second.processor / whole.processor,
        "rows that differ": differing_rows(shop.folder / "by-change/tables", shop.folder / "from-nothing/tables"),
        "most memory, GB: first night": first.memory,
        "most memory, GB: second night by change": second.memory,
        "single tasks: share of the first night": share,
        "single tasks: longest, seconds": longest,
        "stages of the first night": first.stages,
        "stages of the second night from nothing": whole.stages,
        "stages of the second night by change": second.stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["second_night"])
    parser.add_argument("--customers", type=int, help="default 100,000, quick 2,000")
    parser.add_argument("--changed", type=int, help="default a fiftieth of the customers")
    parser.add_argument("--times", type=int, default=1, help="also with so many times the customers")
    parser.add_argument("--days", type=int, default=120, help="days of events: about 0.6 events a customer and day")
    parser.add_argument("--quick", action="store_true", help="shows that it runs, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    customers = options.customers or (2_000 if options.quick else 100_000)
    changed = options.changed or customers // 50
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = []
    with logged_session(timezone="Europe/London") as (spark, events):
        for times in dict.fromkeys([1, options.times]):
            with tempfile.TemporaryDirectory() as folder:
                found.append(second_night(spark, Path(folder), customers * times, options.days, changed, events))
    if len(found) > 1:
        small, large = found
        for name in ("first night, seconds", "second night by change, seconds", "most memory, GB: first night"):
            large[f"{name}: {large['customers']:,} / {small['customers']:,} customers"] = large[name] / small[name]
    for figures in found:
        for name, value in figures.items():
            console.print(f"{name}: {value:,.3f}" if isinstance(value, float) else f"{name}: {value}", highlight=False)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
