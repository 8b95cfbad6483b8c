"""One search of one customer."""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="searches",
    grain="One search of one customer.",
    key=("user_id", "query", "searched_at"),
    columns=(
        Column("user_id", "string", doc="customer"),
        Column("query", "string", doc="search words"),
        Column("searched_at", "timestamp", doc="when it was searched"),
        Column("clicked_item_id", "string", nullable=True, doc="product that the customer opened from the results"),
    ),
    rules=(Rule("query_not_blank", "trim(query) <> ''", "query has no characters"),),
    time_column="searched_at",
)
