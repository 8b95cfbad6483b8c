"""One rejected input row.

A rejected row is published once, on the first date that rejects it. `runs.rows` counts all rejected rows of a night
(`<table>.quarantined`) and those that are new (`quarantine.<table>.<rule>`).

Values may be personal data: only the hash of the row's key is kept.
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
            doc="SHA-256 of the text of the key columns, in hex; of a skipped file that of its URI",
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
