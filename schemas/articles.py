"""One help article."""

from __future__ import annotations

from schemas.contract import Column, Contract, Rule

CONTRACT = Contract(
    table="articles",
    grain="One help article.",
    key=("article_id",),
    columns=(
        Column("article_id", "string", doc="article"),
        Column("title", "string", doc="heading"),
        Column("body", "string", doc="text of the article"),
    ),
    rules=(Rule("body_not_blank", "trim(body) <> ''", "body has no characters"),),
)
