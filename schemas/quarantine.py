"""One rejected input row.

A rejected row is published once, on the first date that rejects it. `runs.rows` counts all rejected rows of a night
(`<table>.quarantined`) and those that are new (`quarantine.<table>.<rule>`).

Values may be personal data: only keyed hashes of the row's key and of its customer are kept (HMAC-SHA-256, 32 digits;
`privacy` in the configuration names the key).
"""

from __future__ import annotations

from schemas.contract import Column, Contract

CONTRACT = Contract(
    table="quarantine",
    grain="One rejected input row.",
    key=(),
    columns=(
        Column("table", "string", doc="input table; prompts if the model failed on a customer's prompt"),
        Column("rule", "string", doc="first rule that the row breaks; file_unreadable: a whole file was skipped"),
        Column(
            "key_hash",
            "string",
            doc="keyed hash of the text of the key columns; of a skipped file that of its URI; 64 digits: of an "
            "earlier release, without a key",
        ),
        Column(
            "user_hash",
            "string",
            nullable=True,
            doc="keyed hash of the customer's id; null where the row has none; earlier dates lack the column",
        ),
        Column(
            "source_file",
            "string",
            doc="file of the row, with its partition folders; empty if the model failed on the row",
        ),
        Column("detail", "string", doc="column and reason, without the value"),
    ),
    partition_by=("run_date",),
)
