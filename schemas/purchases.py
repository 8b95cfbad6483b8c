"""One bought item of one order.

A negative quantity is a return or a cancellation. It is netted against earlier purchases of the same product by the
same customer: first those of its order, then the newest. A purchase that was returned in full does not count as bought.
A return that the earlier purchases do not cover goes to `quarantine` as `return_unmatched`.

Several lines of one order with the same item and time count as one row. If quantities matter, add such lines up in
the source.
"""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="purchases",
    grain="One bought item of one order.",
    key=("user_id", "item_id", "purchased_at", "order_id"),
    columns=(
        Column("user_id", "string", doc="customer; white space around it is removed, an empty text counts as null"),
        Column("item_id", "string", doc="product of items, or one that left the catalogue"),
        Column("purchased_at", "timestamp", doc="when it was bought"),
        Column("quantity", "int", default="1", doc="number of pieces; negative: a return"),
        Column("unit_price", "decimal(12,2)", nullable=True, doc="price of one piece, in the shop's currency"),
        Column("order_id", "string", nullable=True, doc="order of the purchase"),
    ),
    rules=(
        Rule("quantity_not_zero", "quantity <> 0", "quantity is 0"),
        Rule("unit_price_not_negative", "unit_price IS NULL OR unit_price >= 0", "unit_price is below 0"),
    ),
    relations=(Relation("item_id", "items", "item_id"),),
    time_column="purchased_at",
)
