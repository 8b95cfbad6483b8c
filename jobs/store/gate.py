"""The quality gate: refuses a night that differs too much from earlier nights.

It compares the row count of each output table and the share of each sentiment label with the `metrics` of the newest
published dates before run_date. The configuration's `gate` section sets the limits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession

from jobs.config.settings import GateSettings
from jobs.spark import files
from jobs.spark.errors import GateRefused
from jobs.store.dates import published_runs
from jobs.store.store import Store, published_dates

#: The compared metrics. Their slice in `metrics` is the table or the label.
ROWS, LABEL_SHARE = "rows", "label_share"
#: Tables whose row count may fall without limit.
_MAY_FALL = ("quarantine",)
#: Opt-outs that a list may lose from one date to the next, however short it is.
_FEW_OPTOUTS = 5
#: Tolerance for rounding errors in products of row counts.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class MetricRow:
    """One row of `metrics`."""

    metric: str
    slice: str
    value: float
    n: int


@dataclass(frozen=True)
class Refusal:
    """A figure outside its range, and the limit of the configuration that would accept it."""

    figure: str
    value: str
    expected: str
    key: str
    limit: float


def refuse_drift(
    spark: SparkSession,
    store: Store,
    run_date: date,
    metrics: DataFrame,
    settings: GateSettings,
    *,
    unfinished: Collection[str] = (),
) -> None:
    """Raise GateRefused where tonight's `metrics` lie outside the range of the earlier dates.

    Tables in `unfinished` were cut short by a deadline, so their row counts are not compared.
    """
    dates = [day for day in published_dates(spark, store, "metrics") if day < run_date][-settings.dates :]
    if len(dates) < settings.min_dates:
        return
    reader = spark.read.option("basePath", files.uri(store.table("metrics")))
    earlier = reader.parquet(*(files.for_reading(store.date_folder("metrics", day)) for day in dates))
    before: dict[date, list[MetricRow]] = {day: [] for day in dates}
    for row in _judged(earlier, "run_date").collect():
        before[row["run_date"]].append(MetricRow(*row[:4]))
    tonight = [MetricRow(*row) for row in _judged(metrics).collect()]
    found = judge(tonight, list(before.values()), settings, unfinished)
    if found:
        raise GateRefused(_message(found, dates))


def refuse_lost_optouts(spark: SparkSession, store: Store, customers: int, settings: GateSettings) -> None:
    """Raise GateRefused where the list of opt-outs lost more customers than `max_drop` allows.

    `customers` are those of tonight's list. It is compared with that of the newest published date: an export that
    breaks off would bring customers back who opted out. Losing five of them always passes.
    """
    newest = published_dates(spark, store, "runs")[-1:]
    before = max((run.rows.get("optouts.used", 0) for run in published_runs(spark, store, newest).values()), default=0)
    lost = before - customers
    if lost <= max(_FEW_OPTOUTS, math.floor(before * settings.max_drop + _ROUNDING)):
        return
    raise GateRefused(
        f"inputs.optouts names {customers:,} customers, and named {before:,} on {newest[0]}. The others would get "
        "lists again. Nothing was published, the old data stays. Give the complete list, then run the same command. If "
        f"the list is right, add --set gate.max_drop={math.ceil(lost / before * 100) / 100} once."
    )


def refuse_short_lists(metrics: DataFrame, ledger: str, k: int) -> None:
    """Raise GateRefused where lists have fewer than `k` products though more products could be sold.

    The message names `ledger`, the folder of the lists' ledger.
    """
    lost = metrics.where("metric = 'short_lists' AND slice = 'unexplained'").first()
    if lost is not None:
        raise GateRefused(
            f"{lost['n']:,} customers have fewer than {k} products in their lists although more could be sold to them."
            " Nothing was published, the old data stays. Was the ledger below the store changed by hand? Remove "
            f"{ledger} to score everything again, then run the same command."
        )


def judge(
    tonight: Sequence[MetricRow],
    before: Sequence[Sequence[MetricRow]],
    settings: GateSettings,
    unfinished: Collection[str] = (),
) -> list[Refusal]:
    """Compare tonight's figures with those of the dates `before` (one sequence per date) and return refusals."""
    refusals = []
    for table in _slices(before, ROWS):
        past = [figure.value for day in before for figure in day if (figure.metric, figure.slice) == (ROWS, table)]
        value = sum(figure.value for figure in tonight if (figure.metric, figure.slice) == (ROWS, table))
        if table not in unfinished:
            refusals += _judge_rows(table, value, past, settings)
    labels = [figure for figure in tonight if figure.metric == LABEL_SHARE]
    if "sentiments" not in unfinished and labels and labels[0].n >= settings.min_rows:
        for label in sorted({figure.slice for figure in labels} | set(_slices(before, LABEL_SHARE))):
            refusals += _judge_label(label, labels, before, settings)
    return refusals


def _judge_rows(table: str, value: float, past: Sequence[float], settings: GateSettings) -> list[Refusal]:
    fewest, most = min(past), max(past)
    low = (
        0
        if table in _MAY_FALL or fewest < settings.min_rows
        else math.ceil(fewest * (1 - settings.max_drop) - _ROUNDING)
    )
    high = max(math.floor(most * (1 + settings.max_rise) + _ROUNDING), settings.min_rows)
    if low <= value <= high:
        return []
    if value < low:
        key, limit = "gate.max_drop", 1 - value / fewest
    elif most == 0:
        key, limit = "gate.min_rows", value
    else:
        key, limit = "gate.max_rise", value / most - 1
    return [Refusal(f"rows of {table}", f"{value:,.0f}", f"{low:,} to {high:,}", key, limit)]


def _judge_label(
    label: str, tonight: Sequence[MetricRow], before: Sequence[Sequence[MetricRow]], settings: GateSettings
) -> list[Refusal]:
    """Compare the share of one label. A label without reviews has no row in `metrics`; its share is 0."""
    share = sum(figure.value for figure in tonight if figure.slice == label)
    days = [[figure for figure in day if figure.metric == LABEL_SHARE] for day in before]
    total = sum(day[0].n for day in days if day)
    if total < settings.min_rows:
        return []
    past = sum(figure.value * figure.n for day in days for figure in day if figure.slice == label) / total
    shift = abs(share - past)
    if shift <= settings.max_label_shift:
        return []
    low, high = max(0.0, past - settings.max_label_shift), min(1.0, past + settings.max_label_shift)
    return [
        Refusal(f"share of {label} reviews", f"{share:.3f}", f"{low:.3f} to {high:.3f}", "gate.max_label_shift", shift)
    ]


def _message(refusals: Sequence[Refusal], dates: Sequence[date]) -> str:
    lines = [f"{r.figure}: {r.value}, expected {r.expected}" for r in refusals]
    needed: dict[str, float] = {}
    for refusal in refusals:
        needed[refusal.key] = max(needed.get(refusal.key, 0.0), refusal.limit)
    options = " ".join(f"--set {key}={_rounded_up(key, limit)}" for key, limit in needed.items())
    return (
        f"The night differs too much from the {len(dates)} published dates from {dates[0]} to {dates[-1]}: "
        + "; ".join(lines)
        + ". Nothing was published, the old data stays; the model's answers are kept. Check the inputs and the model."
        f" If the figures are right, run the same command with {options}; otherwise fix the cause and run it again."
    )


def _rounded_up(key: str, limit: float) -> str:
    if key == "gate.min_rows":
        return f"{math.ceil(limit)}"
    return f"{math.ceil(round(limit * 1000, 6)) / 1000:.3f}"


def _slices(before: Iterable[Iterable[MetricRow]], metric: str) -> list[str]:
    return sorted({figure.slice for day in before for figure in day if figure.metric == metric})


def _judged(metrics: DataFrame, *more: str) -> DataFrame:
    return metrics.where(metrics["metric"].isin(ROWS, LABEL_SHARE)).select("metric", "slice", "value", "n", *more)
