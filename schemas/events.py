"""One view of a product, or one product put into the cart or onto a wish list.

Without this input nothing changes. With it, a prompt names the products that a customer looked at and has not bought
since, if the model was trained with this input.
"""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="events",
    grain="One view of a product, or one product put into the cart or onto a wish list.",
    key=("user_id", "item_id", "kind", "happened_at"),
    columns=(
        Column("user_id", "string", doc="customer"),
        Column("item_id", "string", doc="product of items, or one that left the catalogue"),
        Column("kind", "string", doc="view, cart or wish"),
        Column("happened_at", "timestamp", doc="when it happened"),
    ),
    rules=(Rule("kind_known", "kind IN ('view', 'cart', 'wish')", "kind is not view, cart or wish"),),
    relations=(Relation("item_id", "items", "item_id"),),
    time_column="happened_at",
)
