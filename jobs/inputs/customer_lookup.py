"""Looks for one customer in the sources, without reading, checking and writing all inputs as `read_inputs` does."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

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
            found = [_user_ids(spark, table, source) for table, source in sources.items()]
            users = reduce(DataFrame.union, found)
            if config.privacy.pseudonyms:
                users = users.select(keyed_hashes(privacy_key(spark, config))(F.col("user_id")).alias("user_id"))
            with ExitStack() as reading:
                for table, source in sources.items():
                    reading.enter_context(translating_errors(table, source, f"inputs.{table}", scan=True))
                return not rows_with(users, "user_id", ids).isEmpty()
    except UserError:
        return True


def _user_ids(spark: SparkSession, table: str, source: InputSettings) -> DataFrame:
    rows = map_columns(open_source(spark, table, source).rows, table, source)
    return rows.select(cast_column(rows, table, schemas.contract(table).column("user_id")).alias("user_id"))
