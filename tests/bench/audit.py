"""What models remember of planted texts and of single texts, for each seed: the audits of `regulars train --audit`.

    python -m tests.bench.audit [--customers 300] [--seeds 0 1 2] [--tasks recommend sentiment answers]

Draws the sample shop, trains a copy of each model with 18 canaries for each seed, and measures it. Prints the canaries
of fewer than `privacy.min_customers` customers that the product's own decoding completed (the target is none), the
completions by free sampling, and the AUC of membership inference (the target is at most .55) of each seed with its
interval, and over the seeds. The last is the mean, with an interval of the standard errors of the single ones.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console

from jobs.commands.options import load_config, session
from jobs.inputs.reader import read_inputs
from jobs.sample import write_sample
from jobs.training.audit import audit_task
from jobs.training.train import trainer_of
from jobs.training.trainer import TrainingContext, TrainingOptions
from lm.train.canaries import Audit

TASKS = ("recommend", "sentiment", "answers")
console = Console(stderr=True)


def audits(customers: int, seeds: list[int], tasks: list[str], folder: Path) -> dict[tuple[str, int], Audit]:
    """The audit of each task and seed on one sample shop."""
    sample = write_sample(folder, customers=customers, seed=0)
    file = folder / "regulars.yaml"
    given = yaml.safe_load(file.read_text())
    given["models"] |= {task: f"./models/{task}" for task in tasks}
    file.write_text(yaml.safe_dump(given))
    config = load_config(file, None)
    spark = session("audit", config)
    trainers = {task: trainer_of(task) for task in tasks}
    wanted = list(dict.fromkeys(table for one in trainers.values() for table in one.tables(config)))
    used = read_inputs(spark, config, sample.last_day, str(folder / "work"), wanted).used
    found = {}
    for task, trainer in trainers.items():
        for seed in seeds:
            begun = time.monotonic()
            seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
            out, options = folder / "models" / f"{task}-{seed}", TrainingOptions()
            context = TrainingContext(
                used, seeded, sample.last_day, out, lambda now: None, options, console, str(folder / "scratch")
            )
            found[task, seed] = one = audit_task(trainer, context)
            console.print(f"{task}, seed {seed}: {time.monotonic() - begun:.0f} seconds, {one.membership}")
    return found


def main() -> None:
    """Print a line for each model and seed, and for each kind of membership inference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--min-customers", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = audits(options.customers, options.seeds, options.tasks, Path(name))
    for task in options.tasks:
        of_task = [found[task, seed] for seed in options.seeds]
        rare = [one for audit in of_task for one in audit.canaries if one.repeats < options.min_customers]
        print(
            f"{task}: of {len(rare)} rare canaries, the product completed {sum(one.product for one in rare)}, "
            f"free sampling {sum(one.free for one in rare)}; mean exposure of the redacted "
            f"{_mean([one.exposure for one in rare if one.form == 'redacted']):.1f} bits, of the missed "
            f"{_mean([one.exposure for one in rare if one.form == 'missed']):.1f} bits (1.4 by chance)"
        )
        for kind in of_task[0].membership:
            each = [audit.membership[kind] for audit in of_task]
            errors = [(one.high - one.low) / (2 * 1.96) for one in each]
            mean, error = _mean([one.auc for one in each]), math.sqrt(sum(e * e for e in errors)) / len(errors)
            single = ", ".join(f"{one.auc:.3f} ({one.low:.3f}–{one.high:.3f})" for one in each)
            print(
                f"{task}, membership by the loss of {kind}: {mean:.3f} ({mean - 1.96 * error:.3f}–"
                f"{mean + 1.96 * error:.3f}); seeds {single}; {each[0].members} members, {each[0].held_out} held out"
            )


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


if __name__ == "__main__":
    main()
