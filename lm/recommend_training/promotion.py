"""Replaces the present recommender by a new one unless the new one is worse on held-out purchases."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import read_manifest
from lm.metrics import metrics
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.recommend.same_titles import SameTitles
from lm.recommend_training.count_purchases import bought_items, recounted
from lm.recommend_training.fine_tuning import K
from lm.recommend_training.further_customers import FurtherCustomers
from lm.recommend_training.held_out import HeldOut, split_of
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import CustomerEvents, newest_events
from lm.text.prompt import PromptEncoder
from lm.train.training_state import TrainingError, replace_folder


def promote(
    candidate: Path,
    present: Path,
    customers: Sequence[CustomerEvents],
    items: Mapping[str, str],
    settings: RecommendTrainSettings,
    *,
    further: FurtherCustomers | None = None,
    title_keys: Mapping[str, str] | None = None,
    disliked_stars: int = 0,
) -> str:
    """Move the folder `candidate` to `present` unless it is worse; return a sentence on what was found and done.

    Both models list products for the purchases that the candidate's training held out to report on: with the time
    split, all purchases after one day. Both count the purchases before these, also those of `further` customers. The
    difference of NDCG@10 is bootstrapped over customers; the candidate is worse where the 95% interval lies below 0.
    The GPT-2 of a present model of a later date was trained on some of these purchases, which favours it. A refit
    candidate was trained on them too, so promote candidates without refit. A first model needs no comparison. Raises
    TrainingError for a present model that cannot be opened.
    Lists have one product of each key of `title_keys` (item_id -> key), if given, and none whose newest rating by the
    customer is at most `disliked_stars`.
    """
    if not present.exists():
        replace_folder(candidate, present)
        return f"Promoted: there was no model in {present}."
    split = split_of(customers, items, settings)
    held = split.test
    purchases = "last" if split.last_training_day is None else "newest"
    same = None
    if title_keys:
        same = SameTitles.build(list(items), [title_keys[item] for item in items], [], [])
    barred = [
        one.not_listed(exclude_purchased=settings.exclude_purchased, disliked_stars=disliked_stars) for one in held
    ]
    counted = _Counted(split.training, further and further.upto(split.last_training_day))
    try:
        theirs = _ndcg(present, held, barred, same, items, settings, counted)
    except CheckpointError as error:
        raise TrainingError(
            f"the present model cannot be compared with the new one: {error}. To replace it, train without --promote"
        ) from None
    ours = _ndcg(candidate, held, barred, same, items, settings, counted)
    mean, low, high = metrics.mean_interval(ours - theirs, seed=settings.seed)
    found = (
        f"NDCG@{K} on the held-out {purchases} purchases of {len(held):,} customers: {ours.mean():.4f} new, "
        f"{theirs.mean():.4f} present, "
        f"difference {mean:+.4f} ({low:+.4f} to {high:+.4f})"
    )
    if high < 0 and metrics.has_interval(len(held), low, high):
        shutil.rmtree(candidate)
        return f"Not promoted, {present} stays. {found}."
    replace_folder(candidate, present)
    return f"Promoted to {present}. {found}."


class _Counted(NamedTuple):
    """The customers whose purchases a model counts: those in memory, and further ones."""

    customers: Sequence[CustomerEvents]
    further: FurtherCustomers | None = None


def _ndcg(
    path: Path,
    held: Sequence[HeldOut],
    barred: Sequence[Sequence[str]],
    same_titles: SameTitles | None,
    items: Mapping[str, str],
    settings: RecommendTrainSettings,
    counted: _Counted,
) -> np.ndarray:
    """(customers,) NDCG@10 of the lists that a night would make with one model, without the `barred` items of each.

    Its counts are of the purchases of `counted`: a finished model has counted the held-out ones too.
    """
    encoder = PromptEncoder.load(path)
    catalogue = Catalogue.build(list(items), list(items.values()), encoder)
    engine = Recommender.load(path, catalogue, same_titles=same_titles, dtype="float32")
    manifest, timed = encoder.manifest, settings.protocol == "time-split"
    bought = bought_items(counted.customers, encoder.item_tokens, manifest.first_item_token, timed=timed)
    engine.hybrid = recounted(engine.hybrid, bought, manifest.item_ids, counted.further)
    longest = min(settings.max_tokens, int(read_manifest(path).training.get("settings", {}).get("max_tokens", 10**6)))
    most = settings.history_events or manifest.history_events
    events = [newest_events(one.events, most) for one in held]
    prompts = [rendered.prompt for rendered in encoder.render_many(events, longest)]
    lists = [[scored.item_id for scored in best] for best in engine.recommend(prompts, barred, K)]
    return metrics.ndcg_at_k(lists, [one.items for one in held], K)
