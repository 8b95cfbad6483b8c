"""A month of nights one by one against their backfill, over a growing sample whose catalogue changes by 2% a night.

    python -m tests.bench.backfill [--nights 30] [--customers 500] [--layers 6] [--width 384] [--quick] [--json]

One store gets its nights one by one, each seeing only what the shop had that evening; another gets all of them later
as one backfill. GPT-2 has random weights and computes in float32, where a list does not depend on its batch. Every
published row of both stores is compared, every list is held against what was on sale on its date.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.backfill import run_backfill
from jobs.spark.session import create_session
from jobs.tables.runs import Night
from tests.bench.measure import arguments, console, report
from tests.bench.nights import QUICK_JVM
from tests.growing_shop import GrowingShop

CHURN = 0.02
DAYS = 60
SETTINGS = ("gate.min_dates=1000", "models.dtype=float32", "recommend.prompt_tokens=128")


def measure(spark: SparkSession, shop: GrowingShop) -> dict[str, float]:
    """Run both and return: dates whose rows differ, unsellable rows, shares scored again, seconds and requests."""
    for day in shop.nights:
        shop.grow(day)
        said("one by one", shop.night(spark, "one-by-one", day, *SETTINGS, growing=True))
    config = shop.config("backfilled", *SETTINGS)
    progress = Console(stderr=True, width=160)
    again = run_backfill(spark, config, shop.nights[0], shop.last, progress, shop.config_file)
    expected, found = shop.digests("one-by-one"), shop.digests("backfilled")
    differing = {
        Path(path).parts[1] for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
    }
    unsellable = sum(
        int((~shop.table("backfilled", "recommendations", day).item_id.isin(shop.sellable(day))).sum())
        for day in shop.nights
    )
    first, later = again[0], again[1:]
    third = max(1, len(later) // 3)
    return {
        "dates": len(again),
        "dates that differ": len(differing),
        "files compared": len(expected),
        "list rows": sum(night.rows["recommendations"] for night in again),
        "list rows that were not on sale": unsellable,
        "customers on the last date": again[-1].customers,
        "customers scored on a date after the first, share": mean([scored(night) / night.customers for night in later]),
        "of them for the catalogue alone": mean([for_catalogue(shop, night) / night.customers for night in later]),
        "requests scored: first date": scored(first),
        "requests scored: next third of the dates, mean": mean([scored(night) for night in later[:third]]),
        "requests scored: last third, mean": mean([scored(night) for night in later[-third:]]),
        "seconds: first date": seconds(first),
        "seconds: next third of the dates, mean": mean([seconds(night) for night in later[:third]]),
        "seconds: last third, mean": mean([seconds(night) for night in later[-third:]]),
        "seconds of the model: first date": model_seconds(first),
        "seconds of the model: next third, mean": mean([model_seconds(night) for night in later[:third]]),
        "seconds of the model: last third, mean": mean([model_seconds(night) for night in later[-third:]]),
    }


def said(how: str, night: Night) -> None:
    """One line of progress."""
    counts = f"{scored(night):,} of {night.customers:,} customers scored"
    console.print(f"[dim]{how} {night.run_date}: {seconds(night):.1f} s, {counts}[/dim]", highlight=False)


def scored(night: Night) -> int:
    """Requests for lists that went through the model."""
    return night.scored["recommend"]


def for_catalogue(shop: GrowingShop, night: Night) -> int:
    """Customers whose list was scored on the date because too few of its products were left on sale."""
    rows = shop.table("backfilled", "recommendations", night.run_date).drop_duplicates("user_id")
    return int(((rows.why_scored == "catalogue") & (rows.scored_on == night.run_date)).sum())


def seconds(night: Night) -> float:
    """Seconds of a night's stages."""
    return sum(value for name, value in night.seconds.items() if "." not in name)


def model_seconds(night: Night) -> float:
    """Seconds of its waves, for lists and labels."""
    return sum(value for name, value in night.seconds.items() if name.endswith(".model"))


def mean(values: list[float]) -> float:
    """The mean, 0 for nothing."""
    return sum(values) / len(values) if values else 0.0


def main() -> None:
    options = arguments(__doc__ or "", nights=30, customers=500, layers=6, width=384)
    if options.quick:
        options.nights, options.customers = max(3, options.nights), max(50, options.customers)
        options.layers, options.width = max(2, options.layers), max(64, options.width)
    shape = {"n_embd": options.width, "n_layer": options.layers, "n_head": max(2, options.width // 64)}
    spark = create_session("bench", timezone="Europe/London", conf=QUICK_JVM)
    with tempfile.TemporaryDirectory() as folder:
        shop = GrowingShop(
            Path(folder),
            customers=options.customers,
            products=400,
            days=max(DAYS, options.nights),
            churn=CHURN,
            nights=options.nights,
            shape=shape,
        )
        figures = measure(spark, shop)
    spark.stop()
    rows = {name: {"": f"{value:,.3f}".rstrip("0").rstrip(".")} for name, value in figures.items()}
    title = f"Backfill of {options.nights} dates, {options.customers:,} customers, GPT-2 {shape}"
    report(title, rows, figures | shape, options.json)


if __name__ == "__main__":
    main()
