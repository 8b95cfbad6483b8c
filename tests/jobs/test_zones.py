"""Days that are not 24 hours long: each event is in exactly one date, whatever the machine's own time zone is."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import yaml

from jobs.inputs.row_accounting import end_of_date, is_before
from jobs.tables.sentiments import reviews_of
from tests.nights import Shop, tables
from tests.rows import frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Zones with a day of a change, where clocks go at night or at midnight, or that are far ahead.
DAYS = [
    ("Europe/Berlin", date(2026, 3, 29)),  # 23 hours
    ("Europe/Berlin", date(2026, 10, 25)),  # 25 hours
    ("America/Sao_Paulo", date(2018, 11, 4)),  # begins at 01:00
    ("America/Sao_Paulo", date(2018, 2, 17)),  # 23:00 to midnight comes twice
    ("Pacific/Kiritimati", date(2026, 1, 1)),  # UTC+14
]


@pytest.mark.parametrize(("zone", "day"), DAYS)
def test_each_event_is_in_exactly_one_date(spark: SparkSession, zone: str, day: date) -> None:
    """Every half hour around the day, and both sides of each midnight to the microsecond."""
    first = end_of_date(day - timedelta(days=2), zone).astimezone(UTC)
    moments = [first + timedelta(minutes=30) * n for n in range(3 * 48)]
    moments += [
        end_of_date(day + timedelta(days=n), zone).astimezone(UTC) + timedelta(microseconds=m)
        for n in (-1, 0)
        for m in (-1, 0)
    ]
    rows = [{"review_id": f"r{n}", "reviewed_at": at} for n, at in enumerate(moments)]
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        events = frame(spark, "reviews", rows)
        dates: Counter[str] = Counter()
        seen: dict[str, date] = {}
        for one in (day + timedelta(days=n) for n in (-1, 0, 1, 2)):
            visible = events.where(is_before(end_of_date(one, zone), "reviewed_at"))
            due = [row.review_id for row in reviews_of(visible, one, 0).collect()]
            dates.update(due)
            seen |= dict.fromkeys(due, one)
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    assert set(dates.values()) == {1}
    assert seen == {f"r{n}": at.astimezone(ZoneInfo(zone)).date() for n, at in enumerate(moments)}


MACHINES = ("UTC", "America/Sao_Paulo", "Pacific/Kiritimati", "Asia/Kolkata")


@pytest.mark.faults
def test_nights_are_the_same_in_four_machine_time_zones(tmp_path: Path) -> None:
    """Local times as text, around the end of the date in the shop's zone, are the same instants on each machine."""
    shop = Shop(tmp_path)
    zone = ZoneInfo("Europe/London")
    purchases = pd.read_parquet(tmp_path / "data/purchases")
    purchases["purchased_at"] = purchases.purchased_at.dt.tz_convert(zone).dt.tz_localize(None).astype(str)
    late = purchases.head(8).assign(purchased_at=[f"{shop.day} 23:{minute}:00" for minute in range(40, 48)])
    tomorrow = late.assign(purchased_at=[f"{shop.day + timedelta(days=1)} 00:0{minute}:00" for minute in range(8)])
    duplicates = purchases.tail(5)
    rows = pd.concat([tomorrow, purchases, late, duplicates]).sample(frac=1, random_state=0)  # out of order
    rows.to_csv(tmp_path / "purchases.csv", index=False)
    settings = yaml.safe_load(shop.config.read_text())
    settings["inputs"]["purchases"] |= {"path": "purchases.csv", "format": "csv"}
    shop.config.write_text(yaml.safe_dump(settings))
    published = []
    for number, machine in enumerate(MACHINES):
        code, said = shop.night(tmp_path / f"store{number}", env={"TZ": machine})
        assert code == 0, said
        published.append(tables(tmp_path / f"store{number}"))
        counts = dict(pd.read_parquet(next((tmp_path / f"store{number}/tables/runs").rglob("*.parquet"))).rows[0])
        assert counts["purchases.outside_window"] >= len(tomorrow)
        assert counts["purchases.duplicates"] >= len(duplicates)
    assert published[1:] == published[:1] * (len(MACHINES) - 1)
    first = datetime.combine(shop.day, datetime.min.time(), zone)
    lists = pd.read_parquet(tmp_path / "store0/tables/prompts")
    assert lists.last_event_at.max() >= pd.Timestamp(first) + pd.Timedelta(hours=23, minutes=40)
