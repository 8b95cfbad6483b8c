"""One rejected input row.

No value of the rejected row is kept, only the hash of its key: values may be personal data.
"""

from __future__ import annotations

from schemas.contract import Column, Contract

CONTRACT = Contract(
    table="quarantine",
    grain="One rejected input row.",
    key=(),
    columns=(
        Column("table", "string", doc="input table, or prompts for a customer on whose prompt the model failed"),
        Column("rule", "string", doc="first rule that the row breaks; file_unreadable: a whole file that was left out"),
        Column("key_hash", "string", doc="SHA-256 of the key columns' text, in hex; of a file its name's"),
        Column("source_file", "string", doc="file of the row, its partition folders too; empty where the model failed"),
        Column("detail", "string", doc="column and reason, without the value"),
    ),
    partition_by=("run_date",),
)
