"""Trains the recommender: collects customers' histories as arrays and runs `lm.recommend_training.train_recommender`.

Part of `regulars train --task recommend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jobs.config.config import Config
from jobs.spark.progress import Stages, warn
from jobs.training import training_data
from jobs.training.differential_privacy import private_settings
from jobs.training.further_customers import joined_window, write_further_customers
from jobs.training.trainer import Figures, FiguresTable, TrainingContext, TrainingOptions
from lm.checkpoint.manifest import HISTORY_EVENTS, read_manifest
from lm.recommend.plain_titles import untold_note

if TYPE_CHECKING:
    from lm.recommend_training.further_customers import FurtherCustomers
    from lm.recommend_training.settings import RecommendTrainSettings
    from lm.recommend_training.training_examples import CustomerEvents
    from lm.train.canaries import Audit

NEEDED: Sequence[str] = ()  # the reader of inputs refuses a shop without purchases
LEARNS_FROM = "lists are learned from what customers bought"
OPTIONAL = False


def tables(config: Config) -> Sequence[str]:
    """All tables of customers' events."""
    return training_data.HISTORY_TABLES


def train(context: TrainingContext) -> Figures:
    """Train on the customers' histories; with `promote` the present model stays where the new one is worse.

    GPT-2 learns from at most `train.max_customers`; what all others bought is counted.
    """
    from lm.recommend_training.promotion import promote
    from lm.recommend_training.repeats import repeats_note
    from lm.recommend_training.train_recommender import train_recommend
    from lm.recommend_training.training_figures import cut_histories_note, verdict

    config, options, out = context.config, context.options, context.out
    settings = _settings(config, options)
    most = config.train.max_customers
    with Stages(context.console).stage("recommend: histories"):
        collected = training_data.collect_customers(context.used, most)
        written = write_further_customers(context.used, most, f"{context.scratch}/customers")
    window = {"as_of": context.last_day_known(config.train.recommend.init), **collected.window}
    if written is not None:
        window = joined_window(window, written.window)
    further = written and written.customers
    items = training_data.collect_titles(context.used)
    chosen = "exclude_purchased" in config.recommend.model_fields_set
    titles_from = "items" if "items" in config.inputs else "purchases"
    for note in (untold_note(items, titles_from), None if chosen else repeats_note(collected.customers)):
        if note:
            warn(context.console, note)
    processes = config.train.recommend.processes
    into = out.with_name(out.name + ".candidate") if options.promote else out
    if processes > 1:
        figures = _in_processes(processes, collected.customers, items, settings, into, window, further)
    else:
        figures = train_recommend(
            collected.customers, items, settings, into, report=context.report, window=window, further=further
        )
    manifest = read_manifest(into)
    if manifest.training.get("out_of_time"):
        warn(context.console, "train.max_minutes ended the training. Raise it, and the lists may become better.")
    context.console.print(verdict(figures), highlight=False)
    events = settings.history_events
    if events is None and manifest.history_events > HISTORY_EVENTS:
        context.console.print(
            f"Prompts have the newest {manifest.history_events} events of a customer: with {HISTORY_EVENTS}, buy again "
            "finds fewer of the validation purchases. recommend.history_events sets another number.",
            highlight=False,
        )
    # A number that the training chose was compared with larger ones, and titles fill a prompt before the events end.
    note = None
    if events is not None and settings.coding == "item_tokens":
        note = cut_histories_note(figures, collected.customers, events)
    if note:
        warn(context.console, note)
    if options.promote:
        if config.rules:
            warn(context.console, "Both models are compared without the rules of the configuration.")
        said = promote(
            into,
            out,
            collected.customers,
            items,
            settings,
            further=further,
            title_keys=training_data.collect_title_keys(context.used, config.recommend),
            disliked_stars=config.recommend.disliked_stars,
        )
        context.console.print(said, highlight=False)
    return figures


def audit(context: TrainingContext, folder: Path) -> Audit:
    """Train a copy of the histories with canaries into `folder`; returns what the model remembers.

    The copy trains in one process and without a refit.
    """
    from lm.recommend_training.audit_recommender import audit_recommender

    settings = replace(_settings(context.config, context.options), refit=False)
    collected = training_data.collect_customers(context.used, context.config.train.max_customers)
    items = training_data.collect_titles(context.used)
    return audit_recommender(collected.customers, items, settings, folder, context.report)


def _settings(config: Config, options: TrainingOptions) -> RecommendTrainSettings:
    from lm.recommend_training.settings import RecommendTrainSettings

    return RecommendTrainSettings(
        **config.train.recommend.model_dump(exclude={"processes"})
        | {"refit": options.refit}
        | private_settings(config.train),
        seed=config.train.seed,
        max_minutes=config.train.max_minutes,
        language=config.recommend.language,
        exclude_purchased=config.recommend.exclude_purchased,
        history_events=config.recommend.history_events,
        min_customers=config.privacy.min_customers,
        protocol=options.protocol,  # type: ignore[arg-type]
    )


def figures_table(figures: Figures) -> FiguresTable:
    """The model beside the baselines, with what was held out."""
    from lm.recommend_training.training_figures import BASELINES

    customers = f"{figures['customers']:,.0f}"
    if "held_out_days" in figures:  # the time split alone has a common cut
        days = figures["held_out_days"]
        period = "last day" if days == 1 else f"last {days:,.0f} days"
        held_out = f"Purchases of {customers} customers in the {period}, held out for everybody (time split)"
    else:
        held_out = (
            f"Last purchases of {customers} held-out customers (each one's own last day; training reached later days "
            "of other customers)"
        )
    return FiguresTable(
        held_out,
        {"model": "", **{name: key for name, key in BASELINES.items() if f"{key}ndcg@10" in figures}},
        {"recall@10": "recall@10", "NDCG@10": "ndcg@10"},
    )


def _in_processes(
    processes: int,
    customers: list[CustomerEvents],
    items: dict[str, str],
    settings: RecommendTrainSettings,
    out: Path,
    window: dict[str, Any],
    further: FurtherCustomers | None = None,
) -> Figures:
    """Train the recommender in so many Spark tasks at once. Raises as train_recommend does."""
    from pyspark.ml.torch.distributor import TorchDistributor
    from pyspark.sql import SparkSession

    from jobs.spark.task_device import TASK_GPUS
    from lm.recommend_training.train_distributed import train_one_of_many

    spark = SparkSession.getActiveSession()
    has_gpus = spark is not None and spark.conf.get(TASK_GPUS, None) is not None
    distributor = TorchDistributor(num_processes=processes, local_mode=False, use_gpu=has_gpus)
    found = distributor.run(train_one_of_many, customers, items, settings, str(out), window, further)
    if isinstance(found, Exception):
        raise found
    return cast("Figures", found)
