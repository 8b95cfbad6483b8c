"""Runs one task of a night: writes its requests, has the missing ones scored, and writes the rows of its table."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

import schemas
from jobs.config.config import Config
from jobs.scoring import failures, ledger
from jobs.scoring.ledger import Results
from jobs.spark.deadline import DeadlinePassed
from jobs.spark.progress import Stages
from jobs.tables.runs import Night
from jobs.tables.unchanged import ANSWERED, Unchanged
from jobs.tasks.task import Task, TaskContext
from jobs.tasks.versions import task_versions
from schemas import runs


@dataclass(frozen=True)
class TaskOutcome:
    """What a task made: its written requests, the results that answered them, and its output tables by name."""

    asked: DataFrame
    results: Results
    tables: dict[str, DataFrame]
    #: The rows of the task's table that were computed.
    rows: DataFrame
    #: The rows in `tables` that were copied; `asked`, `results` and `rows` are of the others.
    unchanged: Unchanged | None = None


def run_task(task: Task, context: TaskContext, night: Night, stages: Stages) -> TaskOutcome:
    """Answer the task's requests from the ledger and the model, and write the rows of its table as a work file.

    DeadlinePassed where the deadline left requests and `publish.at_deadline` is `keep`; GateRefused where the model
    fails on more than `gate.max_failures` requests.
    """
    spark, config = context.spark, context.config
    prepared = task.prepare(context)
    night.versions |= task_versions(task, context.model)
    if context.model.trained_as_of is not None:
        night.versions[runs.trained_as_of(task.NAME)] = context.model.trained_as_of.isoformat()
    if prepared.terms.catalogue_version is not None:
        night.versions["catalogue"] = prepared.terms.catalogue_version
    with stages.stage(task.REQUESTS.replace("_", " ")):
        asked = night.keep(spark, prepared.requests, task.REQUESTS)
    with stages.stage(task.TABLE, model=f"{task.NAME}.model"):
        with stages.counter(task.UNIT) as counter:
            results = ledger.results(
                spark,
                night.store,
                prepared.terms,
                asked.where("key IS NOT NULL"),
                prepared.score,
                enough=prepared.enough,
                wave_minutes=config.ledger.wave_minutes,
                progress=counter.update,
                deadline=night.deadline,
                max_failures=config.gate.max_failures,
            )
        count_results(task, night, config, results)
        if results.failures:
            rejected, counts = failures.rejected(task.ASKED_TABLE, task.ASKED_KEY, asked, results.failed)
            night.rejected.append(rejected)
            night.quarantined |= {(task.ASKED_TABLE, rule): n for rule, n in counts.items()}
        rows = night.keep(spark, prepared.rows(asked, results), task.TABLE)
        if prepared.keep is not None:
            prepared.keep(asked, results, rows)
        tables = {task.REQUESTS: asked} if task.REQUESTS in schemas.OUTPUTS else {}
        tables |= {task.TABLE: rows}
        unchanged = prepared.unchanged
        if unchanged is not None:
            copied = {task.REQUESTS: unchanged.prompts, task.TABLE: unchanged.lists}
            tables = {name: _with_copied(table, copied[name]) for name, table in tables.items()}
            night.computed[task.REQUESTS] += unchanged.customers
            night.computed[task.TABLE] += unchanged.customers * config.recommend.k
            night.copied, night.named[ANSWERED] = unchanged.customers, unchanged.concerned_customers
        return TaskOutcome(asked, results, tables, rows, unchanged)


def _with_copied(rows: DataFrame, copied: DataFrame) -> DataFrame:
    return rows.select(*copied.columns).unionByName(copied)


def count_results(task: Task, night: Night, config: Config, results: Results) -> None:
    """Count what the ledger and the model answered; DeadlinePassed if that is not all and has to be."""
    name = task.NAME
    night.reused[name], night.scored[name], night.late[name] = results.reused, results.scored, results.late
    night.seconds[f"{name}.model"], night.tokens[name] = results.model_seconds, results.tokens
    if results.late:
        night.unfinished.append(task.TABLE)
    if results.late and config.publish.at_deadline == "keep":
        assert night.deadline is not None, "only a deadline leaves requests unanswered"
        raise DeadlinePassed(
            f"the deadline {night.deadline.text} passed with {results.late:,} of "
            f"{results.late + results.scored + results.reused:,} {name} requests not scored. Nothing was published, the"
            " old data stays; what was scored is kept. The same command without --deadline goes on from there; --set "
            "publish.at_deadline=carry publishes with the earlier lists of those customers."
        )
