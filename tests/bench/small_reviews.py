"""Labels of shops with few reviews, beside TF-IDF + logistic regression, in minutes, because GPT-2 is left out.

    python -m tests.bench.small_reviews --data ../shared/data [--sets gift_cards sst2] [--rows 300 1000]

The first rows of each file are learned from, and up to 2,000 later ones judge (`tests.bench.reviews.small_shop`).
N-grams, lexicon, calibration and the label rule are fitted by the product's own code and defaults. Beside so few
reviews GPT-2 gets a weight near 0; `python -m tests.bench.reviews --rows N` trains it too. `below` marks a lead whose
95% interval lies below 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lm.metrics import metrics
from lm.redaction.redact import redact
from lm.sentiment.fit_head import fit_head
from lm.sentiment.labels import LABELS
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.sentiment_baselines import tfidf_logistic_regression
from tests.bench.reviews import FILES, small_shop

#: The columns of each file: text, stars or label, category, customer. The product's defaults join 1 to 2 and 4 to 5.
COLUMNS = {
    "zh": ("review", "label", "cat", None),
    "devices": ("reviews.text", "reviews.rating", None, "reviews.username"),
    "gift_cards": ("reviewText", "overall", None, "reviewerID"),
    "sst2": ("sentence", "label", None, None),
    "flipkart": ("Review", "Rating", None, None),
}
MIN_CUSTOMERS = 5  # the default of privacy.min_customers

Labels = NDArray[np.int64]


def read_reviews(data: Path, name: str, rows: int, folder: Path) -> pd.DataFrame:
    """Rated reviews: text, label, category, customer and `known`."""
    file = folder / f"{name}_{rows}.parquet"
    small_shop(data, name, rows, file)
    table = pd.read_parquet(file)
    text, stars, category, customer = COLUMNS[name]
    value = pd.to_numeric(table[stars], errors="coerce")
    is_good, is_bad = (value == 1, value == 0) if stars == "label" else (value >= 4, value <= 2)
    found = pd.DataFrame(
        {
            "text": table[text].str.replace("READ MORE$", "", regex=True),
            "label": np.where(is_bad, 0, np.where(is_good, 2, 1)),
            "category": "" if category is None else table[category],
            "customer": "nobody" if customer is None else table[customer],
            "known": table["known"],
        }
    )
    return found[value.notna() & (found["text"].str.strip() != "")]


def lead(truth: Labels, ours: Labels, theirs: Labels, statistic: Callable[[Labels, Labels], float]) -> str:
    """Our figure less the rival's with the 95% interval of the paired difference."""

    def less(truth: Labels, ours: Labels, theirs: Labels) -> float:
        return statistic(truth, ours) - statistic(truth, theirs)

    low, high = metrics.bootstrap_interval(less, truth, ours, theirs)
    below = " **below**" if high < 0 else ""
    return f"{less(truth, ours, theirs):+.4f} ({low:+.4f} to {high:+.4f}){below}"


def judged(data: Path, name: str, rows: int, folder: Path) -> str:
    """The line of a set in the table."""
    reviews = read_reviews(data, name, rows, folder)
    known, later = reviews[reviews["known"]], reviews[~reviews["known"]]
    rated = Rated.split(known["text"].tolist(), known["label"].to_numpy(np.int64))
    head = fit_head(
        [redact(text) for text in known["text"]],
        rated,
        np.zeros((len(rated.rows("validation")), len(LABELS))),
        categories=known["category"].tolist(),
        writers=known["customer"].tolist(),
        min_customers=MIN_CUSTOMERS,
    )
    texts, truth = [redact(text) for text in later["text"]], later["label"].to_numpy(np.int64)
    ours = head.choose(head.probabilities(np.zeros((len(later), len(LABELS))), texts, later["category"].tolist()))
    learned = rated.rows("known")
    p = tfidf_logistic_regression(
        [known["text"].iloc[i] for i in learned], rated.labels[learned], later["text"].tolist(), len(LABELS)
    )
    theirs = p.argmax(axis=1)

    def macro_f1(truth: Labels, predicted: Labels) -> float:
        return metrics.macro_f1(truth, predicted, len(LABELS))

    cells = [f"{rows:,}", name, f"{len(later):,}"]
    for statistic in (metrics.accuracy, macro_f1):
        cells += [f"{statistic(truth, ours):.4f}, {statistic(truth, theirs):.4f}", lead(truth, ours, theirs, statistic)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, a line as each set is judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with reviews-zh, device-reviews, …")
    parser.add_argument("--sets", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--rows", nargs="+", type=int, default=[300, 1000])
    options = parser.parse_args()
    if not (options.data / "reviews-zh").exists():
        sys.exit(f"{options.data}/reviews-zh is absent: this benchmark needs the review sets")
    print("| reviews known | set | judged | accuracy: model, TF-IDF | lead | macro-F1: model, TF-IDF | lead |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for rows in options.rows:
            for name in options.sets:
                print(judged(options.data, name, rows, Path(temporary)), flush=True)


if __name__ == "__main__":
    main()
