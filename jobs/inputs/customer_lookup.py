"""Looks for one customer in the sources, without reading, checking and writing all inputs as `read_inputs` does."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from pyspark.sql import SparkSession

import schemas
from jobs.config.config import Config
from jobs.config.input_settings import InputSettings
from jobs.config.privacy import privacy_key
from jobs.inputs.column_mapping import map_columns
from jobs.inputs.validation import cast_column
from jobs.sources.queries import named_sources
from jobs.sources.source_errors import translating_errors
from jobs.sources.sources import open_source
from jobs.spark.errors import UserError
from jobs.spark.key_filter import rows_with
from jobs.spark.privacy_key import keyed_hashes


def might_be_customer(
    spark: SparkSession, config: Config, run_date: date, tables: Collection[str], ids: Collection[str]
) -> bool:
    """Return whether a row of the configured `tables`, which have `user_id`, has one of `ids`.

    Rows of any time and quality count, so `read_inputs` may use none of them; where it is False there is nothing to
    use. Where a source cannot be read it is True: `read_inputs` says why. Pseudonyms, if any, are compared with `ids`.
    """
    sources = {table: config.inputs[table].for_date(run_date) for table in tables if table in config.inputs}
    named = {name: source.for_date(run_date) for name, source in config.sources.items()}
    try:
        with named_sources(spark, named, sources):
            return any(_has_row(spark, config, table, source, ids) for table, source in sources.items())
    except UserError:
        return True


def _has_row(spark: SparkSession, config: Config, table: str, source: InputSettings, ids: Collection[str]) -> bool:
    rows = map_columns(open_source(spark, table, source).rows, table, source)
    user = cast_column(rows, table, schemas.contract(table).column("user_id"))
    if config.privacy.pseudonyms:
        user = keyed_hashes(privacy_key(spark, config))(user)
    with translating_errors(table, source, f"inputs.{table}", scan=True):
        return not rows_with(rows.select(user.alias("user_id")), "user_id", ids).isEmpty()
