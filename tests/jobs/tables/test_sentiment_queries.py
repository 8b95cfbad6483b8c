"""The sentiment queries of jobs/tables/README.md, run by DuckDB on a table whose answers are known."""

from __future__ import annotations

import re

import duckdb
import pandas as pd
import pytest

from tests import ROOT
from tests.rows import row

PAGE = ROOT / "jobs/tables/README.md"


def answer(question: str) -> list[dict]:
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(r"<!-- sentiment-queries -->(.*?)<!-- end of sentiment-queries -->", text, re.DOTALL)
    assert section, "jobs/tables/README.md has the sentiment queries between their markers"
    found = dict(re.findall(r"```sql\n-- ([^\n]+)\n(.*?)```", section.group(1), re.DOTALL))
    with duckdb.connect() as connection:
        return connection.execute(found[question]).df().to_dict("records")


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    """Two dates; review `a` was labelled on both, and on the second it is no longer positive."""
    monkeypatch.chdir(tmp_path)
    dates = {
        "2026-03-01": [("a", "tea", 0.9, "positive"), ("b", "tea", 0.5, "positive")],
        "2026-03-02": [("a", "tea", 0.1, "negative"), ("c", "jam", 1.0, None), ("d", "jam", 1.0, "positive")],
    }
    for day, reviews in dates.items():
        folder = tmp_path / f"demo/store/tables/sentiments/run_date={day}"
        folder.mkdir(parents=True)
        rows = [
            row("sentiments", review_id=i, item_id=item, label=label, p_positive=p, p_negative=1 - p, p_neutral=0.0)
            for i, item, p, label in reviews
        ]
        pd.DataFrame(rows).drop(columns="rating").to_parquet(folder / "part-00000.parquet", index=False)


def test_items_count_each_review_once_as_it_was_labelled_last():
    tea, jam = answer("sentiment of each item")  # of tea: 2p - 1 is -0.8 and 0; the interval reaches 1.96 * 0.4
    assert tea == {
        "item_id": "tea", "reviews": 2, "score": -0.4, "low": -1.0, "high": 0.38,
        "negative": 1, "disagree": 0, "abstained": 0,
    }  # fmt: skip
    assert (jam["item_id"], jam["score"], jam["low"], jam["high"], jam["abstained"]) == ("jam", 1.0, 1.0, 1.0, 1)


def test_days_are_those_on_which_reviews_were_labelled():
    first, second = answer("sentiment of each day")
    assert (first["reviews"], first["score"], first["high"]) == (2, 0.4, 1.0)
    assert (second["reviews"], second["score"]) == (3, 0.4)
