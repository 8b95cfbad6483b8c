"""One customer with half of all events and one product in half of all rows, against even data of the same size.

    python -m tests.bench.skew [--events N] [--quick] [--json]

From the shop's files to the prompts table: validation, deduplication, histories and prompts, by the night's own
functions on two cores. Each run has a process and a JVM of its own, of which the most memory is taken.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from statistics import median

from tests.bench import material
from tests.bench.measure import arguments, console, report
from tests.bench.pipeline import BUDGET, HISTORY, Peak

EVENTS, CUSTOMERS, PRODUCTS = 2_000_000, 100_000, 10_000
DAY = date(2026, 6, 30)


def main() -> None:
    options = arguments(__doc__ or "", events=EVENTS)
    shapes: dict[str, list[tuple[float, int]]] = {"even": [], "skewed": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = material.save_tokenizer(folder / "model", options.data)
        for shape in shapes:
            write(folder / shape, options.events, skewed=shape == "skewed")
        fresh = multiprocessing.get_context("spawn")
        for number in range(options.rounds):
            for shape, found in shapes.items():
                with ProcessPoolExecutor(1, fresh) as process:
                    found.append(process.submit(to_prompts, folder / shape, model).result())
                console.print(f"[dim]round {number + 1} {shape}: {found[-1][0]:.1f} s[/dim]", highlight=False)
    seconds = {shape: median(one[0] for one in found) for shape, found in shapes.items()}
    peaks = {shape: max(one[1] for one in found) for shape, found in shapes.items()}
    figures = {
        "events": options.events,
        "skewed_vs_even": seconds["skewed"] / seconds["even"],
        "memory_vs_even": peaks["skewed"] / peaks["even"],
        "seconds": seconds,
        "peak_bytes": peaks,
    }
    rows = {shape: {"seconds": f"{seconds[shape]:.1f}", "peak": f"{peaks[shape] / 2**30:.2f} GiB"} for shape in shapes}
    report(f"{options.events:,} events to prompts", rows, figures, options.json)


def write(folder: Path, events: int, *, skewed: bool) -> None:
    """Purchases and items as Parquet; skewed: every other row is one customer's, every other row's product is one."""
    import duckdb

    folder.mkdir()
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("select setseed(0.5)")
    user = f"'u' || cast(floor({CUSTOMERS} * random()) as int)"
    item = f"'i' || cast(floor({PRODUCTS} * random()) as int)"
    if skewed:
        user = f"case when random() < 0.5 then 'u0' else {user} end"
        item = f"case when random() < 0.5 then 'i0' else {item} end"
    at = "timestamptz '2026-01-01 00:00:00+00' + to_microseconds(cast(random() * 180 * 86400e6 as bigint))"
    tables = {
        "purchases": f"select {user} user_id, {item} item_id, {at} purchased_at, 'o' || range order_id"
        f" from range({events})",
        "items": f"select 'i' || range item_id, 'Some product title number ' || range title from range({PRODUCTS})",
    }
    for name, rows in tables.items():
        connection.execute(f"copy ({rows}) to '{folder / name}.parquet'")


def to_prompts(folder: Path, model: Path) -> tuple[float, int]:
    """Seconds from the files to the prompts table, and the most bytes of the JVM and its workers."""
    from jobs.config.config import Config
    from jobs.inputs.reader import read_inputs
    from jobs.scoring import models
    from jobs.spark.session import create_session
    from jobs.tables.histories import histories
    from jobs.tables.prompts import prompts

    spark = create_session("bench", conf={"spark.master": "local[2]", "spark.driver.memory": "2g"})
    spark.range(10).selectExpr("sum(id)").collect()  # the JVM's start is not counted
    inputs = {name: {"path": f"{folder}/{name}.parquet"} for name in ("purchases", "items")}
    config = Config.model_validate({"store": f"{folder}/store", "timezone": "UTC", "inputs": inputs})
    load = models.Model(str(model), "bench").encoder_loader()
    with Peak() as peak:
        started = time.perf_counter()
        used = read_inputs(spark, config, DAY, f"{folder}/work").used
        prompts(histories(used, HISTORY), load, BUDGET).write.mode("overwrite").parquet(f"{folder}/prompts")
        seconds = time.perf_counter() - started
    spark.stop()
    return seconds, peak.bytes


if __name__ == "__main__":
    main()
