r"""Amazon Beauty, leave-one-out, by the product's own commands: recall and NDCG beside the published table.

    python -m tests.bench.beauty --data ../shared/data [--refit] [--cold 605] [--without-titles] [--seeds 0 1 2] \
        [--quick] [--json]

Trains and judges as a user would (`regulars train --protocol leave-one-out`, `regulars evaluate --protocol
leave-one-out`) with tests/bench/beauty.yaml; nothing is chosen on the test purchases. The set's purchases of one day
stand in the order of their ids, which leaks a little into this figure and every published one.

`--cold 605` (a twentieth of the items) leaves so many items, drawn at random, out of every history: they are bought
last or never, so nobody has bought them as far as the training knows. Recall on those who bought one then is that of
products without a past; what they take from the others is told by a second judgement without them in the catalogue.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CONFIG = Path(__file__).with_suffix(".yaml")
FIRST_DAY = datetime(2014, 1, 1, 12, tzinfo=UTC)
#: (recall@10, NDCG@10) of the papers; README.md beside this file names their sources.
PUBLISHED = {
    "SASRec, binary loss": (0.0605, 0.0318),
    "TIGER": (0.0648, 0.0384),
    "HSTU": (0.0704, 0.0389),
    "ActionPiece": (0.0775, 0.0424),
    "SASRec, sampled softmax": (0.0921, 0.0531),
    "eSASRec": (0.0928, 0.0523),
}
KEYS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def prepare(data: Path, folder: Path, customers: int | None, cold: int = 0, *, titled: bool = True) -> None:
    """Write the set as tables, a purchase a day in the order of the sequence; `cold` items are bought last or never.

    Without `titled` an item's title is its id.
    """
    with (data / "beauty/titles.csv").open(encoding="utf-8") as file:
        rows_of_items = list(csv.DictReader(file))
    titles = {row["item_id"]: (row["title"] or "Untitled") if titled else row["item_id"] for row in rows_of_items}
    left_out = set(random.Random(0).sample(sorted(titles), cold))
    rows: dict[str, list[Any]] = {"user_id": [], "item_id": [], "purchased_at": []}
    for number, line in enumerate((data / "beauty/sequences.txt").read_text().splitlines()):
        if customers is not None and number >= customers:
            break
        user, *items, last = line.split()
        items = [*(item for item in items if item not in left_out), last]
        rows["user_id"] += [user] * len(items)
        rows["item_id"] += items
        rows["purchased_at"] += [FIRST_DAY + timedelta(days=day) for day in range(len(items))]
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.table(rows), folder / "data/purchases")
    table = {"item_id": list(titles), "title": list(titles.values()), "cold": [item in left_out for item in titles]}
    pq.write_table(pa.table(table), folder / "data/items")
    shutil.copy(CONFIG, folder / "regulars.yaml")


def run_seed(folder: Path, seed: int, *, refit: bool, cold: bool, overrides: list[str]) -> dict[str, float]:
    """Train and judge once; the figures and the minutes of training, with `cold` those of the items without a past."""
    model, figures = folder / f"models/seed{seed}", folder / f"seed{seed}.json"
    settings = [f"models.recommend={model}", f"train.seed={seed}", *overrides]
    common = ["--protocol", "leave-one-out", "--config", str(folder / "regulars.yaml")]
    common += [word for setting in settings for word in ("--set", setting)]
    begun = time.monotonic()
    regulars("train", "--task", "recommend", *common, *(["--refit"] if refit else []))
    minutes = (time.monotonic() - begun) / 60
    regulars("evaluate", *common, "--json", str(figures))
    found = json.loads(figures.read_text())
    told = {key: found[key] for name in KEYS for key in (name, f"{name}_low", f"{name}_high")} | {"minutes": minutes}
    if refit:  # what it listed for the same customers before it was trained on the validation purchases too
        before = json.loads((model / "regulars.json").read_text())["metrics"]
        told |= {f"strict_{key}": before[key] for name in ("recall@10", "ndcg@10") for key in (name, f"{name}_low")}
    if cold:
        columns = {"item_id": "item_id", "title": "title", "available": "NOT cold"}
        without = [w for name, of in columns.items() for w in ("--set", f"inputs.items.columns.{name}={of}")]
        regulars("evaluate", *common, "--json", str(figures), *without)
        told |= cold_figures(found["new_items"], json.loads(figures.read_text())["new_items"])
    return told


def cold_figures(listed: dict[str, Any], without: dict[str, Any]) -> dict[str, float]:
    """Recall on cold items, and on the others with and without the cold ones in the catalogue."""

    def warm(found: dict[str, Any]) -> float:
        cold = found["slices"]["cold items"]
        hits = found["customers"] * found["model"]["recall@10"]["value"] - cold["customers"] * cold["recall@10"]
        return float(hits / (found["customers"] - cold["customers"]))

    names = ("recall@10", "recall@10_low", "recall@10_high", "customers")
    told = {f"cold_{name}": float(listed["slices"]["cold items"][name]) for name in names}
    return told | {"warm_recall@10": warm(listed), "warm_recall@10_without_cold": warm(without)}


def regulars(*words: str) -> None:
    """Run one of the product's commands; what it prints goes to stderr."""
    subprocess.run([sys.executable, "-c", "from jobs.cli import main; main()", *words], check=True, stdout=sys.stderr)


def main() -> None:
    """Run the seeds and print their means beside the published figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with beauty/sequences.txt and titles.csv")
    parser.add_argument("--refit", action="store_true", help="train again on all but the test purchase")
    parser.add_argument("--cold", type=int, default=0, help="items that nobody has bought before")
    parser.add_argument("--without-titles", action="store_true", help="the title of an item is its id")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML")
    parser.add_argument("--quick", action="store_true", help="one seed, 2,000 customers, two epochs: minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "beauty/sequences.txt").exists():
        sys.exit(f"{options.data}/beauty/sequences.txt is absent: this benchmark needs the Amazon Beauty 5-core set")
    overrides = [*options.set, *(["train.recommend.max_epochs=2"] if options.quick else [])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        customers = 2000 if options.quick else None
        prepare(options.data, folder, customers, options.cold, titled=not options.without_titles)
        seeds = options.seeds[:1] if options.quick else options.seeds
        kind = {"refit": options.refit, "cold": options.cold > 0}
        runs = [run_seed(folder, seed, **kind, overrides=overrides) for seed in seeds]
    means = {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}
    print(f"{'':28} {'recall@10':>9} {'NDCG@10':>9}")
    for name, (recall, ndcg) in PUBLISHED.items():
        print(f"{name:28} {recall:9.4f} {ndcg:9.4f}")
    name = f"Regulars, {'refit' if options.refit else 'strict'}, {len(runs)} seeds"
    print(f"{name:28} {means['recall@10']:9.4f} {means['ndcg@10']:9.4f}   {means['minutes']:.1f} minutes of training")
    if options.refit:
        print(f"{'the same before the refit':28} {means['strict_recall@10']:9.4f} {means['strict_ndcg@10']:9.4f}")
    if options.cold:
        print(
            f"recall@10 of items without a past {means['cold_recall@10']:.4f}; of the others, with and without those "
            f"in the catalogue, {means['warm_recall@10']:.4f} and {means['warm_recall@10_without_cold']:.4f}"
        )
    if options.json:
        print(json.dumps({"refit": options.refit, "mean": means, "seeds": runs}))


if __name__ == "__main__":
    main()
