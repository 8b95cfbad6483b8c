"""The rules that bind for each customer on one run date, and what they need of the customer.

A request's key holds what the rules that bind for it do, so that a changed rule asks only its customers. Runs inside
the night: `regulars nightly --run-date D`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config.rule_settings import RuleSettings
from jobs.config.settings import RecommendSettings
from jobs.tables.list_rules import NightRules, condition

#: Most disliked products of a customer that a rule heeds: the newest.
_MOST_DISLIKED = 100
#: Most different sets of rules that are checked before a night.
_MOST_SETS = 1000


def with_rules(
    rendered: DataFrame,
    used: Mapping[str, DataFrame],
    night: NightRules,
    products: DataFrame,
    repeated: DataFrame | None,
) -> DataFrame:
    """Add to customers (`user_id`, ...) the rules that bind for them.

    `bound` are their names. `rules` is what the engine is told, a JSON object (`lm.recommend.list_rules.Binding`);
    `rules_hash` is a hash of all that decides what they do. Both are null where no rule binds. `products` are those of
    `with_products`, `repeated` those of `repeated_purchases`.
    """
    rules = night.rules
    disliked = [n for n, rule in enumerate(rules) if rule.kind == "disliked"]
    closing = [n for n, rule in enumerate(rules) if rule.kind == "repeat"]
    by_times = [n for n, rule in enumerate(rules) if rule.at_least_times is not None or rule.at_most_times is not None]
    found = _with_binds(rendered, used, night)
    needs: dict[int, Column] = dict.fromkeys(closing, F.lit(False))
    if disliked:
        found = found.join(_disliked(used["reviews"], night), on="user_id", how="left")
        needs |= {n: F.col("disliked")[str(n)].isNotNull() for n in disliked}
    if repeated is not None:
        found = found.join(repeated.select("user_id", "recent"), on="user_id", how="left")
        needs |= {n: F.col("recent")[str(n)].isNotNull() for n in closing}
    if by_times:
        found = found.join(_median_paid(used["purchases"], products), on="user_id", how="left")
        only_times = [n for n in by_times if rules[n].at_least is None and rules[n].at_most is None]
        needs |= {n: F.col("paid").isNotNull() for n in only_times}
    bind = [F.when(F.col("binds")[n] & needs.get(n, F.lit(True)), F.lit(n)) for n in range(len(rules))]
    found = found.withColumn("numbers", F.filter(F.array(*bind), lambda n: n.isNotNull()))
    given: dict[str, Column] = {}
    for name, numbers in (("disliked", disliked), ("recent", closing if repeated is not None else [])):
        if numbers:
            mine = F.map_filter(name, lambda n, _: F.array_contains("numbers", n.cast("int")))
            given[name] = F.when(F.size(mine) > 0, mine)
    if by_times:
        given["paid"] = F.when(F.arrays_overlap("numbers", F.array(*map(F.lit, by_times))), F.col("paid"))
    told = found.withColumns(_told(night, given))
    return told.select(*rendered.columns, "bound", "rules", "rules_hash")


def _told(night: NightRules, given: Mapping[str, Column]) -> dict[str, Column]:
    """The columns of `with_rules`, from the `numbers` of the rules that bind and what they need of the customer."""
    names = F.array(*(F.lit(rule.name) for rule in night.rules))
    digests = F.array(*(F.lit(digest) for digest in night.digests()))
    values = [value.alias(name) for name, value in given.items()]
    content = [F.array_join(F.transform("numbers", lambda n: digests[n]), ",")]
    content += [F.to_json(F.struct(*values))] if values else []
    is_bound = F.size("numbers") > 0
    return {
        "bound": F.transform("numbers", lambda n: names[n]),
        "rules": F.when(is_bound, F.to_json(F.struct(F.col("numbers").alias("rules"), *values))),
        "rules_hash": F.when(is_bound, F.sha2(F.concat_ws("\n", *content), 256)),
    }


def _with_binds(rows: DataFrame, used: Mapping[str, DataFrame], night: NightRules) -> DataFrame:
    """Add to rows with `user_id` the column `binds`: of each rule, whether the customer is one of its customers."""
    drawn = [F.lit(False) if rule.name == night.without else _is_drawn(rule) for rule in night.rules]
    if all(rule.when is None for rule in night.rules):
        return rows.withColumn("binds", F.array(*drawn))
    everybody = F.array(*(F.lit(rule.when is None) for rule in night.rules))
    joined = rows.join(_holding(used["customers"], night), on="user_id", how="left")
    holds = F.coalesce("holds", everybody)
    return joined.withColumn("binds", F.array(*(holds[n] & one for n, one in enumerate(drawn)))).drop("holds")


def _holding(customers: DataFrame, night: NightRules) -> DataFrame:
    """`user_id` and `holds`: of each rule, whether its `when` is true for the customer."""
    holds = [condition(customers, rule.when, f"rules: {rule.name}: when") for rule in night.rules]
    return customers.select("user_id", F.array(*holds).alias("holds"))


def sets_of_rules(used: Mapping[str, DataFrame], night: NightRules) -> list[list[bool]]:
    """The sets of rules that hold together for some customer: of each rule whether it is in the set."""
    sets = [[rule.when is None for rule in night.rules]]
    if any(rule.when is not None for rule in night.rules):
        found = _holding(used["customers"], night).select("holds").distinct().limit(_MOST_SETS).collect()
        sets += [row["holds"] for row in found]
    return sets


def _is_drawn(rule: RuleSettings) -> Column:
    """Whether a hash of the rule's name and the customer's id is within the rule's share of customers."""
    if rule.share_of_customers == 1:
        return F.lit(True)
    drawn = F.conv(F.substring(F.sha2(F.concat(F.lit(rule.name + "\n"), "user_id"), 256), 1, 8), 16, 10)
    return drawn.cast("double") < rule.share_of_customers * 2.0**32


def _disliked(reviews: DataFrame, night: NightRules) -> DataFrame:
    """`user_id` and `disliked`: by the number of a rule, the products whose newest rating is low enough.

    Under `newest_only` it is the one product that the customer rated last.
    """
    rated = _newest_ratings(reviews)
    newest_first = F.sort_array(F.collect_list(F.struct("newest.reviewed_at", "item_id")), asc=False)
    order = F.struct("newest.reviewed_at", "newest.review_id")
    parts = []
    for number, rule in enumerate(night.rules):
        if rule.kind != "disliked":
            continue
        of_rule = rated
        if rule.newest_only:
            last = F.max_by("item_id", order).alias("item_id"), F.max_by("newest", order).alias("newest")
            of_rule = rated.groupBy("user_id").agg(*last)
        low = of_rule.where(F.col("newest.rating") <= rule.stars).groupBy("user_id")
        products = low.agg(F.slice(newest_first, 1, _MOST_DISLIKED).alias("products"))
        ids = F.array_sort(F.transform("products", lambda one: one["item_id"]))
        parts.append(products.select("user_id", F.lit(str(number)).alias("number"), ids.alias("ids")))
    entries = F.array_sort(F.collect_list(F.struct("number", "ids")))
    by_customer = reduce(DataFrame.unionByName, parts).groupBy("user_id")
    return by_customer.agg(F.map_from_entries(entries).alias("disliked"))


def _newest_ratings(reviews: DataFrame) -> DataFrame:
    """`user_id`, `item_id` and `newest`: the newest rated review that the customer wrote of the product."""
    newest = F.max(F.struct("reviewed_at", "review_id", "rating"))
    return reviews.where("rating IS NOT NULL").groupBy("user_id", "item_id").agg(newest.alias("newest"))


def _median_paid(purchases: DataFrame, products: DataFrame) -> DataFrame:
    """`user_id` and `paid`: the median unit price of the customer's purchases, by the product's category."""
    category = products.where("category IS NOT NULL").select("item_id", "category")
    priced = purchases.where("unit_price > 0").join(category, on="item_id", how="inner")
    medians = priced.groupBy("user_id", "category").agg(F.median(F.col("unit_price").cast("double")).alias("median"))
    entries = F.array_sort(F.collect_list(F.struct("category", "median")))
    return medians.groupBy("user_id").agg(F.map_from_entries(entries).alias("paid"))


def repeated_purchases(used: Mapping[str, DataFrame], night: NightRules, products: DataFrame) -> DataFrame | None:
    """The customers' bought products under rules of the kind repeat; None without such rules.

    `user_id`; `again`, the products that a rule lets lists have again; `lately`, those that it does not; and `recent`,
    by the number of a rule, the categories that it closes for now.
    """
    repeats = [(n, rule) for n, rule in enumerate(night.rules) if rule.kind == "repeat"]
    if not repeats:
        return None
    last = used["purchases"].groupBy("user_id", "item_id").agg(F.max("purchased_at").alias("last_at"))
    days = F.datediff(F.lit(night.run_date), F.to_date("last_at"))
    of_products = products.select("item_id", "category", "members")
    bought = _with_binds(last.join(of_products, on="item_id", how="inner"), used, night).withColumn("days", days)
    lately, again, recent = [], [], []
    for number, rule in repeats:
        speaks = F.col("members")[number] & F.col("binds")[number]
        waits = F.lit(True) if rule.after_days is None else F.col("days") < rule.after_days
        lately.append(F.collect_set(F.when(speaks & waits, F.col("item_id"))))
        again.append(F.collect_set(F.when(speaks & ~waits, F.col("item_id"))))
        closed = F.when(speaks & waits, F.col("category")) if rule.whole_category else F.lit(None).cast("string")
        ids = F.array_sort(F.collect_set(closed))
        recent.append(F.struct(F.lit(str(number)).alias("number"), ids.alias("ids")))
    return bought.groupBy("user_id").agg(
        F.array_distinct(F.flatten(F.array(*again))).alias("again"),
        F.array_distinct(F.flatten(F.array(*lately))).alias("lately"),
        F.map_from_entries(F.filter(F.array(*recent), lambda one: F.size(one["ids"]) > 0)).alias("recent"),
    )


def with_exclusions(
    histories: DataFrame, used: Mapping[str, DataFrame], repeated: DataFrame | None, settings: RecommendSettings
) -> DataFrame:
    """Replace `purchased` of histories by the products that the list must not have.

    They are the bought ones, with `recommend.exclude_purchased`, what rules of the kind repeat change of these, and the
    products that the customer rated with at most `recommend.disliked_stars`.
    """
    none = F.array().cast("array<string>")
    excluded = F.col("purchased") if settings.exclude_purchased else none
    joined = histories
    if repeated is not None:
        joined = joined.join(repeated.drop("recent"), on="user_id", how="left")
        kept = F.array_except(excluded, F.coalesce("again", none))
        excluded = F.array_union(kept, F.coalesce("lately", none))
    if settings.disliked_stars and "reviews" in used:
        low = _newest_ratings(used["reviews"]).where(F.col("newest.rating") <= settings.disliked_stars)
        rated = low.groupBy("user_id").agg(F.collect_set("item_id").alias("rated_badly"))
        joined = joined.join(rated, on="user_id", how="left")
        excluded = F.array_union(excluded, F.coalesce("rated_badly", none))
    return joined.withColumn("purchased", F.array_sort(excluded)).select(*histories.columns)
