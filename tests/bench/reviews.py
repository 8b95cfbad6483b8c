"""Sentiment of real reviews, by the product's own commands: each set trained and judged with several seeds.

    python -m tests.bench.reviews --data ../shared/data [--sets zh sst2] [--seeds 0 1 2] [--rows N] \\
        [--set KEY=VALUE] [--json FILE]

Trains (`regulars train --task sentiment`) and judges (`regulars evaluate --task sentiment`) as a user would, with the
YAML of each set beside this file and its defaults; nothing is chosen on the judged reviews. TF-IDF + logistic
regression learns from all reviews but those. The lead on it is the model's share of right labels less its own,
review by review; where the model reads the products' categories, a second one is told them as words. `--rows N` is a
small shop: the first N rows of the file are learned from, and 2,000 later rows, drawn by hash, judge. `--sets sample`
writes the sample shop, learns up to 20 days before its end, and says how many of the later reviews whose words
contradict their stars `disagrees` finds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.config.config import Config, load
from jobs.evaluation.sentiment_figures import calibration_cell
from jobs.sample import write_sample
from lm.sentiment.classifier import SentimentClassifier

#: What says up to when reviews are learned from, and what is judged: a tenth of them, or those of the day after.
COMMANDS = {
    "zh": ("2020-01-01", ["--as-of", "2020-01-01"]),
    "devices": ("2018-01-31", ["--as-of", "2018-01-31"]),
    "gift_cards": ("2018-12-31", ["--as-of", "2018-12-31"]),
    "sst2": ("2020-01-01", ["--run-date", "2020-01-01", "--days", "1"]),
    "flipkart": ("2020-01-01", ["--as-of", "2020-01-01"]),
}
DAYS = 20  # of the sample shop that are judged
#: The file of each set under the data folder, for `--rows`.
FILES = {
    "zh": "reviews-zh/online_shopping_10_cats.csv.gz",
    "devices": "device-reviews/1429_1.csv.gz",
    "gift_cards": "gift-cards/reviews.json.gz",
    "sst2": "sst2/train.tsv.gz",
    "flipkart": "flipkart/flipkart_reviews.csv.gz",
}
JUDGED_ROWS = 2000  # of a small shop


def small_shop(data: Path, name: str, rows: int, file: Path) -> None:
    """Write the first `rows` rows of a set as `known`, and JUDGED_ROWS others drawn by hash, all columns as text.

    The Chinese file is sorted by category and label, so its rows are first put into the order of a hash.
    """
    table = read_as_text(data / FILES[name])
    if name == "zh":
        table = table.iloc[pd.util.hash_pandas_object(table).argsort()]
    known, later = table[:rows], table[rows:]
    if name == "sst2":  # the file has phrases; GLUE's sentences judge
        later = read_as_text(data / "sst2/test.tsv.gz")
    later = later.iloc[pd.util.hash_pandas_object(later).argsort()[:JUDGED_ROWS]]
    parts = pd.concat([known.assign(known=True), later.assign(known=False)], ignore_index=True)
    parts.assign(row=parts.index).to_parquet(file)


def read_as_text(file: Path) -> pd.DataFrame:
    """A table with all values as text."""
    if ".json" in file.suffixes:
        table = pd.read_json(file, lines=True, dtype=False)
        return table.astype(str).where(table.notna(), "")
    options: dict[str, Any] = {"sep": "\t", "quoting": 3} if ".tsv" in file.suffixes else {}
    return pd.read_csv(file, dtype=str, keep_default_na=False, **options)


def settings_of_small_shop(name: str, file: Path) -> list[str]:
    """Overrides of the YAML of a set that read the file of `small_shop`: `known` is the first day, others the next.

    The lexicon is that of the defaults, also where the YAML leaves it out.
    """
    first, next_day = COMMANDS["sst2"][0], "2020-01-02"
    of_file = [f"path={file}", "format=parquet", "options={}"]
    tables = ["reviews", "items"] if name in ("zh", "flipkart") else ["reviews"]
    return [
        "train.sentiment.lexicon=true",
        *(f"inputs.{table}.{key}" for table in tables for key in of_file),
        "inputs.reviews.columns.review_id=CAST(row AS STRING)",
        f"inputs.reviews.columns.reviewed_at=IF(known, timestamp'{first}', timestamp'{next_day}')",
    ]


def run_seed(folder: Path, name: str, seed: int, overrides: list[str], rows: int | None = None) -> dict[str, Any]:
    """Train and judge once; the figures of the model and its rivals, and the minutes of training."""
    until, judged = COMMANDS[name if rows is None else "sst2"]
    if rows is not None:
        file = folder / f"{name}_{rows}.parquet"
        small_shop(folder / "data", name, rows, file)
        overrides = [*settings_of_small_shop(name, file), *overrides]
    settings = [f"models.sentiment={folder}/models/{name}{seed}", f"train.seed={seed}", *overrides]
    common = ["--task", "sentiment", "--config", str(folder / f"reviews_{name}.yaml")]
    common += [word for setting in settings for word in ("--set", setting)]
    begun = time.monotonic()
    regulars("train", *common, "--as-of", until)
    minutes = (time.monotonic() - begun) / 60
    figures, picture = folder / "figures.json", folder / "reliability.svg"
    regulars("evaluate", *common, *judged, "--json", str(figures), "--picture", str(picture))
    if "<svg" not in picture.read_text(encoding="utf-8"):
        sys.exit("the reliability picture is no SVG")
    name = name if rows is None else f"{name}, {rows:,} rows"
    return {"set": name, "seed": seed, "minutes": minutes, **json.loads(figures.read_text(encoding="utf-8"))}


def run_sample(folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Precision and recall of `disagrees` on planted contradictions among reviews that are later than the training."""
    shop = folder / f"sample{seed}"
    last = write_sample(shop, seed=seed).run_date  # a few dirty rows are dated later
    until = last - timedelta(days=DAYS)
    settings = [f"train.seed={seed}", *overrides]
    words = [word for setting in settings for word in ("--set", setting)]
    regulars(
        "train", "--task", "sentiment", "--config", str(shop / "regulars.yaml"), "--as-of", until.isoformat(), *words
    )
    config = load(shop / "regulars.yaml", overrides)
    later = later_reviews(shop, until, last, config)
    model = SentimentClassifier.load(config.models.sentiment)
    says = model.judge(later["text"].tolist(), config.sentiment.max_tokens, later["category"].tolist()).of_text
    confidence, label = config.sentiment.disagree_confidence, later["label"]
    against = (label == 0) & (says[:, 2] >= confidence) | (label == 2) & (says[:, 0] >= confidence)
    planted = later["planted"]
    found = int((against & planted).sum())
    counts = {"reviews": len(later), "planted": int(planted.sum()), "disagree": int(against.sum())}
    rates = {"precision": found / max(counts["disagree"], 1), "recall": found / max(counts["planted"], 1)}
    return {"set": "sample", "seed": seed, **counts, **rates}


def later_reviews(shop: Path, until: date, last: date, config: Config) -> pd.DataFrame:
    """Rated reviews of the sample shop after `until`, up to `last`: text, label, category and `planted`.

    The stars of `planted` reviews contradict their words.
    """
    reviews = pd.read_parquet(shop / "data/reviews")
    reviews["rating"] = pd.to_numeric(reviews["rating"], errors="coerce")
    on = pd.to_datetime(reviews["reviewed_at"], errors="coerce").dt.date
    later = reviews[(on > until) & (on <= last) & reviews["rating"].between(1, 5) & reviews["text"].notna()]
    later = later.drop_duplicates("review_id")
    items = pd.read_parquet(shop / "data/items").drop_duplicates("item_id").set_index("item_id")
    stars = config.sentiment
    is_bad, is_good = (later["rating"].isin(of) for of in (stars.negative_stars, stars.positive_stars))
    planted = pd.read_parquet(shop / "truth/contradictions.parquet")["review_id"]
    return pd.DataFrame(
        {
            "text": later["text"],
            "label": np.where(is_bad, 0, np.where(is_good, 2, 1)),
            "category": later["item_id"].map(items["category"]).fillna(""),
            "planted": later["review_id"].isin(planted),
        }
    )


def regulars(*words: str) -> None:
    """Run one of the product's commands; what it prints goes to stderr."""
    subprocess.run([sys.executable, "-c", "from jobs.cli import main; main()", *words], check=True, stdout=sys.stderr)


def row(run: dict[str, Any]) -> str:
    """The lines of a run in the table."""
    if run["set"] == "sample":
        return (
            f"sample seed {run['seed']} | disagrees: precision {run['precision']:.3f}, recall {run['recall']:.3f} "
            f"({run['planted']} contradictions among {run['reviews']:,} later reviews)"
        )

    def cells(found: dict[str, Any]) -> list[str]:
        measured = [
            f"{found[key]:.4f} ({found[f'{key}_low']:.4f}-{found[f'{key}_high']:.4f})"
            for key in ("accuracy", "macro_f1")
        ]
        leads = [
            f"{found[key]:+.4f} ({found[key + '_low']:+.4f} to {found[key + '_high']:+.4f})" if key in found else ""
            for key in ("lead", "lead_macro_f1")
        ]
        return [*measured, calibration_cell(found), *leads]

    lines = [[f"{run['set']} seed {run['seed']}", *cells(run), f"{run['minutes']:.1f}"]]
    lines += [[f"  {name}", *cells(found)] for name, found in run["baselines"].items()]
    return "\n".join(" | ".join(line) for line in lines)


def main() -> None:
    """Run the sets and seeds, printing each as it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with reviews-zh, device-reviews, …")
    parser.add_argument("--sets", nargs="+", choices=[*COMMANDS, "sample"], default=[*COMMANDS, "sample"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAMLs")
    parser.add_argument("--rows", type=int, help="learn from the first rows of each set only")
    parser.add_argument("--json", type=Path, help="also add each run to this file, one JSON object a line")
    options = parser.parse_args()
    if not (options.data / "reviews-zh").exists():
        sys.exit(f"{options.data}/reviews-zh is absent: this benchmark needs the review sets")
    print("set | accuracy (95% interval) | macro-F1 | calibration error | lead in accuracy | in macro-F1 | minutes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").symlink_to(options.data.resolve())
        for name in options.sets:
            if name != "sample":
                shutil.copy(Path(__file__).parent / f"reviews_{name}.yaml", folder)
            for seed in options.seeds:
                run = (
                    run_sample(folder, seed, options.set)
                    if name == "sample"
                    else run_seed(folder, name, seed, options.set, options.rows)
                )
                print(row(run), flush=True)
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(run) + "\n")


if __name__ == "__main__":
    main()
