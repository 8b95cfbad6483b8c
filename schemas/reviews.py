"""One review of one product.

A review with stars and without text counts in histories and in loyalty. It gets no label, and no sentiment model
learns from it.
"""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="reviews",
    grain="One review of one product.",
    key=("review_id",),
    columns=(
        Column("review_id", "string", doc="review; of several rows with one id, the newest as of the date counts"),
        Column("user_id", "string", doc="customer who wrote it"),
        Column("item_id", "string", doc="product of items, or one that left the catalogue"),
        Column("rating", "int", nullable=True, doc="stars, 1 to 5; null if not rated"),
        Column(
            "text", "string", nullable=True, must_exist=True, doc="the customer's words; null or empty: stars alone"
        ),
        Column("reviewed_at", "timestamp", doc="when it was written"),
    ),
    rules=(
        Rule("rating_in_range", "rating IS NULL OR rating BETWEEN 1 AND 5", "rating is not 1 to 5", "rating"),
        Rule("stars_or_text", "rating IS NOT NULL OR trim(text) <> ''", "it has neither stars nor text"),
    ),
    relations=(Relation("item_id", "items", "item_id"),),
    time_column="reviewed_at",
)
