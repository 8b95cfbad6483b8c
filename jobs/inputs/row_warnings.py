"""Warns of inputs that are read without an error and are probably mapped wrong."""

from __future__ import annotations

from collections.abc import Mapping

import schemas
from jobs.inputs.row_accounting import RowAccount
from jobs.inputs.validation import emptied_rules, rule_details, unknown_id_rule

#: Share of the rows that lost an optional value, above which the night warns.
_MANY_EMPTIED = 0.5
#: Share of the rows with unknown ids above which the night warns, and the fewest such rows.
_MANY_UNKNOWN, _FEWEST_UNKNOWN = 0.2, 5


def warn_of_emptied_columns(table: str, account: RowAccount, emptied_by_rule: Mapping[str, int]) -> list[str]:
    """Return a warning for each optional column that most rows lost."""
    return [
        f"inputs.{table}: {n:,} of {account.read:,} rows lost a value, because {rule_details(table)[rule]}. Correct "
        f"inputs.{table}.columns.{emptied_rules(table)[rule].name}; regulars doctor --rows 1000 shows how"
        for rule, n in emptied_by_rule.items()
        if n > _MANY_EMPTIED * account.read
    ]


def warn_of_unknown_ids(table: str, account: RowAccount, rejected_by_rule: Mapping[str, int]) -> list[str]:
    """Return a warning for each related table that lacks the ids of many rows: the inputs miss each other."""
    warnings = []
    for relation in schemas.contract(table).relations:
        unknown = rejected_by_rule.get(unknown_id_rule(relation), 0)
        rows = unknown + account.used + account.duplicates + account.returned
        if unknown >= _FEWEST_UNKNOWN and unknown > _MANY_UNKNOWN * rows:
            warnings.append(
                f"inputs.{table} and inputs.{relation.table} miss each other: {unknown:,} of {rows:,} rows "
                f"({unknown / rows:.0%}) name an id in {relation.column} that {relation.table} lacks, and none of them "
                "is used. Are both of one shop and one time, and are the ids spelled alike? regulars doctor --rows "
                "1000 compares them"
            )
    return warnings
