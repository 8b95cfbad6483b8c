"""One metric of one slice."""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="metrics",
    grain="One metric of one slice.",
    key=("metric", "slice"),
    columns=(
        Column("metric", "string", doc="name, such as hit@10"),
        Column("slice", "string", doc="customers or rows that the metric covers; all: every one"),
        Column("value", "double", doc="value of the metric"),
        Column("n", "bigint", doc="number of customers or rows behind the value"),
    ),
    rules=(
        Rule("value_is_a_number", "NOT isnan(value)", "value is not a number"),
        Rule("n_not_negative", "n >= 0", "n is below 0"),
    ),
    partition_by=("run_date",),
)
