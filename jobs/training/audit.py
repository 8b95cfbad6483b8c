"""`regulars train --audit`: shows what a model trained on a copy with canaries remembers, and notes it in the manifest.

Each training module has the audit of its task, `audit(context, folder)`. The model that a night uses never reads a
canary: it is trained on the shop's data as it is, after the audit.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.training.trainer import Trainer, TrainingContext
from lm.checkpoint.manifest import read_manifest, write_manifest
from lm.train.canaries import FORMS, REPEATS, Audit


def audit_task(trainer: Trainer, context: TrainingContext) -> Audit:
    """Train a copy with canaries beside the model's folder, measure it, and delete it. Raises as the training does."""
    folder = context.out.with_name(context.out.name + ".audit")
    found = trainer.audit(context, folder)
    shutil.rmtree(folder)
    return found


def write_audit(out: Path, found: Audit, min_customers: int) -> None:
    """Note the audit in the manifest of the model in `out`, as `training.audit`."""
    manifest = read_manifest(out)
    notes = {**found.notes(), "min_customers": min_customers, "leaks": len(found.leaks(min_customers))}
    write_manifest(out, manifest.model_copy(update={"training": manifest.training | {"audit": notes}}))


def show_audit(console: Console, task: str, found: Audit) -> None:
    """Print the table of an audit, and a line for each kind of membership inference."""
    table = Table(
        *("planted text", "customers", "exposure, bits", "completed by the product", "by free sampling"),
        title=f"{task}: canaries in a copy of the training",
        title_justify="left",
    )
    for form in FORMS:
        for repeats in REPEATS:
            rows = [one for one in found.canaries if (one.form, one.repeats) == (form, repeats)]
            exposures = " ".join(f"{one.kind} {one.exposure:.1f}" for one in rows)
            completed = (
                f"{sum(ways)} of {len(rows)}" for ways in zip(*((r.product, r.free) for r in rows), strict=True)
            )
            name = "redaction replaces it" if form == "redacted" else "redaction misses it"
            table.add_row(name, str(repeats), exposures, *completed)
    console.print(table)
    for name, one in found.membership.items():
        console.print(
            f"Membership inference by the loss of {name}: AUC {one.auc:.3f} ({one.low:.3f}–{one.high:.3f}), "
            f"{one.members} members, {one.held_out} held out",
            highlight=False,
        )
