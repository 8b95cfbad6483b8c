"""Trains models on the shop's own tables and writes the folders that the configuration names under `models`.

For the data engineer, before the first night and whenever the shop has changed. Alone:

    regulars train --config regulars.yaml --as-of 2026-03-01 --task all

A training that was killed goes on where it was with the same command. Until it ends, the old model stays.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.inputs.reader import read_inputs
from jobs.pictures.training_curves import training_svg
from jobs.spark import files
from jobs.spark.errors import ConfigurationError, InputError, StoreBusy
from jobs.spark.progress import ProgressBars, expected_end, warn
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import reading_stage
from jobs.tasks.all_tasks import TASKS
from jobs.training.audit import audit_task, show_audit, write_audit
from jobs.training.trainer import Figures, FiguresTable, Trainer, TrainingContext, TrainingOptions
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from lm.train import training_loop


def trainer_of(task: str) -> Trainer:
    """The module that trains a task's model: its `Task.TRAINER`."""
    names = {one.NAME: one.TRAINER for one in TASKS}
    return cast("Trainer", import_module(names[task]))


def train(
    spark: SparkSession,
    config: Config,
    as_of: date,
    tasks: Sequence[str],
    console: Console,
    options: TrainingOptions | None = None,
) -> dict[str, Figures]:
    """Train the models of `tasks` on events up to the end of `as_of`; returns the held-out figures of each.

    Without `options` they are the configuration's. Raises ConfigurationError (models.* is no folder or holds foreign
    files, init is no checkpoint, an input is missing), InputError (too little to learn from) and StoreBusy (another
    training writes the same folder). With `options.audit` each task is audited first; with `options.promote` too, a
    task whose audit finds a leak is not trained and has no figures. Of several tasks, one with too few examples is left
    out with a warning.
    """
    # Threads that spin while they wait compete with Spark for the processor: a training beside other work then takes
    # ten times as long. OpenMP reads the variable when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = options or TrainingOptions(refit=config.train.recommend.refit)
    outs = {task: _folder(config, task) for task in tasks}
    trainers = {task: trainer_of(task) for task in tasks}
    for task in tasks:
        missing = next((table for table in trainers[task].NEEDED if table not in config.inputs), None)
        if missing is None:
            continue
        if not trainers[task].OPTIONAL or len(tasks) == 1:
            raise ConfigurationError(f"inputs.{missing} is missing: {trainers[task].LEARNS_FROM}")
        console.print(f"No inputs.{missing}: the {task} model is left out.", highlight=False)
        del outs[task]
    wanted = list(dict.fromkeys(table for task in outs for table in trainers[task].tables(config)))
    figures = {}
    store, read = Store(config.store), ", ".join(table for table in config.inputs if table in wanted)
    with scratch_folder(spark, store, "train") as work:
        with reading_stage(spark, store, console, f"reading {read} up to {as_of}"):
            inputs = read_inputs(spark, config, as_of, work, wanted)
        for note in inputs.notes:
            warn(console, note)
        for task, out in outs.items():
            try:
                with _explained(task), ProgressBars(console) as bars:
                    report = partial(_show, bars, task)
                    context = TrainingContext(inputs.used, config, as_of, out, report, options, console, work)
                    found = _train_one(task, trainers[task], context)
            except _TooFewExamples as error:
                if len(outs) == 1:
                    raise
                warn(console, f"{error}. {_consequence(task, out)}")
                continue
            if found is None:
                continue
            figures[task] = found
            console.print(_table(trainers[task].figures_table(found), found))
            if _is_written(out, found):
                _draw_curves(task, out)
                console.print(f"Wrote {out}", highlight=False, markup=False)
    return figures


def left_out(config: Config, tasks: Sequence[str], figures: Mapping[str, Figures]) -> list[str]:
    """Return the tasks of a training whose model a night would miss: no figures, no earlier model, but the inputs."""
    return [
        task
        for task in tasks
        if task not in figures
        and all(table in config.inputs for table in trainer_of(task).NEEDED)
        and not Path(getattr(config.models, task)).exists()
    ]


class _TooFewExamples(InputError):
    """A task has too few examples; the others of the command may have enough."""


def _consequence(task: str, out: Path) -> str:
    if out.exists():
        return "The old model stays."
    return f"The other models are trained. Until there are more, set models.{task} to null: nights then do without it."


def _train_one(task: str, trainer: Trainer, context: TrainingContext) -> Figures | None:
    """Audit and train one task; None where the audit forbids it."""
    options, least = context.options, context.config.privacy.min_customers
    if not options.audit:
        return trainer.train(context)
    audit = audit_task(trainer, context)
    show_audit(context.console, task, audit)
    if options.promote and (leaks := audit.leaks(least)):
        warn(context.console, _not_promoted(context.out, len(leaks), least))
        return None
    figures = trainer.train(context)
    if _is_written(context.out, figures):
        write_audit(context.out, audit, least)
    return figures


def _is_written(out: Path, figures: Figures) -> bool:
    """Whether the folder has the model of these figures; with `promote` an earlier one may have stayed."""
    written = Manifest(metrics=figures).model_dump(mode="json")["metrics"]  # a NaN becomes null
    return read_manifest(out).metrics == written


def _not_promoted(out: Path, leaks: int, min_customers: int) -> str:
    return (
        f"Not promoted, {out} stays as it is: a model trained on these data completed {leaks} planted texts of fewer "
        f"than {min_customers} customers (privacy.min_customers). Train with fewer epochs or more customers."
    )


def _folder(config: Config, task: str) -> Path:
    """The folder of the model; ConfigurationError where models.<task> is no local folder or holds other files."""
    from lm.train.training_state import FolderTaken, refuse_foreign_files, refuse_foreign_work_folder

    model = getattr(config.models, task)
    if model is None:
        raise ConfigurationError(f"models.{task} is missing: name the folder to write, such as ./models/{task}")
    path = files.local(model)
    if path is None or not Path(model.removeprefix("file:")).is_absolute():
        raise ConfigurationError(
            f"models.{task} is '{model}': a training writes a folder. Set models.{task} to one, such as "
            f"./models/{task}; to start from '{model}' set train.{task}.init to it."
        )
    try:
        refuse_foreign_files(path)
        refuse_foreign_work_folder(path)
    except FolderTaken as error:
        raise ConfigurationError(f"models.{task}: {error}") from None
    return path


@contextmanager
def _explained(task: str) -> Iterator[None]:
    """Turn errors of lm into errors that name the key and the mend."""
    from lm.train.training_state import TooFewExamples, TrainingBusy, TrainingError

    try:
        yield
    except TrainingBusy as error:
        raise StoreBusy(str(error)) from None
    except TooFewExamples as error:
        raise _TooFewExamples(f"train {task}: {error}") from None
    except TrainingError as error:
        raise InputError(f"train {task}: {error}") from None
    except CheckpointError as error:
        raise ConfigurationError(f"train.{task}.init: {error}") from None


def _show(bars: ProgressBars, task: str, now: training_loop.TrainingProgress) -> None:
    """Show a training's stage, epoch, loss, newest validation figures and latest end."""
    detail = f"epoch {now.epoch + 1}, at most {now.epochs}, loss {now.loss:.3f}"
    if math.isnan(now.loss):
        detail = f"{now.step}/{now.steps}"
    detail += "".join(f" {name} {value:.3f}" for name, value in now.metrics.items() if name != "customers")
    if "customers" in now.metrics:
        detail += f" on a sample of {now.metrics['customers']:,.0f} customers"
    left = "" if math.isnan(now.seconds_left) else f"at most until {expected_end(now.seconds_left)}"
    bars.update(f"{task} {now.stage}", now.epoch + now.step / now.steps, now.epochs, detail, left)


def _draw_curves(task: str, out: Path) -> None:
    """Draw the loss and the validation figures by epoch into the model's folder."""
    from lm.train.training_state import CURVES_FILE

    svg = training_svg(task, read_manifest(out).training.get("lines", []))
    if svg is not None:
        (out / CURVES_FILE).write_text(svg, encoding="utf-8")


def _table(shown: FiguresTable, figures: Figures) -> Table:
    """The held-out figures beside those of the baselines."""
    table = Table("", *(f"{name} (95% interval)" for name in shown.metrics), title=shown.title, title_justify="left")
    for name, prefix in shown.contenders.items():
        table.add_row(name, *(_cell(figures, prefix + key) for key in shown.metrics.values()))
    return table


def _cell(figures: Figures, key: str) -> str:
    interval = f" ({figures[key + '_low']:.3f}–{figures[key + '_high']:.3f})" if key + "_low" in figures else ""
    return f"{figures[key]:.3f}{interval}"
