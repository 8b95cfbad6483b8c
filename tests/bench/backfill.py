"""A month of nights one by one against their backfill, over a growing sample whose catalogue changes by 2% a night.

    python -m tests.bench.backfill [--nights 30] [--customers 500] [--quick] [--json]

One store gets its nights one by one, each seeing only what the shop had that evening; another gets all of them later
as one backfill. A stub stands for the model: what is compared is the data, and what the ledger saves is counted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.backfill import run_backfill
from jobs.runs import Night
from jobs.session import create_session
from tests.bench.measure import arguments, console, report
from tests.bench.nights import QUICK_JVM
from tests.growing_shop import GrowingShop, use_stub

CHURN = 0.02
DAYS = 60


def measure(spark: SparkSession, folder: Path, customers: int, nights: int) -> dict[str, float]:
    """Run both and return: dates whose files differ, unsellable rows, share scored again, seconds and requests."""
    shop = GrowingShop(folder, customers=customers, products=400, days=max(DAYS, nights), churn=CHURN, nights=nights)
    one_by_one = []
    for day in shop.nights:
        shop.grow(day)
        one_by_one.append(shop.night(spark, "one-by-one", day, "gate.min_dates=1000", growing=True))
        console.print(f"[dim]{day}: {seconds(one_by_one[-1]):.1f} s[/dim]", highlight=False)
    config = shop.config("backfilled", "gate.min_dates=1000")
    again = run_backfill(spark, config, shop.nights[0], shop.last, Console(quiet=True), shop.config_file)
    expected, found = shop.digests("one-by-one"), shop.digests("backfilled")
    differing = {
        Path(path).parts[1] for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
    }
    unsellable = sum(
        int((~shop.table("backfilled", "recommendations", day).item_id.isin(shop.sellable(day))).sum())
        for day in shop.nights
    )
    later = again[1:]
    lists = [shop.table("backfilled", "recommendations", night.run_date) for night in later]
    customers_of = [rows.drop_duplicates("user_id") for rows in lists]
    scored_again = sum(
        int(((rows.why_scored == "catalogue") & (rows.scored_on == night.run_date)).sum())
        for rows, night in zip(customers_of, later, strict=True)
    )
    return {
        "dates": nights,
        "dates that differ": len(differing),
        "list rows": sum(night.rows["recommendations"] for night in again),
        "list rows that were not on sale": unsellable,
        "customers scored a night after the first, share": mean(
            [night.scored["recommend"] / night.customers for night in later]
        ),
        "of them for the catalogue alone, share of all": scored_again / sum(map(len, customers_of)),
        "first date of the backfill, seconds": seconds(again[0]),
        "later dates of the backfill, mean seconds": mean([seconds(night) for night in later]),
        "first date, requests scored": again[0].scored["recommend"],
        "later dates, mean requests scored": mean([night.scored["recommend"] for night in later]),
    }


def seconds(night: Night) -> float:
    """Seconds of a night's stages."""
    return sum(value for name, value in night.seconds.items() if "." not in name)


def mean(values: list[float]) -> float:
    """The mean, 0 for nothing."""
    return sum(values) / len(values) if values else 0.0


def main() -> None:
    options = arguments(__doc__ or "", nights=30, customers=500)
    if options.quick:
        options.nights, options.customers = max(3, options.nights), max(50, options.customers)
    spark = create_session("bench", timezone="Europe/London", conf=QUICK_JVM)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        use_stub(spark, patch)
        figures = measure(spark, Path(folder), options.customers, options.nights)
    spark.stop()
    rows = {name: {"": f"{value:,.3f}".rstrip("0").rstrip(".")} for name, value in figures.items()}
    report(f"Backfill of {options.nights} dates, {options.customers:,} customers", rows, figures, options.json)


if __name__ == "__main__":
    main()
