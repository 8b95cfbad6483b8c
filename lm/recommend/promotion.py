"""The gate of a new recommender: it replaces the present one only if it is not worse on held-out purchases."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lm.checkpoint.manifest import read_manifest
from lm.metrics import metrics
from lm.recommend.catalogue import Catalogue
from lm.recommend.fine_tuning import K
from lm.recommend.held_out import HeldOut, split_of
from lm.recommend.recommender import Recommender
from lm.recommend.settings import RecommendSettings
from lm.recommend.training_examples import Customer
from lm.text.prompt import PromptEncoder
from lm.train.training_state import replace_folder


def promote(
    candidate: Path,
    present: Path,
    customers: Sequence[Customer],
    items: Mapping[str, str],
    settings: RecommendSettings,
) -> str:
    """Put the folder `candidate` in the place of `present` unless it is worse; returns what was found and done.

    Both models list products for the customers that the candidate's training held out to report on, and the
    difference of NDCG@10 is bootstrapped customer by customer. Worse is a candidate whose 95% interval lies below 0.
    The present model may have been trained on some of these purchases, which favours it; a refit candidate was, so
    promote strict ones. Without a present model the candidate takes its place.
    """
    if not present.exists():
        replace_folder(candidate, present)
        return f"Promoted: there was no model in {present}."
    held = split_of(customers, items, settings).test
    ours, theirs = (_ndcg(path, held, items, settings) for path in (candidate, present))
    mean, low, high = metrics.mean_interval(ours - theirs, seed=settings.seed)
    found = (
        f"NDCG@{K} of {len(held):,} held-out customers: {ours.mean():.4f} new, {theirs.mean():.4f} present, "
        f"difference {mean:+.4f} ({low:+.4f} to {high:+.4f})"
    )
    if high < 0:
        shutil.rmtree(candidate)
        return f"Not promoted, {present} stays. {found}."
    replace_folder(candidate, present)
    return f"Promoted to {present}. {found}."


def _ndcg(path: Path, held: Sequence[HeldOut], items: Mapping[str, str], settings: RecommendSettings) -> np.ndarray:
    """(customers,) NDCG@10 of one model's lists, made as a night makes them."""
    encoder = PromptEncoder.load(path)
    engine = Recommender.load(path, Catalogue.build(list(items), list(items.values()), encoder), dtype="float32")
    longest = min(settings.max_tokens, int(read_manifest(path).training.get("settings", {}).get("max_tokens", 10**6)))
    events = [one.events[-settings.history_events :] for one in held]
    prompts = [rendered.prompt for rendered in encoder.render_many(events, longest)]
    barred = [sorted(one.purchased) if settings.exclude_purchased else [] for one in held]
    lists = [[scored.item_id for scored in best] for best in engine.recommend(prompts, barred, K)]
    return metrics.ndcg_at_k(lists, [one.items for one in held], K)
