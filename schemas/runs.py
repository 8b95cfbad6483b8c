"""One finished run of the night."""

from __future__ import annotations

from schemas.contract import Column, Contract

CONTRACT = Contract(
    table="runs",
    grain="One finished run of the night.",
    key=("run_id",),
    columns=(
        Column("run_id", "string", doc="run"),
        Column("status", "string", doc="published, or how it ended"),
        Column("started_at", "timestamp", doc="when it started"),
        Column("finished_at", "timestamp", doc="when it ended"),
        Column("rows", "map<string,bigint>", doc="row counts such as purchases.read, purchases.used"),
        Column("tokens", "bigint", doc="tokens that went through a language model"),
        Column("seconds", "map<string,double>", doc="wall-clock seconds of each stage"),
        Column("versions", "map<string,string>", doc="packages, models and catalogue"),
    ),
    partition_by=("run_date",),
)
