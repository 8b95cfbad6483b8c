"""One customer with the measures of loyalty."""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

#: Customer segments of marketing, from the recency and frequency scores (see jobs/tables/loyalty.py).
SEGMENTS = (
    "champions",
    "loyal",
    "potential_loyalists",
    "new",
    "promising",
    "need_attention",
    "about_to_sleep",
    "at_risk",
    "cannot_lose",
    "hibernating",
)

CONTRACT = Contract(
    table="loyalty",
    grain="One customer with the measures of loyalty.",
    key=("user_id",),
    columns=(
        Column("user_id", "string", doc="customer with at least one purchase as of the date"),
        Column("recency", "double", doc="days from the first to the last purchase day"),
        Column("frequency", "int", doc="purchase days after the first"),
        Column("age_days", "int", doc="days from the first purchase day to run_date"),
        Column("days_since_purchase", "int", doc="days from the last purchase day to run_date"),
        Column(
            "days_between_purchases", "double", nullable=True, doc="recency / frequency; null with one purchase day"
        ),
        Column("monetary_value", "double", nullable=True, doc="mean value of a purchase day; null without prices"),
        Column("sentiment", "double", nullable=True, doc="mean review score, -1 to 1; null without scored reviews"),
        Column("sentiment_trend", "double", nullable=True, doc="least-squares change of that score in 30 days"),
        Column("reviews", "int", doc="number of reviews in sentiment"),
        Column(
            "p_alive",
            "double",
            nullable=True,
            doc="probability that the customer still buys here; null with one purchase day, and without a fit",
        ),
        Column("expected_purchases", "double", nullable=True, doc="expected purchase days in the next 30 days"),
        Column("recency_score", "int", doc="1 (bought long ago) to 5 (just bought): quintile of days_since_purchase"),
        Column("frequency_score", "int", doc="1 to 5: quintile of frequency"),
        Column("monetary_score", "int", nullable=True, doc="1 to 5: quintile of monetary_value"),
        Column("segment", "string", doc="champions, loyal, at_risk, ...: from recency_score and frequency_score"),
        Column("group", "string", doc="treated, or control: lists of the control group are not published"),
    ),
    rules=(
        Rule("recency_within_age", "recency BETWEEN 0 AND age_days", "recency is not 0 to age_days"),
        Rule("frequency_not_negative", "frequency >= 0", "frequency is below 0"),
        Rule("sentiment_in_range", "sentiment IS NULL OR sentiment BETWEEN -1 AND 1", "sentiment is not -1 to 1"),
        Rule("p_alive_in_range", "p_alive IS NULL OR p_alive BETWEEN 0 AND 1", "p_alive is not 0 to 1"),
        Rule(
            "expected_purchases_possible",
            "expected_purchases IS NULL OR (expected_purchases >= 0 AND NOT isnan(expected_purchases))",
            "expected_purchases is below 0 or not a number",
        ),
        Rule(
            "scores_in_range",
            "recency_score BETWEEN 1 AND 5 AND frequency_score BETWEEN 1 AND 5 AND"
            " (monetary_score IS NULL OR monetary_score BETWEEN 1 AND 5)",
            "a score is not 1 to 5",
        ),
        Rule("segment_known", "segment IN ('{}')".format("', '".join(SEGMENTS)), "segment is none of the names"),
        Rule("group_known", "`group` IN ('treated', 'control')", "group is neither treated nor control"),
    ),
    partition_by=("run_date",),
)
