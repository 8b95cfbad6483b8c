"""Amazon Beauty, leave-one-out: RecTools' SASRec with sampled softmax, judged as tests/bench/beauty.py judges ours.

    python -m tests.bench.sasrec --data ../shared/data [--seeds 0 1 2] [--refit] [--quick] [--json]

The same customers, purchases, metrics and intervals. As ours it trains on all but each customer's last two purchases
and stops where NDCG@10 on the purchase before the last is best; `--refit` then trains anew on all but the last, for as
many epochs. Width and dropout are those of `--width` and `--dropout`: what was best on validation is the default.
`make bench` installs RecTools without what it asks for, because it asks for an older numpy than it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from lm.metrics import metrics

console = Console(stderr=True)
K, PATIENCE, MOST_EPOCHS, VALIDATED = 10, 3, 60, 5000
Histories = Sequence[Sequence[str]]


def dataset(histories: Histories) -> Any:
    """RecTools' form of purchase lists, a purchase a day."""
    from rectools.dataset import Dataset

    lengths = [len(history) for history in histories]
    days = np.concatenate([np.arange(length) for length in lengths])
    table = {
        "user_id": np.repeat(np.arange(len(histories)), lengths),
        "item_id": [item for history in histories for item in history],
        "datetime": pd.Timestamp("2014-01-01") + pd.to_timedelta(days, unit="D"),
        "weight": 1.0,
    }
    return Dataset.construct(pd.DataFrame(table))


def untrained(options: argparse.Namespace, seed: int) -> Any:
    """SASRec as RecTools recommends it: sampled softmax, inverse positions, pre-norm blocks."""
    from pytorch_lightning import Trainer, seed_everything
    from rectools.models import SASRecModel

    seed_everything(seed, verbose=False)

    def trainer() -> Any:
        quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing"), False)
        return Trainer(max_epochs=1, accelerator="cpu", devices=1, **quiet)

    return SASRecModel(
        n_blocks=2,
        n_heads=2,
        n_factors=options.width,
        dropout_rate=options.dropout,
        session_max_len=20,  # of 96% of the customers all purchases
        loss="sampled_softmax",
        n_negatives=options.negatives,
        lr=1e-3,
        batch_size=128,
        get_trainer_func=trainer,
    )


def lists(model: Any, histories: Histories, users: np.ndarray) -> list[list[str]]:
    """The ten best new items of each of `users`."""
    found = model.recommend(users=users, dataset=dataset(histories), k=K, filter_viewed=True)
    by_user = found.sort_values(["user_id", "rank"]).groupby("user_id")["item_id"].agg(list)
    return [by_user.get(user, []) for user in users]


def ndcg(model: Any, histories: Histories, wanted: Sequence[str], users: np.ndarray) -> float:
    """Mean NDCG@10 of `users`."""
    found = metrics.ndcg_at_k(lists(model, histories, users), [{wanted[user]} for user in users], K)
    return float(found.mean())


def strict(options: argparse.Namespace, histories: Histories, seed: int) -> tuple[Any, int, float]:
    """The model that is best on the purchase before the last, its epochs and its NDCG@10 there."""
    known, wanted = [history[:-2] for history in histories], [history[-2] for history in histories]
    users = np.sort(np.random.default_rng(seed).permutation(len(histories))[:VALIDATED])
    model, best, epochs, state = untrained(options, seed), -1.0, 0, {}
    data = dataset(known)
    for epoch in range(1, 2 if options.quick else MOST_EPOCHS):
        begun = time.monotonic()
        model.fit_partial(data, min_epochs=1, max_epochs=1)
        reached = ndcg(model, known, wanted, users)
        console.print(
            f"  seed {seed} epoch {epoch}: validation NDCG@10 {reached:.4f}, {time.monotonic() - begun:.0f} s",
            highlight=False,
        )
        if reached > best:
            best, epochs, state = reached, epoch, deepcopy(model.lightning_model.state_dict())
        elif epoch - epochs >= PATIENCE:
            break
    model.lightning_model.load_state_dict(state)
    return model, epochs, best


def judged(model: Any, histories: Histories, seed: int) -> dict[str, float]:
    """Recall@10 and NDCG@10 on the last purchases with 95% intervals."""
    users, relevant = np.arange(len(histories)), [{history[-1]} for history in histories]
    found = lists(model, [history[:-1] for history in histories], users)
    told = {}
    for name, metric in (("recall", metrics.recall_at_k), ("ndcg", metrics.ndcg_at_k)):
        mean, low, high = metrics.mean_interval(metric(found, relevant, K), seed=seed)
        told |= {f"{name}@{K}": mean, f"{name}@{K}_low": low, f"{name}@{K}_high": high}
    return told


def run_seed(options: argparse.Namespace, histories: Histories, seed: int) -> dict[str, float]:
    """Strict, and refit where it is asked for."""
    begun = time.monotonic()
    model, epochs, best = strict(options, histories, seed)
    told = {"epochs": float(epochs), "validation_ndcg@10": best}
    told |= {f"strict_{name}": value for name, value in judged(model, histories, seed).items()}
    if options.refit:
        model = untrained(options, seed)
        model.fit_partial(dataset([history[:-1] for history in histories]), min_epochs=epochs, max_epochs=epochs)
        told |= {f"refit_{name}": value for name, value in judged(model, histories, seed).items()}
    return told | {"minutes": (time.monotonic() - begun) / 60}


def main() -> None:
    """Run the seeds and print their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with beauty/sequences.txt")
    parser.add_argument("--refit", action="store_true", help="train again on all but the test purchase")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--negatives", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="one seed, 2,000 customers, one epoch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "beauty/sequences.txt").exists():
        sys.exit(f"{options.data}/beauty/sequences.txt is absent: this benchmark needs the Amazon Beauty 5-core set")
    warnings.filterwarnings("ignore")  # Lightning's advice on loaders and loggers
    if os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    histories = [line.split()[1:] for line in (options.data / "beauty/sequences.txt").read_text().splitlines()]
    histories = histories[:2000] if options.quick else histories
    try:
        runs = [run_seed(options, histories, seed) for seed in options.seeds[: 1 if options.quick else None]]
    except ImportError as error:
        sys.exit(f"{error}: install it with make bench, or pip install --no-deps as the Makefile has it")
    means = {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}
    for kind in ("strict", "refit")[: 1 + options.refit]:
        shown = [f"{means[f'{kind}_{name}@{K}']:.4f}" for name in ("recall", "ndcg")]
        print(f"RecTools SASRec, {kind}, {len(runs)} seeds: recall@10 {shown[0]}, NDCG@10 {shown[1]}")
    if options.json:
        print(json.dumps({"width": options.width, "dropout": options.dropout, "mean": means, "seeds": runs}))


if __name__ == "__main__":
    main()
