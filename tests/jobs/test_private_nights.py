"""A shop with marks in ids and texts: after a good, a failed and a killed night no byte outside the inputs has one."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.erasable import search
from tests.nights import Shop

pytestmark = pytest.mark.faults

EMAIL = "theremin.player@example.org"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for table, column in (("reviews", "text"), ("searches", "query")):
        for part in (shop.folder / "data" / table).glob("*.parquet"):
            rows = pd.read_parquet(part)
            rows[column] = rows[column] + f" write to {EMAIL}"
            rows.to_parquet(part)
    return shop


def test_no_id_and_no_address_leaves_the_inputs(shop: Shop, tmp_path: Path) -> None:
    store, events = tmp_path / "store", tmp_path / "events"
    events.mkdir()
    overrides = (
        "privacy.pseudonyms=true",
        "spark.spark.eventLog.enabled=true",
        f"spark.spark.eventLog.dir=file://{events}",
        f"spark.spark.local.dir={tmp_path / 'scratch'}",
    )
    data = [pd.read_parquet(shop.folder / "data" / table) for table in ("purchases", "searches", "reviews")]
    ids = sorted(set(pd.concat(data).user_id.dropna().str.strip()) - {""})
    assert len(ids) > 40
    marks = [*ids, EMAIL]

    killed, said = shop.night(store, *overrides, fault="requests-written")
    assert killed == -signal.SIGKILL, said
    (tmp_path / "headless.csv").write_text(f"{ids[0]},P000001,2026-01-01 10:00:00,{EMAIL}\n")
    headless = (f"inputs.reviews.path={tmp_path / 'headless.csv'}", "inputs.reviews.format=csv")
    failed, why = shop.night(store, *overrides, *headless)
    assert failed == 5, why
    assert not any((store / "work").iterdir())
    good, report = shop.night(store, *overrides)
    assert good == 0, report

    lists = pd.read_parquet(store / "tables/recommendations")
    assert 40 < lists.user_id.nunique() <= len(ids)
    for text in (said, why, report):
        assert not any(mark in text for mark in marks)
    for folder in (store, events):
        assert any(folder.rglob("*"))
        assert search(folder, marks) == []
    open_files = [path for path in store.rglob("*") if path.stat().st_mode & 0o077]
    assert open_files == []
