"""Writes `purchases_used`: the purchases of the date that the night used.

For analysts who ask what customers bought after they saw their lists. Runs inside the night:
`regulars nightly --run-date D`.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas import contract


def purchases_of_date(purchases: DataFrame, run_date: date) -> DataFrame:
    """Return the used purchases that were made on `run_date` in the session's time zone."""
    made_that_day = F.to_date("purchased_at") == F.lit(run_date)
    return purchases.where(made_that_day).select(*contract("purchases_used").column_names)
