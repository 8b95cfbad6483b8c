"""One product of the catalogue.

A product that left the catalogue is never listed, but its purchases and reviews stay in the history. Its title comes
from the last earlier snapshot that had it ({run_date} in `inputs.items.path`) or from the purchases
(`inputs.purchases.columns.title`). Without either, its purchases and reviews go to `quarantine` as `unknown_item`.
A product that `inputs.items.where` leaves out is never listed either, and stays in the history.

`inputs.items.columns` may map further columns, such as an age limit or the stores that sell it. They are kept under
their own names and in their own types.
"""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="items",
    grain="One product of the catalogue.",
    key=("item_id",),
    columns=(
        Column("item_id", "string", doc="product"),
        Column("title", "string", doc="name as customers see it"),
        Column(
            "category",
            "string",
            nullable=True,
            doc="category, or a path such as Home > Kitchen > Pans; an array of texts is such a path",
        ),
        Column("brand", "string", nullable=True, doc="brand, or maker"),
        Column("price", "decimal(12,2)", nullable=True, doc="current price, in the shop's currency"),
        Column("available", "boolean", default="true", if_unreadable="false", doc="whether it can be sold today"),
    ),
    further_columns="mapped",
    rules=(
        Rule("title_not_blank", "trim(title) <> ''", "title has no characters"),
        Rule("price_not_negative", "price IS NULL OR price >= 0", "price is below 0", column="price"),
    ),
)
