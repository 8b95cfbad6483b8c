"""The sheet for a person: who is on it, what it hides, and that it works without scripts in a real browser."""

from __future__ import annotations

import io
import re
from datetime import UTC, date, datetime

import pytest
import yaml
from rich.console import Console

from jobs.config.config import load
from jobs.config.privacy import privacy_key
from jobs.report.sheet import SheetCustomer, SheetEvent, SheetProduct, render, write_sheet
from jobs.spark.errors import InputError
from jobs.spark.privacy_key import keyed_hash
from tests.jobs.report.test_chromium import CHROMIUM, LIGHT, judged
from tests.rows import frame


def at(day: int) -> datetime:
    return datetime(2026, 3, day, 12, tzinfo=UTC)


@pytest.fixture
def shop(spark, tmp_path):
    """Five customers with lists of 2 March; the first wrote a telephone number."""
    users = [f"secret-{number}" for number in range(5)]
    bought = [{"user_id": user, "item_id": "tea", "purchased_at": at(1)} for user in users]
    bought += [{"user_id": user, "item_id": "jam", "purchased_at": at(3)} for user in users]  # after the date
    frame(spark, "purchases", bought).write.parquet(str(tmp_path / "purchases"))
    searched = {"user_id": users[0], "query": "mug for anna@example.com", "searched_at": at(2)}
    frame(spark, "searches", [searched]).write.parquet(str(tmp_path / "searches"))
    items = [{"item_id": item, "title": f"<{item}> & more"} for item in ("tea", "jam", "mug")]
    frame(spark, "items", items).write.parquet(str(tmp_path / "items"))
    lists = [
        {"user_id": user, "rank": rank, "item_id": item, "title": f"<{item}> & more"}
        for user in users
        for rank, item in ((2, "jam"), (1, "mug"))
    ]
    folder = tmp_path / "store/tables/recommendations/run_date=2026-03-02"
    frame(spark, "recommendations", lists).write.parquet(str(folder))
    inputs = {table: {"path": table} for table in ("purchases", "searches", "items")}
    content = {"store": "./store", "timezone": "Europe/London", "inputs": inputs}
    (tmp_path / "regulars.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_the_newest_lists_beside_what_was_known_on_their_date(spark, shop):
    config, file, console = load(shop / "regulars.yaml"), shop / "sheet.html", Console(file=io.StringIO())
    assert write_sheet(spark, config, None, console, file) == 5
    html = file.read_text()
    assert "5 lists of 2026-03-02" in html
    assert "secret-" not in html
    assert "anna@example.com" not in html
    assert html.count("mug for [EMAIL]") == 1
    # Everybody bought tea before the date; the jam of 3 March is in lists only, at rank 2.
    assert html.count("<td>bought</td><td>&lt;tea&gt; &amp; more</td>") == 5
    assert "<td>bought</td><td>&lt;jam&gt;" not in html
    assert re.findall(r'<td>(\d)</td><th scope="row">&lt;(\w+)&gt;', html) == [("1", "mug"), ("2", "jam")] * 5
    first = file.read_bytes()
    write_sheet(spark, config, date(2026, 3, 2), console, file)
    assert file.read_bytes() == first
    assert write_sheet(spark, config, None, console, file, most=2) == 2
    # Who opted out since the lists were published is not shown.
    frame(spark, "optouts", [{"user_id": "secret-0"}]).write.parquet(str(shop / "optouts"))
    listed = load(shop / "regulars.yaml", ["inputs.optouts={path: optouts}"])
    assert write_sheet(spark, listed, None, console, file) == 4
    assert "mug for" not in file.read_text()
    hidden = load(shop / "regulars.yaml", ["inputs.optouts={path: optouts}", "privacy.pseudonyms=true"])
    key, folder = privacy_key(spark, hidden), shop / "store/tables/recommendations/run_date=2026-03-04"
    lists = [{"user_id": keyed_hash(key, f"secret-{n}"), "rank": 1, "item_id": "mug"} for n in range(5)]
    frame(spark, "recommendations", lists).write.parquet(str(folder))
    assert write_sheet(spark, hidden, None, console, file) == 4
    with pytest.raises(InputError, match=r"no lists of 2026-03-05.*regulars nightly .*--run-date 2026-03-05"):
        write_sheet(spark, config, date(2026, 3, 5), console, file)


def sheet_of(customers: int) -> str:
    events = [SheetEvent(at(2), "reviewed", "Tea: nice", 5), SheetEvent(at(1), "bought", "Tea", None)]
    products = [SheetProduct("Mug", "Kitchen", "Because you bought tea"), SheetProduct("Jam", "", "")]
    return render([SheetCustomer(events, 70, products)] * customers, date(2026, 3, 2), "Europe/London", 0)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_the_sheet_is_silent_needs_no_request_and_is_accessible(tmp_path):
    html = sheet_of(2)
    assert "<script" not in html
    found, said = judged(tmp_path, html, LIGHT)
    assert [fault for fault in found["violations"] if fault[0] in ("serious", "critical", "moderate")] == []
    assert found["requests"] == []
    assert (found["width"], found["wide"]) == (390, False)
    assert "CONSOLE" not in said
