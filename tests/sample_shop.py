"""A written sample as pandas tables, for the tests of the sample's modules."""

from __future__ import annotations

import re
from datetime import timedelta

import pandas as pd
import pyarrow.parquet as pq

from jobs.sample import SAMPLE_TABLES, SampleInfo

CHINESE = re.compile("[\u4e00-\u9fff]")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\ufeff]")
EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)


class Shop:
    """A written sample as pandas tables."""

    def __init__(self, info: SampleInfo) -> None:
        self.info = info
        self.tables = {t: pq.read_table(info.out / "data" / t).to_pandas() for t in SAMPLE_TABLES}
        self.truth = {p.stem: pq.read_table(p).to_pandas() for p in (info.out / "truth").glob("*.parquet")}

    def __getitem__(self, table: str) -> pd.DataFrame:
        return self.tables[table]

    def clean_purchases(self) -> pd.DataFrame:
        """What a validated reading leaves: known customers and items, within the period, once, in order."""
        rows = self["purchases"].drop_duplicates()
        right = rows.user_id.notna() & rows.item_id.isin(self["items"].item_id) & (rows.quantity > 0)
        right &= rows.purchased_at < pd.Timestamp(self.info.last_day + timedelta(days=1), tz="Europe/London")
        return rows[right].sort_values(["user_id", "purchased_at", "item_id"], ignore_index=True)


def share(mask: pd.Series) -> float:
    return float(mask.mean())
