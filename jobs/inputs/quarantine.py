"""Writes `quarantine`: each input row that broke a rule and each file that could not be read, without their values.

Runs inside the night: `regulars nightly --run-date D`; what the models failed on comes from `jobs/scoring/failures.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from hashlib import sha256

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.inputs.validation import RULE, details
from jobs.spark.contracts import enforce, struct_type

#: Rule of `quarantine` for a whole file.
FILE_UNREADABLE = "file_unreadable"
_FILE_DETAIL = "the file is truncated, damaged, empty or of another format: none of its rows is in the account"


def rejections(
    spark: SparkSession, tables: Mapping[str, DataFrame], left_out: Mapping[str, Sequence[str]]
) -> DataFrame:
    """Gather the rejected rows of the tables as they were written, and the files (URIs) that were left out."""
    agreed = schemas.contract("quarantine")
    files = [
        (table, FILE_UNREADABLE, sha256(file.encode()).hexdigest(), file.rpartition("/")[2], _FILE_DETAIL)
        for table, uris in left_out.items()
        for file in uris
    ]
    rejected = [
        rows.where(F.col(RULE).isNotNull()).select(
            F.lit(table).alias("table"),
            F.col(RULE).alias("rule"),
            "key_hash",
            "source_file",
            F.element_at(
                F.create_map(*(F.lit(text) for pair in details(table).items() for text in pair)), F.col(RULE)
            ).alias("detail"),
        )
        for table, rows in tables.items()
    ]
    rejected.append(spark.createDataFrame(files, struct_type(agreed)))
    return enforce(reduce(DataFrame.unionByName, rejected), agreed)
