"""The loyalty queries of jobs/tables/README.md, run by DuckDB on tables whose answers are known."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import duckdb
import pandas as pd
import pytest

from schemas import contract
from tests import ROOT
from tests.rows import row

PAGE = ROOT / "jobs/tables/README.md"
START, TODAY = date(2026, 2, 1), date(2026, 3, 1)


def queries() -> dict[str, str]:
    """Each SQL block of the section by the comment in its first line."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(r"<!-- loyalty-queries -->(.*?)<!-- end of loyalty-queries -->", text, re.DOTALL)
    assert section, "jobs/tables/README.md has the loyalty queries between their markers"
    found = re.findall(r"```sql\n-- ([^\n]+)\n(.*?)```", section.group(1), re.DOTALL)
    return dict(found)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with demo/, in which tables are written by `put`."""
    monkeypatch.chdir(tmp_path)

    def put(folder: str, rows: list[dict]) -> None:
        path = tmp_path / "demo" / folder
        path.mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(path / "part-00000.parquet", index=False)

    return put


def answer(question: str) -> pd.DataFrame:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Europe/London'")
        return connection.execute(queries()[question]).df()


def loyalty(user: str, **values) -> dict:
    """A row; columns without a value in any row have their type all the same, as the night writes them."""
    doubles = {column.name for column in contract("loyalty").columns if column.type == "double"}
    found = row("loyalty", user_id=user, **values)
    return {name: float("nan") if name in doubles and found[name] is None else found[name] for name in found}


def test_about_to_leave_and_unhappy(shop):
    gone = {"p_alive": 0.2, "sentiment": -0.5, "days_since_purchase": 5, "days_between_purchases": 20.0}
    once = {"p_alive": None, "days_between_purchases": None, "frequency": 0}
    rows = [
        loyalty("gone", **gone, monetary_value=10.0, frequency=3),
        loyalty("dear", **gone, monetary_value=100.0, frequency=1),
        loyalty("overdue", **gone | {"p_alive": 0.9, "days_since_purchase": 41}, monetary_value=1.0, frequency=1),
        loyalty("free", **gone, monetary_value=None, frequency=1),
        loyalty("happy", **gone | {"sentiment": 0.1}),
        loyalty("silent", **gone | {"sentiment": None}),
        loyalty("alive", **gone | {"p_alive": 0.9, "days_since_purchase": 39}),
        # The median gap of all is 20 days.
        loyalty("once", **gone | once | {"days_since_purchase": 41}, monetary_value=0.5),
        loyalty("just came", **gone | once | {"days_since_purchase": 39}, monetary_value=0.5),
    ]
    shop(f"store/tables/loyalty/run_date={TODAY}", rows)
    shop(f"store/tables/loyalty/run_date={START}", [loyalty("then", **gone)])
    found = answer("about to leave and unhappy")
    assert found.user_id.tolist() == ["dear", "gone", "overdue", "once", "free"]
    assert found.spent.tolist()[:4] == [200.0, 40.0, 2.0, 0.5]


def test_products_that_make_customers_come_back(shop):
    def bought(user: str, item: str, day: date, quantity: int = 1) -> dict:
        at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        return {"user_id": user, "item_id": item, "purchased_at": at, "quantity": quantity}

    first, again, late = date(2026, 1, 1), date(2026, 1, 29), date(2026, 1, 30)
    purchases = []
    for number in range(10):
        purchases += [bought(f"tea{number}", "tea", first), bought(f"tea{number}", "cup", again)]  # day 28: back
        purchases += [bought(f"pan{number}", "pan", first), bought(f"pan{number}", "cup", late)]  # day 29: not
        purchases += [bought(f"pan{number}", "pan", first), bought(f"pan{number}", "pan", again, -1)]  # a return
        purchases += [bought(f"new{number}", "tea", date(2026, 2, 20))]  # too new to tell
    purchases += [bought("stranger", "tea", first), bought("tea0", "tea", date(2026, 4, 1))]
    users = sorted({p["user_id"] for p in purchases} - {"stranger"})
    shop("data/purchases", purchases)
    shop(f"store/tables/loyalty/run_date={TODAY}", [loyalty(user) for user in users])
    found = answer("products that make customers come back").set_index("item_id")
    assert found.index.tolist() == ["tea", "pan"]
    assert found.first_buyers.tolist() == [10, 10]
    assert found.came_back.tolist() == [1.0, 0.0]
    # All: 10 of 20. Tea: (10 + 20 * 0.5) / (10 + 20) - 0.5 = 1/6.
    assert found.against_all.tolist() == [0.167, -0.167]


def test_did_the_lists_work(shop):
    # 3 of 4 treated and 1 of 2 control customers bought again; who opted out since is in neither.
    before = [loyalty(f"t{n}", group="treated", frequency=1) for n in range(4)]
    before += [loyalty(f"c{n}", group="control", frequency=1) for n in range(2)]
    after = [r | {"frequency": 3 if r["user_id"] in ("t0", "t1", "t2", "c0") else 1} for r in before]
    shop(f"store/tables/loyalty/run_date={START}", [*before, loyalty("gone", group="control", frequency=1)])
    shop(f"store/tables/loyalty/run_date={TODAY}", after)
    found = answer("did the lists work").set_index("group")
    assert found.customers.to_dict() == {"treated": 4, "control": 2}
    assert found.bought_again.to_dict() == {"treated": 0.75, "control": 0.5}
    assert found.purchase_days.to_dict() == {"treated": 1.5, "control": 1.0}
    assert found.plus_minus["treated"] == pytest.approx(1.96 * 0.5 / 2)


def test_bought_from_the_lists(shop):
    listed = [row("recommendations", user_id=user, item_id=item) for user in ("ann", "bob", "carl") for item in "ab"]
    shop(f"store/tables/recommendations/run_date={START}", listed)
    bought = {2: [("ann", "b"), ("ann", "x"), ("bob", "x")], 8: [("bob", "a")], 9: [("carl", "a")], 1: [("carl", "b")]}
    for day, rows in bought.items():
        made = [row("purchases_used", user_id=user, item_id=item) for user, item in rows]
        shop(f"store/tables/purchases_used/run_date=2026-02-0{day}", made)
    (found,) = answer("bought from the lists").to_dict("records")
    assert found["run_date"].date() == START
    assert (found["bought_something"], found["bought_from_list"]) == (2, 2)


def test_every_query_is_run_here():
    assert set(queries()) == {
        "about to leave and unhappy",
        "products that make customers come back",
        "did the lists work",
        "bought from the lists",
    }
