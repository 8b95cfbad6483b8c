"""One customer with the measures of loyalty."""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="loyalty",
    grain="One customer with the measures of loyalty.",
    key=("user_id",),
    columns=(
        Column("user_id", "string", doc="customer"),
        Column("recency", "double", doc="days from the first to the last purchase day"),
        Column("frequency", "int", doc="purchase days after the first"),
        Column("monetary_value", "double", nullable=True, doc="mean value of a purchase day; null without prices"),
        Column("sentiment", "double", nullable=True, doc="mean of p_positive - p_negative; null without reviews"),
        Column("p_alive", "double", nullable=True, doc="probability that the customer still buys here"),
        Column("group", "string", doc="treated or control"),
    ),
    rules=(
        Rule("p_alive_in_range", "p_alive IS NULL OR p_alive BETWEEN 0 AND 1", "p_alive is not 0 to 1"),
        Rule("group_known", "`group` IN ('treated', 'control')", "group is neither treated nor control"),
    ),
    partition_by=("run_date",),
)
