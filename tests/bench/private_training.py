"""What differential privacy costs the lists of the sample shop.

    python -m tests.bench.private_training [--customers 300] [--seeds 0 1 2] [--epsilons 8 1]

Each seed draws a shop. GPT-2 is trained for one round of 12 epochs without differential privacy and with each epsilon
(`train.dp_epsilon`), alone and in the mixture with counting. NDCG@10 is that of new products that the same customers
bought in the seven days after the training, with the difference to the training without privacy, customer by customer,
and its 95% bootstrap interval. The sample's customers are simulated, so the figures are of that shop and of no other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from jobs.config.train_settings import TrainRecommend
from jobs.sample import write_sample
from lm.checkpoint.manifest import read_manifest, write_manifest
from lm.metrics import metrics
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.train.private_steps import PrivacyBudget
from tests.bench.browsing import K, Shop, buyers, customers_before_cut, lists_of, read_shop, wanted

EPOCHS = 12
console = Console(stderr=True)


def train(shop: Shop, epsilon: float | None, seed: int, model: Path) -> None:
    """Train with `epsilon` into the folder `model`."""
    budget = None if epsilon is None else PrivacyBudget(epsilon=epsilon)
    defaults = TrainRecommend().model_dump(exclude={"processes"})
    settings = RecommendTrainSettings(**defaults | {"max_epochs": EPOCHS}, seed=seed, privacy=budget)
    train_recommend(customers_before_cut(shop), shop.titles, settings, model)


def judge(shop: Shop, model: Path, *, counting: bool) -> NDArray[np.float64]:
    """(customers,) NDCG@10 of the buyers' lists, with what was counted or without it."""
    if not counting:
        alone = {"neighbour_weights": [], "newcomer_weights": []}
        write_manifest(model, read_manifest(model).model_copy(update=alone))
    users = buyers(shop)
    lists, _ = lists_of(shop, users, model, shop.titles)
    values: NDArray[np.float64] = metrics.ndcg_at_k(lists, [wanted(shop, user) for user in users], K)
    return values


def main() -> None:
    """Print a line for each way to train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 1.0])
    options = parser.parse_args()
    epsilons = (None, *options.epsilons)
    ways = [(epsilon, counting) for counting in (False, True) for epsilon in epsilons]
    values: dict[tuple[float | None, bool], list[NDArray[np.float64]]] = {way: [] for way in ways}
    noise: dict[float | None, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for seed in options.seeds:
            folder = Path(name) / str(seed)
            sample = write_sample(folder, customers=options.customers, seed=seed)
            shop = read_shop(folder, sample.last_day, None)
            for epsilon in epsilons:
                begun, model = time.process_time(), folder / f"model-{epsilon}"
                train(shop, epsilon, seed, model)
                noise[epsilon] = read_manifest(model).training.get("privacy", {}).get("noise_multiplier", 0.0)
                seconds = time.process_time() - begun
                for counting in (True, False):
                    values[epsilon, counting].append(judge(shop, model, counting=counting))
                means = [values[epsilon, counting][-1].mean() for counting in (True, False)]
                told = ", ".join(f"{mean:.3f}" for mean in means)
                console.print(f"seed {seed}, epsilon {epsilon}: {told}, trained in {seconds:.0f} processor seconds")
    for epsilon, counting in ways:
        own, plain = np.concatenate(values[epsilon, counting]), np.concatenate(values[None, counting])
        part = "mixture" if counting else "GPT-2 alone"
        line = f"{part}, {'no privacy' if epsilon is None else f'epsilon {epsilon:g}'}: NDCG@10 {own.mean():.3f}"
        if epsilon is not None:
            mean, low, high = metrics.mean_interval(own - plain)
            line += f", difference {mean:+.3f} ({low:+.3f} to {high:+.3f}), noise multiplier {noise[epsilon]:.2f}"
        print(f"{line}; {len(own)} customers")


if __name__ == "__main__":
    main()
