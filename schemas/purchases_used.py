"""One purchase of the date, as the night used it.

Its rows are valid, once each, without customers who opted out, and net of returns up to the date. A query over several
dates therefore needs no cleaning of its own. A row that arrives after its night is in no date: `regulars backfill
--lookback` runs such dates again. A return that comes after its night leaves the purchase of the earlier date as it is.
"""

from __future__ import annotations

from schemas import purchases
from schemas.contract import Column, Contract

CONTRACT = Contract(
    table="purchases_used",
    grain="One purchase of the date, as the night used it.",
    key=purchases.CONTRACT.key,
    columns=(
        *(column for column in purchases.CONTRACT.columns if column.name != "quantity"),
        Column("quantity", "int", doc="number of pieces that were not returned up to run_date"),
    ),
    rules=tuple(rule for rule in purchases.CONTRACT.rules if rule.name != "quantity_not_zero"),
    partition_by=("run_date",),
)
