"""One bought item of one order.

An order that repeats an item in several lines counts as one row here; sum such lines in the source where
quantities matter.
"""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="purchases",
    grain="One bought item of one order.",
    key=("user_id", "item_id", "purchased_at", "order_id"),
    columns=(
        Column("user_id", "string", doc="customer; surrounding space is trimmed, empty means none"),
        Column("item_id", "string", doc="product, as in items"),
        Column("purchased_at", "timestamp", doc="when it was bought"),
        Column("quantity", "int", default="1", doc="pieces"),
        Column("unit_price", "decimal(12,2)", nullable=True, doc="price of one piece, in the shop's currency"),
        Column("order_id", "string", nullable=True, doc="order that it belongs to"),
    ),
    rules=(
        Rule("quantity_positive", "quantity > 0", "quantity is 0 or less (a cancellation or return?)"),
        Rule("unit_price_not_negative", "unit_price IS NULL OR unit_price >= 0", "unit_price is below 0"),
    ),
    relations=(Relation("item_id", "items", "item_id"),),
    time_column="purchased_at",
)
