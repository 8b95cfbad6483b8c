"""One customer who opted out."""

from __future__ import annotations

from schemas.contract import Column, Contract

CONTRACT = Contract(
    table="optouts",
    grain="One customer who opted out.",
    key=("user_id",),
    columns=(Column("user_id", "string", doc="customer for whom no output of any kind is written"),),
)
