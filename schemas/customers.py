"""One customer of the shop.

Every further column of the source is kept under its own name and in its own type, such as region, language, store or
age class. With `inputs.customers.columns`, only the named columns are kept. A source with one snapshot a date has
`{run_date}` in its path; else every date reads the customers of today.
"""

from __future__ import annotations

from schemas.contract import Column, Contract

CONTRACT = Contract(
    table="customers",
    grain="One customer of the shop.",
    key=("user_id",),
    columns=(Column("user_id", "string", doc="customer"),),
    further_columns="all",
)
