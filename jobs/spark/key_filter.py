"""Keeps the rows of a table that have, or may have, one of some keys, without a key in the plan.

Many keys become a Bloom filter of about ten bits each. Executors build and use it; no key reaches the driver or a plan.
Spark has the filter for its own joins only and gives it no public function, so this module calls the classes inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn
from pyspark.sql.classic.column import _to_seq

#: Session settings: the most bits of a filter, and the number of keys for which Spark sizes it.
FILTER_SETTINGS = {
    "spark.sql.optimizer.runtime.bloomFilter.maxNumBits": str(1 << 29),
    "spark.sql.optimizer.runtime.bloomFilter.maxNumItems": str(50_000_000),
}
_BITS_PER_KEY = 10


def might_be_in(keys: DataFrame, count: int, key: Column) -> Column:
    """Whether `key` may be in the column `key` of `keys`: true if it is, and for about 1% of the others.

    `keys` has about `count` rows and should lie in a file. No row passes where it is empty.
    """
    jvm: Any = keys.sparkSession._jvm
    sizes = [F.lit(max(1, number)).cast("bigint") for number in (count, count * _BITS_PER_KEY)]
    arguments = [cast("Any", column)._jc for column in (F.xxhash64("key"), *sizes)]
    spark_sql = jvm.org.apache.spark.sql
    build = getattr(getattr(spark_sql, "Column$"), "MODULE$").internalFn(
        "bloom_filter_agg", _to_seq(keys.sparkSession.sparkContext, arguments)
    )
    built = keys.agg(cast("Any", ClassicColumn)(build)).scalar()
    utils = getattr(getattr(spark_sql.classic, "ExpressionUtils$"), "MODULE$")
    operands = [utils.expression(cast("Any", column)._jc) for column in (built, F.xxhash64(key))]
    contains = spark_sql.catalyst.expressions.BloomFilterMightContain(*operands)
    found: Column = cast("Any", ClassicColumn)(utils.column(contains))
    return F.coalesce(found, F.lit(False))


def rows_with(rows: DataFrame, column: str, values: Iterable[str]) -> DataFrame:
    """Keep the rows whose text `column` has one of a few values.

    A join with them, because values as literals of a condition would be in the plan, and so in Spark's event log.
    """
    wanted = rows.sparkSession.createDataFrame([(value,) for value in values], f"`{column}` string").distinct()
    return rows.join(F.broadcast(wanted), on=column, how="left_semi").select(*rows.columns)
