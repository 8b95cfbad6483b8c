"""What views, carts and wishes, clicks of searches, and categories add to the lists of the sample shop.

    python -m tests.bench.browsing [--customers 2000] [--seeds 0 1 2] [--arms events clicks category planted]

Each seed draws a shop and trains one model with purchases, searches and reviews, and one with each addition (an arm):

* events: the table events, as a night reads it;
* clicks: each `clicked_item_id` of a search is a view;
* category: the title of each product is followed by its category;
* planted: a control, in which half of all purchases follow a view of one to three days before. It shows whether the
  model learns from views that say much.

All are trained on the same days and judged by the new products that the same customers bought in the seven days after
them. NDCG@10 is compared customer by customer, with a 95% bootstrap interval over the customers of all seeds. It also
tells which share of the other events a prompt loses to browsing. The sample's customers are simulated: how often a view
precedes a purchase is a parameter of `jobs/sample/browsing.py`, so the figures are of that shop and of no other.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
from rich.console import Console

from jobs.config.train_settings import TrainRecommend
from jobs.sample import TIMEZONE, write_sample
from lm.metrics import metrics
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.recommend_training.training_examples import BOUGHT, CustomerEvents, newest_events
from lm.text.prompt import Event, PromptEncoder
from lm.text.template import BROWSING

ARMS = ("events", "clicks", "category", "planted")
K, JUDGED_DAYS, BUDGET = 10, 7, 256
console = Console(stderr=True)


@dataclass(frozen=True)
class Shop:
    """Customers' events with their times, the products, and the first instant that no training reads."""

    events: Mapping[str, list[tuple[datetime, Event]]]
    titles: Mapping[str, str]
    categories: Mapping[str, str]
    available: frozenset[str]
    end: datetime


def read_shop(folder: Path, last_day: Any, arm: str | None) -> Shop:
    """Read the sample without its dirty rows; `arm` says what is added."""
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{TIMEZONE}'")

    def rows(table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        query = f"SELECT DISTINCT {columns} FROM '{folder}/data/{table}/*.parquet' WHERE {where}"
        return connection.execute(query).fetchall()

    products = rows("items", "item_id, title, category, available")
    titles = {item: title for item, title, _, _ in products}
    known = "user_id IS NOT NULL AND item_id IS NOT NULL"
    found = [
        (user, at, "bought", item, None, None)
        for user, at, item in rows("purchases", "user_id, purchased_at, item_id", f"{known} AND quantity > 0")
    ]
    found += [
        (user, at, "reviewed", item, text, rating)
        for user, at, item, text, rating in rows(
            "reviews", "user_id, reviewed_at, item_id, text, TRY_CAST(rating AS INTEGER)", known
        )
    ]
    searches = rows("searches", "user_id, searched_at, query, clicked_item_id", "user_id IS NOT NULL")
    found += [(user, at, "searched", None, query, None) for user, at, query, _ in searches]
    if arm == "clicks":
        found += [(user, at, "viewed", item, None, None) for user, at, _, item in searches if item is not None]
    if arm == "planted":
        draw = random.Random(0)
        bought = sorted(row[:4] for row in found if row[2] == "bought")
        ahead = [timedelta(days=draw.uniform(1, 3)) if draw.random() < 0.5 else None for _ in bought]
        found += [
            (user, at - lead, "viewed", item, None, None)
            for (user, at, _, item), lead in zip(bought, ahead, strict=True)
            if lead is not None
        ]
    if arm == "events":
        words = {"view": "viewed", "cart": "in cart", "wish": "wished"}
        seen = rows("events", "user_id, happened_at, kind, item_id", known)
        found += [(user, at, words[kind], item, None, None) for user, at, kind, item in seen]
    end = datetime.combine(last_day + timedelta(days=1), time(), ZoneInfo(TIMEZONE))
    events: dict[str, list[tuple[datetime, Event]]] = {}
    for user, at, kind, item, text, rating in found:
        if at < end and (item is None or item in titles):
            title = None if item is None else titles[item]
            events.setdefault(user, []).append((at, Event(kind, item, title, text, rating)))
    for of_user in events.values():
        of_user.sort(key=lambda one: (one[0], one[1].kind, one[1].item_id or "", one[1].text or ""))
    categories = {item: category or "" for item, _, category, _ in products}
    available = frozenset(item for item, _, _, is_available in products if is_available)
    return Shop(dict(sorted(events.items())), titles, categories, available, end - timedelta(days=JUDGED_DAYS))


def lists_of(shop: Shop, users: Sequence[str], model: Path, titles: Mapping[str, str]) -> tuple[list[list[str]], float]:
    """The lists of `users` as of the shop's cut, and the share of other events that prompts lose to browsing."""
    encoder = PromptEncoder.load(model)
    sold = sorted(shop.available)
    engine = Recommender.load(model, Catalogue.build(sold, [titles[item] for item in sold], encoder), dtype="float32")
    before = [newest_events([event for at, event in shop.events[user] if at < shop.end], 50) for user in users]
    rendered = encoder.render_many(before, BUDGET)
    without = [[event for event in events if event.kind not in BROWSING] for events in before]
    alone = encoder.render_many(without, BUDGET)
    shown = [sum(one.prompt.count(label) for label in encoder.template.browsing) for one in rendered]
    lost = sum(a.events_used - (r.events_used - s) for a, r, s in zip(alone, rendered, shown, strict=True))
    bought = [sorted({str(e.item_id) for e in events if e.kind == BOUGHT}) for events in before]
    ranked = engine.recommend([one.prompt for one in rendered], bought, K)
    return [[one.item_id for one in best] for best in ranked], lost / max(1, sum(map(len, without)))


def judge(shop: Shop, users: Sequence[str], arm: str | None, seed: int, folder: Path) -> tuple[np.ndarray, float]:
    """Train on the events before the cut; (users,) NDCG@10 of what they then bought, and the share of events lost."""
    titles = dict(shop.titles)
    if arm == "category":
        titles = {item: f"{title} {shop.categories[item]}".rstrip() for item, title in titles.items()}
    customers = customers_before_cut(shop)
    settings = RecommendTrainSettings(**TrainRecommend().model_dump(exclude={"processes"}), seed=seed)
    window = {"browsed_events": sum(event.kind in BROWSING for one in customers for event in one.events)}
    model = folder / f"{arm}-{seed}"
    train_recommend(customers, titles, settings, model, window=window)
    lists, lost = lists_of(shop, users, model, titles)
    return metrics.ndcg_at_k(lists, [wanted(shop, user) for user in users], K), lost


def customers_before_cut(shop: Shop) -> list[CustomerEvents]:
    """The events before the cut of each customer who bought."""
    zone = ZoneInfo(TIMEZONE)
    customers = []
    for events in shop.events.values():
        kept = [(at, event) for at, event in events if at < shop.end]
        if any(event.kind == BOUGHT for _, event in kept):
            days = [at.astimezone(zone).toordinal() for at, _ in kept]
            moments = [round(at.timestamp() * 1e6) for at, _ in kept]
            customers.append(CustomerEvents([event for _, event in kept], days, moments))
    return customers


def buyers(shop: Shop) -> list[str]:
    """The customers with purchases before the cut who bought a product after it that can be judged."""
    return [
        user
        for user, events in shop.events.items()
        if any(event.kind == BOUGHT and at < shop.end for at, event in events) and wanted(shop, user)
    ]


def wanted(shop: Shop, user: str) -> set[str]:
    """The products that a customer bought first after the cut, of those that can be sold."""
    bought = [(at, str(event.item_id)) for at, event in shop.events[user] if event.kind == BOUGHT]
    return {item for at, item in bought if at >= shop.end} - {item for at, item in bought if at < shop.end}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train and judge every arm of every seed."""
    values: dict[str | None, list[np.ndarray]] = {arm: [] for arm in (None, *options.arms)}
    lost: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for seed in options.seeds:
            folder = Path(name) / str(seed)
            sample = write_sample(folder, customers=options.customers, seed=seed)
            base = read_shop(folder, sample.last_day, None)
            users = buyers(base)
            for arm in values:
                shop = base if arm is None else read_shop(folder, sample.last_day, arm)
                found, share = judge(shop, users, arm, seed, folder)
                values[arm].append(found)
                if arm is not None:
                    lost[arm] = max(lost.get(arm, 0.0), share)
                console.print(f"seed {seed}, {arm or 'without'}: {found.mean():.4f} of {len(users):,} customers")
    base_values = np.concatenate(values[None])
    report: dict[str, Any] = {"customers": len(base_values), "without": float(base_values.mean())}
    for arm in options.arms:
        own = np.concatenate(values[arm])
        mean, low, high = metrics.mean_interval(own - base_values)
        report[arm] = {"ndcg@10": float(own.mean()), "difference": [mean, low, high], "events_lost": lost[arm]}
    return report


def main() -> None:
    """Print the figures of each arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    report = run(options)
    print(f"NDCG@10 without additions: {report['without']:.4f} ({report['customers']:,} customers)")
    for arm in options.arms:
        mean, low, high = report[arm]["difference"]
        print(
            f"{arm}: {report[arm]['ndcg@10']:.4f}, difference {mean:+.4f} ({low:+.4f} to {high:+.4f}); "
            f"{report[arm]['events_lost']:.1%} of the other events lost"
        )


if __name__ == "__main__":
    main()
