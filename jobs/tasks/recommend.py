"""The task `recommend`: one prompt a customer in, the table `recommendations` out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.config.config import Config
from jobs.scoring import ledger, models
from jobs.scoring.ledger import Results
from jobs.scoring.models import Model
from jobs.scoring.waves import AnswerTerms
from jobs.spark import executor_files
from jobs.spark.task_device import task_device
from jobs.tables import customer_rules, list_rules, prompts, recommendations
from jobs.tables.carried_lists import with_carried
from jobs.tables.catalogues import SellableCatalogue
from jobs.tables.histories import histories, with_all_customers
from jobs.tables.list_changes import with_changes
from jobs.tables.list_rules import NightRules
from jobs.tables.reasons import with_because
from jobs.tables.same_titles import with_title_keys
from jobs.tables.unchanged import (
    ListTerms,
    Unchanged,
    find_unchanged,
    keep_answered,
    keep_frequent_searches,
    of_concerned,
)
from jobs.tasks.task import PreparedTask, TaskContext
from lm.recommend.catalogue import Catalogue
from lm.recommend.list_rules import RuleTable
from lm.recommend.same_titles import SameTitles
from schemas import contract

if TYPE_CHECKING:  # torch stays out of the driver
    from lm.recommend.recommender import Recommender

NAME = "recommend"
CODE_VERSION = 7
TABLE = "recommendations"
REQUESTS = "prompts"
UNIT = "customers"
ASKED_TABLE, ASKED_KEY = "prompts", "user_id"
TRAINER = "jobs.training.train_recommend"


def is_wanted(config: Config) -> bool:
    """Lists are written where purchases are configured; with reviews alone there are none."""
    return "purchases" in config.inputs


def find_model(config: Config, config_file: str) -> Model:
    """Find `models.recommend`; a trained model must speak the configured language."""
    chosen = config.models
    return models.find(
        NAME, chosen.recommend, config.options(config_file), config.recommend.language, dtype=chosen.dtype
    )


def lookback_days(config: Config) -> int:
    """A list is asked for on its own date only."""
    return 0


def prepare(context: TaskContext) -> PreparedTask:
    """Render the prompts and hold the ledger's lists against today's catalogue.

    A list stays good for another catalogue while it is younger than `ledger.max_age_days` and enough of its products
    can still be sold.
    """
    settings, model = context.config.recommend, context.model
    night = NightRules.of(context.config, context.run_date)
    items = products(context, night)
    catalogue = SellableCatalogue(items, night)
    sets = customer_rules.sets_of_rules(context.used, night)
    list_rules.refuse_empty_lists(catalogue.members, catalogue.never, sets, night)
    published = contract(TABLE).column_names
    frequent = _frequent_searches(context)
    unchanged = _unchanged(context, catalogue, frequent)

    load = load_once(context, catalogue)

    def rows(asked: DataFrame, results: Results) -> DataFrame:
        titles_differ = catalogue.same_titles is None
        lists = recommendations.lists(asked, results.rows, items, settings.k, titles_differ=titles_differ)
        # Without reasons no list names a search, so none is counted.
        searches = None if settings.reasons == "none" else context.used.get("searches")
        lists = with_because(lists, searches, settings.language, context.config.privacy.min_customers, frequent)
        late = left_out(asked, results)
        if late is not None:
            lists = with_carried(context.spark, context.store, context.run_date, lists, late, items, settings.k)
        lists = recommendations.with_category_and_price(lists, items)
        of = None if unchanged is None else (unchanged.concerned, unchanged.concerned_customers)
        return with_changes(context.spark, context.store, context.run_date, lists, of).select(*published)

    def keep(asked: DataFrame, results: Results, lists: DataFrame) -> None:
        assert context.segment is not None, "only a night that keeps its rows calls this"
        keep_answered(asked, results.rows, lists, settings.k, context.segment)

    enough = ledger.enough_sellable(catalogue.item_ids, settings.k)
    if catalogue.facts is not None:
        enough = ledger.enough_unchanged(catalogue.facts, settings.k)
    return PreparedTask(
        requests=requests(_with_used(context, unchanged), night, items),
        terms=AnswerTerms(
            NAME,
            recommendations.RESULT,
            context.run_id,
            context.run_date,
            model.fingerprint,
            catalogue.version,
            context.config.ledger.max_age_days,
        ),
        score=lambda missing: recommendations.score(missing, load(), settings.k + settings.spares, settings.reasons),
        rows=rows,
        enough=enough,
        unchanged=unchanged,
        keep=None if context.segment is None else keep,
    )


def products(context: TaskContext, night: NightRules) -> DataFrame:
    """The products of the night with what the rules and `recommend.same_title` need of them."""
    items = context.used["items"]
    if context.config.recommend.same_title:
        items = with_title_keys(items)
    return list_rules.with_products(items, night) if night.rules else items


def _frequent_searches(context: TaskContext) -> DataFrame | None:
    """The searches that enough customers wrote, where the next night is to know them; None if they are not needed."""
    if context.segment is None or "searches" not in context.used or context.config.recommend.reasons == "none":
        return None
    least = context.config.privacy.min_customers
    return keep_frequent_searches(context.spark, context.used["searches"], least, context.segment, context.earlier)


def _unchanged(context: TaskContext, catalogue: SellableCatalogue, frequent: DataFrame | None) -> Unchanged | None:
    """The customers whose prompts and lists are those of the date before."""
    if context.earlier is None:
        return None
    settings, config = context.config.recommend, context.config
    terms = ListTerms(
        context.store,
        context.run_date,
        settings.k,
        config.ledger.max_age_days,
        catalogue.version,
        settings.same_title,
    )
    return find_unchanged(
        context.spark, context.earlier, terms, context.used, frequent, all_customers=settings.all_customers
    )


def _with_used(context: TaskContext, unchanged: Unchanged | None) -> TaskContext:
    """The context with the rows of those customers alone whose prompts are rendered."""
    return context if unchanged is None else replace(context, used=of_concerned(context.used, unchanged))


def requests(
    context: TaskContext, night: NightRules, items: DataFrame, *, with_events: bool | None = None
) -> DataFrame:
    """Each customer's prompt with the `key` of the request that it makes, and with rules the ones that bind.

    `with_events` adds the prompt's `events`; by default where reasons are configured.
    """
    settings, model, used = context.config.recommend, context.model, context.used
    events = customer_events(context)
    repeated = customer_rules.repeated_purchases(used, night, items)
    events = customer_rules.with_exclusions(events, used, repeated, settings)
    rendered = prompts.prompts(
        events,
        model.encoder_loader(),
        settings.prompt_tokens,
        with_events=settings.reasons != "none" if with_events is None else with_events,
    )
    also_hash = F.col("excluded_hash")
    if night.rules:
        rendered = customer_rules.with_rules(rendered, used, night, items, repeated)
        also_hash = F.concat(also_hash, F.coalesce("rules_hash", F.lit("")))  # no rule binds: the key of one without
    key = ledger.request_key(
        NAME,
        F.col("prompt"),
        code_version=CODE_VERSION,
        model_version=model.fingerprint,
        settings={
            "candidates": settings.k + settings.spares,
            "beams": settings.beams,
            "dtype": model.dtype,
            "reasons": settings.reasons,
            "same_title": settings.same_title,
        },
        also_hash=also_hash,
    )
    return rendered.withColumn("key", key)


def customer_events(context: TaskContext) -> DataFrame:
    """The histories of all customers who get a list."""
    settings, used = context.config.recommend, context.used
    events = histories(used, settings.history_events or context.model.history_events)
    return with_all_customers(events, used["customers"]) if "customers" in used and settings.all_customers else events


def load_once(context: TaskContext, catalogue: SellableCatalogue) -> Callable[[], Callable[[], Recommender]]:
    """Makes the loader of the engine at its first call: a night without requests never builds the catalogue."""
    model, settings = context.model, context.config.recommend

    @functools.cache
    def load() -> Callable[[], Recommender]:
        folder = catalogue.write(executor_files.session_folder(_catalogue_of(context.run_id)), model.encoder())
        place = executor_files.send_folder(context.spark, folder, folder.name)
        return recommender_loader(model, place, settings.beams, int(settings.worker_memory * 1e9))

    return load


@contextmanager
def temporary_catalogue(spark: SparkSession, run_id: str) -> Iterator[None]:
    """Delete the run's catalogue on driver and executors when the block ends well: a backfill has one for each date."""
    yield
    executor_files.remove_folder(spark, _catalogue_of(run_id))


def _catalogue_of(run_id: str) -> str:
    return f"catalogue-{run_id}"


def left_out(asked: DataFrame, results: Results) -> DataFrame | None:
    """The rows of `asked` without a list, with `because`: `deadline` or `model_failed`; None where all have one."""
    if not (results.late or results.failures):
        return None
    because = F.when(F.col("failure").isNull(), "deadline").otherwise("model_failed").alias("because")
    late = asked.join(results.rows.select("key"), on="key", how="left_anti")
    return late.join(results.failed, on="key", how="left").select(*asked.columns, because)


def recommender_loader(
    model: Model, catalogue_dir: str, beams: int | None, worker_memory: int | None = None
) -> Callable[[], Recommender]:
    """A picklable loader of the engine over the memory-mapped catalogue, cached in each Python worker."""
    return functools.partial(_of_task, model, catalogue_dir, beams, worker_memory)


def _of_task(model: Model, catalogue_dir: str, beams: int | None, worker_memory: int | None) -> Recommender:
    return _recommender(model, catalogue_dir, beams, worker_memory, task_device())


@functools.lru_cache(maxsize=1)
def _recommender(
    model: Model, catalogue_dir: str, beams: int | None, worker_memory: int | None, device: str
) -> Recommender:
    from lm.recommend.recommender import Recommender

    folder = executor_files.local_folder(catalogue_dir)
    catalogue = Catalogue.load(folder)
    rules, same = RuleTable.load(folder, catalogue), SameTitles.load(folder, catalogue)
    path = executor_files.local_folder(model.path)
    return Recommender.load(
        path,
        catalogue,
        rules=rules,
        same_titles=same,
        beams=beams,
        dtype=model.dtype,
        device=device,
        worker_memory=worker_memory,
    )
