"""The data dictionary: one contract per table, in the file of its name; `contract("purchases")` returns it."""

from __future__ import annotations

from importlib import import_module

from schemas.contract import Column, Contract, Relation, Rule

#: Tables that a shop provides. Only purchases and items are needed; items can be derived from purchases.
INPUTS = ("purchases", "searches", "reviews", "items", "questions", "articles", "optouts", "customers", "events")

#: Tables that Regulars writes, each below <store>/tables/<table>/run_date=YYYY-MM-DD/.
OUTPUTS = (
    "prompts",
    "recommendations",
    "sentiments",
    "answers",
    "loyalty",
    "purchases_used",
    "quarantine",
    "metrics",
    "runs",
)

__all__ = ["INPUTS", "OUTPUTS", "Column", "Contract", "Relation", "Rule", "contract"]


def contract(table: str) -> Contract:
    """Return the contract of `table`; raise KeyError with the names of all tables if there is none."""
    if table not in INPUTS + OUTPUTS:
        raise KeyError(f"there is no table {table}; there are {', '.join(INPUTS + OUTPUTS)}")
    found: Contract = import_module(f"schemas.{table}").CONTRACT
    return found
