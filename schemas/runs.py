"""One finished run of the night."""

from __future__ import annotations

from schemas.contract import Column, Contract

#: Values of `status`: published in full, or after a deadline with requests left out.
PUBLISHED, AT_DEADLINE = "published", "deadline"

CONTRACT = Contract(
    table="runs",
    grain="One finished run of the night.",
    key=("run_id",),
    columns=(
        Column("run_id", "string", doc="run"),
        Column("status", "string", doc="published, or deadline: published with requests left out"),
        Column("started_at", "timestamp", doc="when it started"),
        Column("finished_at", "timestamp", doc="when it ended"),
        Column("rows", "map<string,bigint>", doc="counts such as purchases.read, recommend.scored"),
        Column("tokens", "bigint", doc="tokens that went through a language model"),
        Column(
            "seconds", "map<string,double>", doc="wall-clock seconds of each stage; <task>.model: seconds in the model"
        ),
        Column("versions", "map<string,string>", doc="packages, models, settings and catalogue"),
    ),
    partition_by=("run_date",),
)
