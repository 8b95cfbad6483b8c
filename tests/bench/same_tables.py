"""Whether two stores hold the same tables, row for row: what a change of the code must not change.

    python -m tests.bench.same_tables STORE OTHER_STORE

Prints one line a table. `runs` is compared without what no two runs share: ids, times and seconds. The exit code is 1
where a table differs. Give both nights one key (`REGULARS_KEY`): the hashes of `quarantine` depend on it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds

#: Columns of `runs` that differ from run to run, and keys of its maps.
PER_RUN = ["run_id", "started_at", "finished_at", "seconds"]


def rows_of(store: Path, table: str) -> pd.DataFrame:
    """All rows of a table of a store, in an order that no file or task decides."""
    folder = store / "tables" / table
    rows = ds.dataset(folder, format="parquet", partitioning="hive").to_table().to_pandas()
    if table == "runs":
        rows = rows.drop(columns=PER_RUN)
    texts = rows.map(lambda value: json.dumps(value, default=str, sort_keys=True))
    return texts.sort_values(list(texts.columns)).reset_index(drop=True)


def differing_rows(one: pd.DataFrame, other: pd.DataFrame) -> int:
    """Rows that only one of the two has, counted as often as they stand there."""
    columns = sorted(set(one.columns) | set(other.columns))
    counts = [frame.reindex(columns=columns).value_counts(dropna=False) for frame in (one, other)]
    return int(counts[0].sub(counts[1], fill_value=0).abs().sum())


def main() -> None:
    """Compare every table that one of the stores has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("other", type=Path)
    options = parser.parse_args()
    differ = False
    stores = (options.store, options.other)
    for table in sorted({path.name for store in stores for path in (store / "tables").iterdir()}):
        one, other = rows_of(options.store, table), rows_of(options.other, table)
        different = differing_rows(one, other)
        differ |= different > 0
        same_columns = "same columns" if list(one.columns) == list(other.columns) else "other columns"
        print(f"{table}: {len(one):,} rows and {len(other):,}, {same_columns}, {different:,} differ")
    sys.exit(int(differ))


if __name__ == "__main__":
    main()
