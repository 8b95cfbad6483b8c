"""Writes `metrics`: a few numbers about the night, for the analyst who watches the trend.

Runs inside the night: `regulars nightly --run-date D`. Names and slices:

* `customers`; `rows` by table, with the control group's lists; `short_lists` by reason;
* `coverage`: share of sellable products in some list; `top_score`: mean log-probability of rank 1;
* as shares `lists` by `changed`, `unchanged` and `first` (no earlier list), `list_rows` by entered, moved and kept;
* `rule_customers` by rule: customers for whom it binds; `rule_rows`: rows that it weighted or moved;
* `quarantine` by table and rule, as in `purchases.unknown_item`: the new rows of the table `quarantine`;
* `input_age_hours` by input table: hours from its newest used row to the end of run_date;
* `label_share` by label; `negative_share` by category of the reviewed products; and as shares of the reviews
  `disagreements`, `abstained` (confidence too low for a label) and `shortened` (only head and tail were read).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.inputs.row_accounting import RowAccount
from jobs.tables.list_changes import KEPT, UNCHANGED, list_kind
from jobs.tables.unchanged import Unchanged

_SCHEMA = "metric string, slice string, value double, n bigint"


def list_metrics(
    lists: DataFrame,
    prompts: DataFrame,
    items: DataFrame,
    k: int,
    late: DataFrame | None = None,
    unchanged: Unchanged | None = None,
) -> DataFrame:
    """One row per metric and slice of the night's `lists`, in the `metrics` contract.

    With `unchanged` they are `lists` and the copied ones, and `prompts` has only the customers of `lists`. Each
    customer's `excluded` items in `prompts`, and the customers of `late` whom the deadline or a failure left out,
    explain short lists.
    """
    copied = 0 if unchanged is None else unchanged.customers
    whole = lists if unchanged is None else lists.unionByName(unchanged.lists)
    customers = F.count("*") + F.lit(copied)
    # Decimals, because a sum of doubles depends on the order of the rows.
    top_score = F.avg(F.col("score").cast("decimal(28,18)")).cast("double")
    parts = [
        _one(prompts, "customers", customers.cast("double"), customers),
        _one(whole.where("rank = 1"), "top_score", top_score, F.count("*")),
        _coverage(whole, items),
        short_lists(prompts, lists, items, k, late).select(
            F.lit("short_lists").alias("metric"),
            F.col("reason").alias("slice"),
            F.col("customers").cast("double").alias("value"),
            F.col("customers").alias("n"),
        ),
        *_list_changes(lists, copied, copied * k),
    ]
    if "bound" in prompts.columns:
        named = lists.select(F.explode(F.split("rule", ", ")).alias("slice"))
        binding = prompts.select(F.explode("bound").alias("slice"))
        parts += [_sizes("rule_customers", binding), _sizes("rule_rows", named)]
    return reduce(DataFrame.unionByName, parts).where("value IS NOT NULL")


def label_metrics(labelled: DataFrame, items: DataFrame | None) -> DataFrame:
    """One row per metric and slice of the table `sentiments`, in the `metrics` contract.

    `items` has the categories of the reviewed products; None in a shop without a catalogue.
    """
    total = labelled.agg(F.count("*").alias("n"))
    given = labelled.where("label IS NOT NULL").groupBy(F.col("label").alias("slice"))
    shares = given.agg(F.count("*").alias("rows")).crossJoin(total)
    parts = [
        shares.select(F.lit("label_share").alias("metric"), "slice", (F.col("rows") / F.col("n")).alias("value"), "n"),
        _one(labelled, "disagreements", F.avg(F.col("disagrees").cast("int")), F.count("*")),
        _one(labelled, "abstained", F.avg(F.col("label").isNull().cast("int")), F.count("*")),
        _one(labelled, "shortened", F.avg(F.col("shortened").cast("int")), F.count("*")),
        *([] if items is None else [_negative_shares(labelled, items)]),
    ]
    return reduce(DataFrame.unionByName, parts).where("value IS NOT NULL")


def short_lists(
    prompts: DataFrame, published: DataFrame, items: DataFrame, k: int, late: DataFrame | None = None
) -> DataFrame:
    """Count the customers with fewer than k rows by reason: columns `reason`, `customers`.

    A short list is right where fewer than k sellable products are left to the customer: the catalogue is that small, or
    the customer bought the rest before. Where `items` has `title_key`, products of one key count once. A short list is
    also right for the customers of `late` (`user_id`, `because`), whom the deadline or a failure left out, and for
    those for whom rules bind (`rules` in `prompts`). The night fails on any other one: its reason is `unexplained`.
    """
    one_of_a_title = F.col("title_key" if "title_key" in items.columns else "item_id").alias("one")
    keyed = items.select("item_id", one_of_a_title, "available")
    sellable = keyed.where("available").select("one").distinct()
    has_rules = F.col("rules").isNotNull() if "rules" in prompts.columns else F.lit(False)
    rows = published.groupBy("user_id").agg(F.count("*").alias("rows"))
    # Only the few short ones are compared product by product.
    of_short = (
        prompts.select("user_id", has_rules.alias("has_rules"), "excluded")
        .join(rows, on="user_id", how="left")
        .fillna(0, subset=["rows"])
        .where(F.col("rows") < k)
    )
    short = (
        of_short.select("user_id", "has_rules", "rows", F.explode_outer("excluded").alias("item_id"))
        .join(keyed.select("item_id", "one"), on="item_id", how="left")
        .join(sellable.withColumn("sellable_one", F.col("one")), on="one", how="left")
        .groupBy("user_id", "has_rules", "rows")
        .agg(F.count_distinct("sellable_one").alias("bought_sellable"))
        .crossJoin(sellable.agg(F.count("*").alias("sellable")))
        .withColumn("expected", F.least(F.lit(k), F.col("sellable") - F.col("bought_sellable")))
    )
    because = F.lit(None)
    if late is not None:
        short = short.join(late.select("user_id", "because"), on="user_id", how="left")
        because = F.col("because")
    reason = (
        F.when(because.isNotNull(), because)
        .when(F.col("has_rules") & (F.col("rows") < F.col("expected")), "fewer_than_k_allowed_by_rules")
        .when(F.col("rows") != F.col("expected"), "unexplained")
        .when(F.col("sellable") < k, "catalogue_smaller_than_k")
        .otherwise("fewer_than_k_not_bought_before")
    )
    return short.groupBy(reason.alias("reason")).agg(F.count("*").alias("customers"))


def table_rows(spark: SparkSession, tables: Mapping[str, int]) -> DataFrame:
    """The metric `rows`: the number of rows of each output table."""
    rows = [("rows", table, float(n), n) for table, n in tables.items()]
    return spark.createDataFrame(rows, _SCHEMA)


def quarantine_counts(spark: SparkSession, counts: Mapping[tuple[str, str], int]) -> DataFrame:
    """The metric `quarantine`: new rejected rows by (table, rule)."""
    rows = [("quarantine", f"{table}.{rule}", float(n), n) for (table, rule), n in counts.items()]
    return spark.createDataFrame(rows, _SCHEMA)


def input_ages(
    newest_at: Mapping[str, int], accounts: Mapping[str, RowAccount], end: datetime
) -> dict[str, tuple[float, int]]:
    """Return the hours from the newest row to `end` and the number of used rows of each table that has a time.

    `newest_at` is in microseconds since 1970. Tables without rows have no age.
    """
    # Both sides are instants, so the result does not depend on the session's time zone.
    return {table: ((end.timestamp() - at / 1_000_000) / 3600, accounts[table].used) for table, at in newest_at.items()}


def age_rows(spark: SparkSession, ages: Mapping[str, tuple[float, int]]) -> DataFrame:
    """The metric `input_age_hours`, from the result of `input_ages`."""
    rows = [("input_age_hours", table, hours, n) for table, (hours, n) in ages.items()]
    return spark.createDataFrame(rows, _SCHEMA)


def _list_changes(lists: DataFrame, copied: int, copied_rows: int) -> list[DataFrame]:
    """The metrics `lists` and `list_rows`: what changed since the customers' earlier lists. Copied ones are kept."""
    of_customers = lists.groupBy("user_id").agg(list_kind().alias("slice"))
    of_rows = lists.where("changed IS NOT NULL").select(F.col("changed").alias("slice"))
    return [_counts("lists", of_customers, UNCHANGED, copied), _counts("list_rows", of_rows, KEPT, copied_rows)]


def _counts(metric: str, rows: DataFrame, further: str, count: int) -> DataFrame:
    """One metric row for each value of `slice`: its share of `rows`; n is the number of all rows.

    There are `count` more rows with the value `further`.
    """
    counted = rows.groupBy("slice").agg(F.count("*").alias("rows"))
    if count:
        more = rows.sparkSession.createDataFrame([(further, count)], "slice string, rows bigint")
        counted = counted.unionByName(more).groupBy("slice").agg(F.sum("rows").alias("rows"))
    total = counted.agg(F.coalesce(F.sum("rows"), F.lit(0)).alias("n"))
    share = (F.col("rows") / F.col("n")).alias("value")
    return counted.crossJoin(total).select(F.lit(metric).alias("metric"), "slice", share, "n")


def _sizes(metric: str, rows: DataFrame) -> DataFrame:
    """One metric row for each value of `slice`: the number of its rows."""
    counted = rows.groupBy("slice").agg(F.count("*").alias("n"))
    return counted.select(F.lit(metric).alias("metric"), "slice", F.col("n").cast("double").alias("value"), "n")


def _negative_shares(labelled: DataFrame, items: DataFrame) -> DataFrame:
    """The metric `negative_share`: per category of the reviewed products, the share of negative labels."""
    categories = items.where("category IS NOT NULL").select("item_id", F.col("category").alias("slice"))
    is_negative = F.coalesce(F.col("label") == "negative", F.lit(False)).cast("int")
    rows = labelled.join(categories, on="item_id", how="inner").groupBy("slice")
    shares = rows.agg(F.avg(is_negative).alias("value"), F.count("*").alias("n"))
    return shares.select(F.lit("negative_share").alias("metric"), "slice", "value", "n")


def _one(rows: DataFrame, metric: str, value: Column, n: Column) -> DataFrame:
    return rows.agg(value.alias("value"), n.alias("n")).select(
        F.lit(metric).alias("metric"), F.lit("all").alias("slice"), "value", "n"
    )


def _coverage(lists: DataFrame, items: DataFrame) -> DataFrame:
    shown = lists.agg(F.countDistinct("item_id").alias("shown"))
    sellable = items.where("available").agg(F.count("*").alias("n"))
    share = F.when(F.col("n") > 0, F.col("shown") / F.col("n"))
    return shown.crossJoin(sellable).select(
        F.lit("coverage").alias("metric"), F.lit("all").alias("slice"), share.alias("value"), "n"
    )
