"""One finished run of the night."""

from __future__ import annotations

from schemas.contract import Column, Contract

#: Values of `status`: published in full, or after a deadline with requests left out.
PUBLISHED, AT_DEADLINE = "published", "deadline"


def trained_as_of(task: str) -> str:
    """Return the key of `versions` with the last day whose events the task's model was trained on."""
    return f"{task}.trained_as_of"


def input_version(section: str, name: str) -> str:
    """Return the key of `versions` with the version of a Delta or Iceberg table; `section` is inputs or sources."""
    return f"{section}.{name}.version"


CONTRACT = Contract(
    table="runs",
    grain="One finished run of the night.",
    key=("run_id",),
    columns=(
        Column("run_id", "string", doc="run"),
        Column("status", "string", doc="published, or deadline: published with requests left out"),
        Column("started_at", "timestamp", doc="when it started"),
        Column("finished_at", "timestamp", doc="when it ended"),
        Column("rows", "map<string,bigint>", doc="counts such as purchases.read, recommend.scored, recommend.tokens"),
        Column("tokens", "bigint", doc="tokens that went through a language model: prompts, texts, beams and samples"),
        Column(
            "seconds",
            "map<string,double>",
            doc="wall-clock seconds of each stage; <task>.model: seconds in the model; publishing: "
            "writing and checking the tables, without this row",
        ),
        Column(
            "versions",
            "map<string,string>",
            doc="packages, models, settings, catalogue; <task>.trained_as_of: the model's last day of training; "
            "inputs.<table>.version, sources.<name>.version: the version of a Delta table, or "
            "the snapshot of an Iceberg table",
        ),
    ),
    partition_by=("run_date",),
)
