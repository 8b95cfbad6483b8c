"""Judges models.recommend by each customer's last purchase, given everything before it (Kang & McAuley 2018).

    regulars train --protocol leave-one-out --task recommend --config regulars.yaml
    regulars evaluate --protocol leave-one-out --config regulars.yaml --json figures.json

The ranking covers the whole catalogue. `recommend.exclude_purchased` removes the customer's earlier purchases from it.
Prompts and lists come from the code that the night runs: `recommend.same_title` and `recommend.disliked_stars` hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import Progress

from jobs.config.config import Config
from jobs.evaluation import ranking_figures
from jobs.evaluation.ranking_figures import JudgedCustomer, compare_with_baselines
from jobs.evaluation.training_cutoff import open_model, refuse_other_split, refuse_replaced_model
from jobs.inputs.reader import read_inputs
from jobs.spark.errors import InputError
from jobs.spark.progress import warn
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.store.usual_seconds import reading_stage
from jobs.training import training_data

if TYPE_CHECKING:
    from lm.recommend_training.held_out import HeldOut, Split

#: Customers per call of the engine; the progress bar moves between the calls.
_CUSTOMERS_PER_CALL = 512


def evaluate_leave_one_out(
    spark: SparkSession, config: Config, as_of: date, console: Console, json_file: Path | None = None
) -> dict[str, Any]:
    """Judge models.recommend by every customer's last purchase up to `as_of`, beside the baselines.

    Prints a table, writes the figures to `json_file` and returns them. The baselines learn from all earlier purchases.
    Raises ConfigurationError for a missing model or one that was trained on the last purchases, InputError where no
    customer bought often enough, ModelChanged where a training replaces the model meanwhile.
    """
    path, fingerprint, manifest = open_model("recommend", config.models.recommend)
    refuse_other_split(path, manifest, config, as_of, console)
    trained = manifest.training.get("settings", {})
    if config.rules:
        warn(console, "These lists are made without the rules of the configuration, which published lists keep.")
    split, titles, sellable, title_keys = _read_split(spark, config, as_of, console)
    before = [[str(event.item_id) for event in one.events if event.kind == "bought"] for one in split.test]
    lists = _recommend(path, config, split.test, titles, sellable, title_keys, console)
    refuse_replaced_model("recommend", path, fingerprint)
    after = [sorted(one.items) for one in split.test]
    judged = [JudgedCustomer(*row) for row in zip(lists, before, after, strict=True)]
    known = [[str(event.item_id) for event in one.events if event.kind == "bought"] for one in split.refit]
    new_only = config.recommend.exclude_purchased
    ks = [k for k in (5, 10) if k <= config.recommend.k] or [config.recommend.k]
    compared = compare_with_baselines(judged, known, sellable, ks, new_only=new_only)
    figures = {
        "protocol": "leave-one-out",
        "trained_with": trained.get("protocol", "unknown"),
        "refit": bool(trained.get("refit")),
        "exclude_purchased": new_only,
        **ranking_figures.headline_figures(compared),
        "new_items" if new_only else "all_items": compared,
    }
    title = f"last purchases, {'refit' if figures['refit'] else 'strict'}"
    ranking_figures.print_figures(console, title, compared, ks[-1])
    ranking_figures.write_json(console, figures, json_file)
    return figures


def _read_split(
    spark: SparkSession, config: Config, as_of: date, console: Console
) -> tuple[Split, dict[str, str], list[str], dict[str, str]]:
    """Return the split of the customers, the titles by item id, the sellable item ids, and the keys of the titles."""
    from lm.recommend_training.held_out import split_of
    from lm.recommend_training.settings import RecommendTrainSettings
    from lm.train.training_state import TrainingError

    store = Store(config.store)
    with (
        reading_stage(spark, store, console, f"reading the histories up to {as_of}"),
        scratch_folder(spark, store, "evaluate") as work,
    ):
        used = read_inputs(spark, config, as_of, work, training_data.HISTORY_TABLES).used
        customers = training_data.collect_customers(used, config.train.max_customers).customers
        titles = training_data.collect_titles(used)
        sellable = training_data.collect_sellable(used)
        title_keys = training_data.collect_title_keys(used, config.recommend)
    settings = RecommendTrainSettings(protocol="leave-one-out", exclude_purchased=config.recommend.exclude_purchased)
    try:
        return split_of(customers, titles, settings), titles, sellable, title_keys
    except TrainingError as error:
        raise InputError(f"evaluate: {error}") from None


def _recommend(
    path: Path,
    config: Config,
    held: Sequence[HeldOut],
    titles: dict[str, str],
    sellable: Sequence[str],
    title_keys: Mapping[str, str],
    console: Console,
) -> list[list[str]]:
    """Return a list of item ids, best first, for each held-out customer; shows progress.

    A night makes the same lists, where no rules are configured.
    """
    from lm.recommend.catalogue import Catalogue
    from lm.recommend.recommender import Recommender
    from lm.recommend.same_titles import SameTitles
    from lm.recommend_training.training_examples import newest_events
    from lm.text.prompt import PromptEncoder

    settings = config.recommend
    encoder = PromptEncoder.load(path)
    most = settings.history_events or encoder.manifest.history_events
    catalogue = Catalogue.build(list(sellable), [titles[item] for item in sellable], encoder)
    same = None
    if title_keys:
        others = sorted(set(titles) - set(sellable))
        same = SameTitles.build(
            sellable, [title_keys[item] for item in sellable], others, [title_keys[item] for item in others]
        )
    engine = Recommender.load(path, catalogue, same_titles=same, beams=settings.beams, dtype=config.models.dtype)
    lists: list[list[str]] = []
    with Progress(console=console, transient=True) as progress:
        for start in progress.track(range(0, len(held), _CUSTOMERS_PER_CALL), description="  ranking"):
            part = held[start : start + _CUSTOMERS_PER_CALL]
            events = [newest_events(one.events, most) for one in part]
            prompts = [rendered.prompt for rendered in encoder.render_many(events, settings.prompt_tokens)]
            excluded = [
                one.not_listed(exclude_purchased=settings.exclude_purchased, disliked_stars=settings.disliked_stars)
                for one in part
            ]
            ranked = engine.recommend(prompts, excluded, settings.k)
            lists += [[scored.item_id for scored in best] for best in ranked]
    return lists
