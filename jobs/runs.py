"""Writes `runs`: what one run read, wrote, scored and took, for whoever asks why a night was slow or small.

Runs inside the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession

import schemas
from jobs.contracts import struct_type

if TYPE_CHECKING:
    from jobs.nightly import Night

_PACKAGES = ("regulars", "pyspark", "torch", "transformers", "tokenizers")


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def run_row(spark: SparkSession, night: Night) -> DataFrame:
    """One row in the `runs` contract; written with the tables that it describes, so it names the run that made them."""
    row = (
        night.run_id,
        "published",
        night.started_at,
        datetime.now(UTC),
        counts(night),
        night.tokens,
        dict(night.seconds),
        dict(night.versions),
    )
    return spark.createDataFrame([row], struct_type(schemas.contract("runs")))


def counts(night: Night) -> Mapping[str, int]:
    """Row counts by name: `purchases.read`, `quarantine.reviews.rating_unparsable`, `recommend.scored`, ..."""
    found = {f"{t}.{f.name}": getattr(a, f.name) for t, a in night.accounts.items() for f in fields(a)}
    found |= {f"quarantine.{table}.{rule}": n for (table, rule), n in night.quarantined.items()}
    found |= {f"{task}.reused": n for task, n in night.reused.items()}
    found |= {f"{task}.scored": n for task, n in night.scored.items()}
    return found | {"customers": night.customers}
