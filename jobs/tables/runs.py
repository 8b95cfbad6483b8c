"""Writes `runs`: the rows, requests, seconds and versions of one run, to explain a slow or small night.

Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

import schemas
from jobs.inputs.row_accounting import RowAccount
from jobs.spark import files, parquet
from jobs.spark.contracts import struct_type
from jobs.spark.deadline import Deadline
from jobs.store.store import Store
from schemas import runs

_PACKAGES = ("regulars", "pyspark", "torch", "transformers", "tokenizers")


def packages() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


@dataclass
class Night:
    """What one run did so far. The summary and the `runs` row are made of it."""

    run_id: str
    run_date: date
    store: Store
    deadline: Deadline | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    accounts: dict[str, RowAccount] = field(default_factory=dict)
    #: Hours from the newest used row to the end of the date, and the used rows, by input table.
    input_ages: dict[str, tuple[float, int]] = field(default_factory=dict)
    #: Rows of `quarantine` by (input table, rule): rejected input rows that are new on the date, and failed requests.
    quarantined: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Optional values that were left out of input rows, by (input table, rule).
    emptied: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Rows whose requests the model failed on, in the `quarantine` contract.
    rejected: list[DataFrame] = field(default_factory=list)
    #: Requests of each task: answered by the ledger, scored by the model, left at the deadline.
    reused: dict[str, int] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    #: Tokens that went through each task's model.
    tokens: dict[str, int] = field(default_factory=dict)
    #: Rows of each table as computed. `rows` counts what was published, without the control group's lists.
    computed: dict[str, int] = field(default_factory=dict)
    #: Customers whose rows are those of the date before.
    copied: int = 0
    #: Customers that tonight's segment names, by the part of the segment.
    named: dict[str, int] = field(default_factory=dict)
    #: Tables in which the deadline left something out.
    unfinished: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=packages)
    rows: dict[str, int] = field(default_factory=dict)
    #: Warnings about the inputs. They come early in a long log, so the summary repeats them.
    notes: list[str] = field(default_factory=list)

    def work(self, name: str) -> str:
        """A work folder of this run."""
        return f"{self.store.work(self.run_id)}/{name}"

    def keep(self, spark: SparkSession, frame: DataFrame, name: str) -> DataFrame:
        """Write a frame that is read more than once, so that it is computed once; count its rows."""
        written = parquet.write(spark, frame, self.work(name))
        self.computed[name] = sum(footer.rows for footer in written)
        return spark.read.schema(frame.schema).parquet(files.for_reading(self.work(name)))

    @property
    def customers(self) -> int:
        """Customers who have a prompt."""
        return self.computed.get("prompts", 0)


def run_row(spark: SparkSession, night: Night) -> DataFrame:
    """One row in the `runs` contract. It is published with the tables that it describes."""
    row = (
        night.run_id,
        runs.AT_DEADLINE if night.unfinished else runs.PUBLISHED,
        night.started_at,
        datetime.now(UTC),
        counts(night),
        sum(night.tokens.values()),
        dict(night.seconds),
        dict(night.versions),
    )
    return spark.createDataFrame([row], struct_type(schemas.contract("runs")))


def figures(night: Night) -> dict[str, Any]:
    """What one line of a log says of a published night: its run, rows by table, seconds by stage and requests."""
    return {
        "run_id": night.run_id,
        "run_date": night.run_date.isoformat(),
        "rows": dict(night.rows),
        "seconds": {name: round(seconds, 3) for name, seconds in night.seconds.items()},
        "scored": dict(night.scored),
        "reused": dict(night.reused),
        "late": dict(night.late),
        "tokens": sum(night.tokens.values()),
    }


def counts(night: Night) -> Mapping[str, int]:
    """Row counts by name, such as `purchases.read`, `quarantine.reviews.rating_unparsable`, `recommend.scored`."""
    found = {f"{t}.{f.name}": getattr(a, f.name) for t, a in night.accounts.items() for f in fields(a)}
    found |= {f"quarantine.{table}.{rule}": n for (table, rule), n in night.quarantined.items()}
    found |= {f"emptied.{table}.{rule}": n for (table, rule), n in night.emptied.items()}
    for kind in ("reused", "scored", "late", "tokens"):
        found |= {f"{task}.{kind}": n for task, n in getattr(night, kind).items()}
    return found | {"customers": night.customers, "customers_copied": night.copied}
