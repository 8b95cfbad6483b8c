"""The quality gate: what is far from the last published dates is refused, with the figure, its range and a way on."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.settings import GateSettings
from jobs.spark.errors import GateRefused
from jobs.store.gate import LABEL_SHARE, ROWS, MetricRow, judge, refuse_drift, refuse_lost_optouts, refuse_short_lists
from jobs.store.publish import publish
from jobs.store.store import Store
from tests.jobs.spark.test_files import NO_SPARK
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = GateSettings()
DAY = date(2026, 3, 1)


def night(rows: int = 1000, labels: dict[str, float] | None = None, n: int = 500, **tables: int) -> list[MetricRow]:
    """A night's figures: `rows` lists, and a mix of labels over n reviews."""
    shares = {"negative": 0.2, "neutral": 0.1, "positive": 0.7} if labels is None else labels
    counts = {"recommendations": rows} | tables
    return [MetricRow(ROWS, table, float(value), value) for table, value in counts.items()] + [
        MetricRow(LABEL_SHARE, label, share, n) for label, share in shares.items()
    ]


def refused(tonight: list[MetricRow], before: list[list[MetricRow]] | None = None, **settings: float) -> list[str]:
    limits = SETTINGS.model_copy(update=settings)
    return [f"{r.figure} {r.value} {r.expected}" for r in judge(tonight, before or [night()] * 7, limits)]


def test_a_night_like_the_others_passes() -> None:
    assert refused(night()) == []
    assert refused(night(rows=701)) == []
    assert refused(night(rows=2000)) == []
    assert refused(night(labels={"negative": 0.34, "positive": 0.66})) == []


@pytest.mark.parametrize(
    ("tonight", "says"),
    [
        (night(rows=699), ["rows of recommendations 699 700 to 2,000"]),
        (night(rows=0), ["rows of recommendations 0 700 to 2,000"]),
        (night(rows=2001), ["rows of recommendations 2,001 700 to 2,000"]),
        (
            night(labels={"negative": 0.36, "neutral": 0.1, "positive": 0.54}),
            ["share of negative reviews 0.360 0.050 to 0.350", "share of positive reviews 0.540 0.550 to 0.850"],
        ),
        # A label that nobody gets any more has no figure at all.
        (
            night(labels={"negative": 0.9, "neutral": 0.1}),
            ["share of negative reviews 0.900 0.050 to 0.350", "share of positive reviews 0.000 0.550 to 0.850"],
        ),
        # A table that is gone has no figure either.
        (night()[1:], ["rows of recommendations 0 700 to 2,000"]),
    ],
)
def test_a_night_unlike_the_others_is_refused(tonight: list[MetricRow], says: list[str]) -> None:
    assert refused(tonight) == says


def test_the_range_spans_all_of_the_dates() -> None:
    weekdays = [night(rows=rows) for rows in (1000, 1000, 4000, 1000, 1000, 1000, 1000)]
    assert refused(night(rows=8000), weekdays) == []
    assert refused(night(rows=8001), weekdays) == ["rows of recommendations 8,001 700 to 8,000"]


def test_small_numbers_are_not_judged() -> None:
    assert refused(night(rows=3), [night(rows=99)] * 7) == []
    assert refused(night(n=99, labels={"negative": 1.0})) == []
    assert refused(night(labels={"negative": 1.0}), [night(n=14)] * 7) == []
    assert len(refused(night(labels={"negative": 1.0}), [night(n=15)] * 7)) == 2


def test_rejected_rows_may_fall_but_not_multiply() -> None:
    before = [night(quarantine=120)] * 7
    assert refused(night(quarantine=0), before) == []
    assert refused(night(quarantine=241), before) == ["rows of quarantine 241 0 to 240"]
    assert refused(night(quarantine=101), [night(quarantine=0)] * 7) == ["rows of quarantine 101 0 to 100"]


def test_a_table_cut_short_by_a_deadline_is_not_judged() -> None:
    before = [night(sentiments=500)] * 7
    tonight = night(sentiments=10, labels={"negative": 1.0})
    assert judge(tonight, before, SETTINGS, ["sentiments"]) == []
    assert judge(tonight, before, SETTINGS, ["recommendations"])


@pytest.mark.parametrize(
    "tonight", [night(rows=690), night(rows=0), night(rows=2777), night(labels={"negative": 0.5311, "positive": 0.47})]
)
def test_the_suggested_limit_lets_the_night_pass(tonight: list[MetricRow]) -> None:
    for refusal in judge(tonight, [night()] * 7, SETTINGS):
        key = refusal.key.removeprefix("gate.")
        assert refusal.figure not in " ".join(refused(tonight, **{key: refusal.limit + 0.001}))


def test_it_reads_what_was_published_before(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def metrics(rows: int) -> list[dict[str, object]]:
        labels = [{"metric": LABEL_SHARE, "slice": "positive", "value": 1.0, "n": 200}]
        return [{"metric": ROWS, "slice": "recommendations", "value": float(rows), "n": rows}, *labels]

    for days in range(4):
        publish(
            spark, store, f"r{days}", DAY + timedelta(days=days), {"metrics": frame(spark, "metrics", metrics(1000))}
        )
    few = frame(spark, "metrics", metrics(100))
    refuse_drift(spark, store, DAY + timedelta(days=2), few, SETTINGS)  # two dates before it are too few to judge
    refuse_drift(spark, store, DAY + timedelta(days=4), frame(spark, "metrics", metrics(900)), SETTINGS)
    with pytest.raises(GateRefused) as refusal:
        refuse_drift(spark, store, DAY + timedelta(days=3), few, SETTINGS)
    message = str(refusal.value)
    assert "the 3 published dates from 2026-03-01 to 2026-03-03" in message
    assert "rows of recommendations: 100, expected 700 to 2,000" in message
    (key, value) = re.findall(r"--set (\S+)=(\S+);", message)[0]
    assert (key, value) == ("gate.max_drop", "0.900")
    refuse_drift(spark, store, DAY + timedelta(days=3), few, SETTINGS.model_copy(update={"max_drop": float(value)}))
    assert refusal.value.exit_code == 4
    lost = [{"metric": "short_lists", "slice": "unexplained", "value": 7.0, "n": 7}]
    with pytest.raises(GateRefused, match="7 customers have fewer than 10 products"):
        refuse_short_lists(frame(spark, "metrics", lost), store.ledger("recommend"), 10)
    refuse_short_lists(few, store.ledger("recommend"), 10)


@pytest.mark.parametrize(
    ("before", "tonight", "mend"),
    [
        (1000, 700, None),
        (1000, 699, "gate.max_drop=0.31"),
        (1000, 0, "gate.max_drop=1.0"),  # the input is no longer configured
        (6, 1, None),
        (7, 1, "gate.max_drop=0.86"),
        (0, 0, None),
        (1000, 2000, None),
    ],
)
def test_a_list_of_opt_outs_that_broke_off_is_refused(
    tmp_path: Path, before: int, tonight: int, mend: str | None
) -> None:
    store, now = Store(str(tmp_path)), datetime(2026, 3, 1, tzinfo=UTC)
    refuse_lost_optouts(NO_SPARK, store, 0, SETTINGS)  # without dates there is nothing to compare with
    for number, listed in enumerate((5000, before)):  # of two dates the newer one counts
        run = {"run_id": "r", "status": "published", "started_at": now, "finished_at": now}
        rows = pa.array([[("optouts.used", listed), ("purchases.used", 9)]], pa.map_(pa.string(), pa.int64()))
        table = pa.Table.from_pylist([run]).append_column("rows", rows)
        folder = Path(store.date_folder("runs", DAY + timedelta(days=number)))
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part-00000.parquet")
    if mend is None:
        refuse_lost_optouts(NO_SPARK, store, tonight, SETTINGS)
        return
    with pytest.raises(GateRefused, match=rf"names {tonight} customers, and named [\d,]+ on 2026-03-02.*{mend} once"):
        refuse_lost_optouts(NO_SPARK, store, tonight, SETTINGS)
    value = float(mend.partition("=")[2])
    refuse_lost_optouts(NO_SPARK, store, tonight, SETTINGS.model_copy(update={"max_drop": value}))
