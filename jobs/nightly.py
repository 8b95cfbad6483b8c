"""The night: every output table for one run_date, all of them or none. Read `run_night` from top to bottom.

For the data engineer who schedules it: `regulars nightly --config regulars.yaml --run-date D`.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import date
from functools import partial, reduce

from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.config.privacy import privacy_key
from jobs.inputs import optouts
from jobs.inputs.freshness import refuse_stale
from jobs.inputs.reader import Inputs, read_inputs, tables_of_night
from jobs.inputs.row_accounting import end_of_date
from jobs.report.write import reported
from jobs.scoring import models
from jobs.sources.file_versions import StartFromNothing
from jobs.spark import files
from jobs.spark.deadline import Deadline
from jobs.spark.progress import Stages, warn
from jobs.store import gate, store_format
from jobs.store.attempts import record_attempt
from jobs.store.delta_tables import DeltaTables, update_delta_tables
from jobs.store.lock import lock
from jobs.store.publish import StagedTable, publish_staged, recover, stage_tables, temporary_folders
from jobs.store.state import new_segment, prepare_state
from jobs.store.store import Store, published_dates
from jobs.store.usual_seconds import usual_seconds
from jobs.tables import groups, loyalty
from jobs.tables.loyalty_sums import sums_of_night
from jobs.tables.metrics import age_rows, input_ages, label_metrics, list_metrics, quarantine_counts, table_rows
from jobs.tables.purchases_used import purchases_of_date
from jobs.tables.quarantine import hashed, new_rejections
from jobs.tables.runs import Night, run_row
from jobs.tables.same_titles import with_title_keys
from jobs.tasks import recommend, sentiment
from jobs.tasks.all_tasks import wanted_tasks
from jobs.tasks.incremental import (
    Basis,
    find_basis,
    forget_old_states,
    record_of,
    tell_basis,
    versions_of,
    without_record,
)
from jobs.tasks.run_task import TaskOutcome, run_task
from jobs.tasks.task import TaskContext, model_warnings
from jobs.tasks.versions import save_settings, settings_version


def run_night(
    spark: SparkSession,
    config: Config,
    run_date: date,
    console: Console,
    config_file: str,
    deadline: Deadline | None = None,
    *,
    from_scratch: bool = False,
) -> Night:
    """Run all stages for `run_date`, as of its end in the shop's time zone, and publish.

    Raises a UserError with its exit code for everything that the operator can mend. Whatever happens, readers keep
    whole dates, and the next run goes on from the ledger. No request is scored after `deadline`; `publish.at_deadline`
    says what is published then. With `incremental.enabled` the night computes only what changed since the date before,
    unless `from_scratch` is set.
    """
    store = Store(config.store)
    night = Night(f"{run_date}-{uuid.uuid4().hex[:8]}", run_date, store, deadline)
    stages = Stages(console, keep=partial(_keep_progress, spark, night))
    night.seconds = stages.seconds
    with (
        lock(spark, store, night.run_id),
        reported(spark, config, config_file, night, console) as report,
        record_attempt(spark, store, night.run_id, run_date),
        temporary_folders(spark, store, night.run_id),
        recommend.temporary_catalogue(spark, night.run_id),
        new_segment(spark, store, night.run_id) as segment,
    ):
        found = [(task, task.find_model(config, config_file)) for task in wanted_tasks(config)]
        for line in [*store_format.check_format(spark, store), *recover(spark, store, config.publish.keep_publishes)]:
            console.print(line, highlight=False, markup=False)
        for task, model in found:
            for warning in model_warnings(task.NAME, model, config, run_date):
                warn(console, warning)
                report.note(warning)
        key = privacy_key(spark, config)
        hash_ids = partial(hashed, key=key, has_pseudonyms=config.privacy.pseudonyms)
        groups.refuse_group_changes(spark, store, config.loyalty)
        versions = versions_of(config, found, key)
        basis = find_basis(spark, store, config, run_date, versions, from_scratch=from_scratch)
        stages.usual = usual_seconds(spark, store, by_change=basis.record is not None)
        with stages.stage("inputs"):
            basis, inputs = _read(spark, config, night, segment, basis)
            night.accounts = inputs.accounts
            refuse_stale(inputs.freshness, config, run_date)
            listed = inputs.accounts.get(optouts.TABLE)
            if listed is None or not config.inputs[optouts.TABLE].allow_empty:
                gate.refuse_lost_optouts(spark, store, 0 if listed is None else listed.used, config.gate)
            night.emptied = inputs.emptied_by_rule
            night.versions |= inputs.versions
            rejected = _rejections(spark, night, hash_ids(inputs.quarantine), key)
            end = end_of_date(run_date, config.timezone)
            night.input_ages = input_ages(inputs.newest_at, inputs.accounts, end)
        night.notes = inputs.notes
        tell_basis(console, basis)
        for note in inputs.notes:
            warn(console, note)
            report.note(note)
        done: dict[str, TaskOutcome] = {}
        outputs: dict[str, DataFrame] = {}
        earlier, kept = basis.earlier(store, segment, inputs), segment if basis.keeps_rows else None
        for task, model in found:
            shipped = models.shipped(spark, model)
            context = TaskContext(spark, config, store, night.run_id, run_date, inputs.used, shipped, kept, earlier)
            outcome = done[task.NAME] = run_task(task, context, night, stages)
            outputs |= outcome.tables
        alive = None
        if "purchases" in inputs.used:
            with stages.stage("loyalty"):
                labels = outputs.get("sentiments")
                sums = sums_of_night(spark, night, inputs.used, labels, kept, earlier)
                outputs["loyalty"], alive = _loyalty(spark, config, night, sums)
            outputs["purchases_used"] = purchases_of_date(inputs.used["purchases"], run_date)
        outputs["quarantine"] = reduce(DataFrame.unionByName, [rejected, *map(hash_ids, night.rejected)])
        with stages.stage("metrics"):
            lists = done.get(recommend.NAME)
            outputs["metrics"] = _metrics(spark, config, night, outputs, lists, inputs.used, alive)
            gate.refuse_short_lists(outputs["metrics"], store.ledger(recommend.NAME), config.recommend.k)
            gate.refuse_drift(spark, store, run_date, outputs["metrics"], config.gate, unfinished=night.unfinished)
        # Only now: the metrics above are of all lists that were computed, the control group's too.
        if lists is not None:
            outputs["recommendations"] = groups.published_lists(outputs["recommendations"], config.loyalty, run_date)
        night.versions["settings"] = settings_version(config)
        save_settings(spark, store, config)
        if config.report.write:
            reviews = done[sentiment.NAME].asked if sentiment.NAME in done else None
            with stages.stage("report"):
                report.look(inputs.used, reviews, outputs.get("sentiments"))
        with stages.stage("publishing"):
            per_file = config.publish.rows_per_file
            staged = stage_tables(spark, store, night.run_id, run_date, outputs, per_file)
        with stages.stage("exchange of folders"):
            staged |= stage_tables(spark, store, night.run_id, run_date, {"runs": run_row(spark, night)})
            if basis.keeps_rows:
                record = record_of(spark, night, basis, inputs, versions)
                staged["state"] = StagedTable(prepare_state(spark, store, record), 0)
            published = publish_staged(spark, store, night.run_id, staged)
            night.rows = {table: rows for table, rows in published.items() if table != "state"}
            forget_old_states(spark, store, run_date, config.incremental.keep_dates if basis.keeps_rows else 0)
            if delta := DeltaTables.of(config.publish):
                update_delta_tables(spark, store, delta)
    return night


def _keep_progress(spark: SparkSession, night: Night, line: str) -> None:
    """Keep the present line where `regulars status` of another process finds it; a full disk fails elsewhere."""
    with suppress(OSError):
        files.write_text(spark, night.store.progress(night.run_id), line)


def _read(spark: SparkSession, config: Config, night: Night, segment: str, basis: Basis) -> tuple[Basis, Inputs]:
    """Read the inputs: only what is new, or everything where the basis turns out not to fit them."""
    work = night.store.work(night.run_id)
    # A date of the past never brings a customer back who opted out since.
    newest = max([night.run_date, *published_dates(spark, night.store, "runs")])
    read = partial(read_inputs, spark, config, night.run_date, work, optouts_as_of=newest)
    tables, kept = tables_of_night(config), segment if basis.keeps_rows else None
    known = basis.known(night.store, config, work)
    if known is not None:
        try:
            return basis, read(tables, known, segment=kept)
        except StartFromNothing as reason:
            basis = without_record(basis, str(reason))
            files.delete(spark, segment)
    return basis, read(tables, segment=kept)


def _rejections(spark: SparkSession, night: Night, quarantine: DataFrame, key: bytes) -> DataFrame:
    """Keep the rejected rows that are new on the date, and count them by table and rule."""
    rejected = night.keep(spark, new_rejections(spark, night.store, night.run_date, quarantine, key), "rejections")
    by_rule = rejected.groupBy("table", "rule").count().orderBy("table", "rule")
    night.quarantined = {(row["table"], row["rule"]): row["count"] for row in by_rule.collect()}
    return rejected


def _loyalty(
    spark: SparkSession, config: Config, night: Night, sums: DataFrame
) -> tuple[DataFrame, loyalty.LoyaltyModel]:
    """Measure every customer who bought, learn from a sample of them and score them all."""
    measured = night.keep(spark, loyalty.measures(sums, night.run_date), "measures")
    model = loyalty.fit_model(measured, config.loyalty)
    return night.keep(spark, loyalty.score_customers(measured, model, config.loyalty), "loyalty"), model


def _metrics(
    spark: SparkSession,
    config: Config,
    night: Night,
    outputs: dict[str, DataFrame],
    lists: TaskOutcome | None,
    used: dict[str, DataFrame],
    model: loyalty.LoyaltyModel | None,
) -> DataFrame:
    """Compute the night's metrics, over all that was computed."""
    tables = {name: rows for name, rows in night.computed.items() if name in outputs}
    tables["quarantine"] = sum(night.quarantined.values())
    found = table_rows(spark, tables)
    if lists is not None:
        late = recommend.left_out(lists.asked, lists.results)
        items = with_title_keys(used["items"]) if config.recommend.same_title else used["items"]
        found = found.unionByName(
            list_metrics(lists.rows, lists.asked, items, config.recommend.k, late, lists.unchanged)
        )
    if "sentiments" in outputs:
        found = found.unionByName(label_metrics(outputs["sentiments"], used.get("items")))
    found = found.unionByName(quarantine_counts(spark, night.quarantined))
    found = found.unionByName(age_rows(spark, night.input_ages))
    if model is not None:
        found = found.unionByName(loyalty.model_metrics(spark, model, outputs["loyalty"]))
    return night.keep(spark, found, "metrics")
