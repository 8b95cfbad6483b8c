"""Labels of shops with few reviews, beside TF-IDF + logistic regression, in minutes, because GPT-2 is left out.

    python -m tests.bench.small_reviews --data ../shared/data [--sets gift_cards sst2] [--rows 300 1000]
    python -m tests.bench.small_reviews --data ../shared/data --drawn

The first rows of each file are learned from, and up to 2,000 later ones judge (`tests.bench.reviews.small_shop`).
`--drawn` draws shops at random instead, which the order of a file does not: of one Chinese category each, and of device
reviews with 97% positive ones. Its figures pool the reviews that judge all shops of a kind, up to 2,000 a shop.
N-grams, lexicon, calibration and the label rule are fitted by the product's own code and defaults. Beside so few
reviews GPT-2 gets a weight near 0; `python -m tests.bench.reviews --rows N` trains it too. `below` marks a lead whose
95% interval lies below 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
from tests.bench.reviews import FILES, JUDGED_ROWS, read_as_text, small_shop

#: The columns of each file: text, stars or label, category, customer. The product's defaults join 1 to 2 and 4 to 5.
COLUMNS = {
    "zh": ("review", "label", "cat", None),
    "devices": ("reviews.text", "reviews.rating", None, "reviews.username"),
    "gift_cards": ("reviewText", "overall", None, "reviewerID"),
    "sst2": ("sentence", "label", None, None),
    "flipkart": ("Review", "Rating", None, None),
}
MIN_CUSTOMERS = 5  # the default of privacy.min_customers
LEAST_OF_A_CATEGORY = 1000  # reviews

Labels = NDArray[np.int64]


def read_reviews(data: Path, name: str, rows: int, folder: Path) -> pd.DataFrame:
    """Rated reviews: text, label, category, customer and `known`."""
    file = folder / f"{name}_{rows}.parquet"
    small_shop(data, name, rows, file)
    table = pd.read_parquet(file)
    return labelled(table, name).assign(known=table["known"])


def labelled(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rated reviews of a set's table: text, label, category and customer."""
    text, stars, category, customer = COLUMNS[name]
    value = pd.to_numeric(table[stars], errors="coerce")
    is_good, is_bad = (value == 1, value == 0) if stars == "label" else (value >= 4, value <= 2)
    found = pd.DataFrame(
        {
            "text": table[text].str.replace("READ MORE$", "", regex=True),
            "label": np.where(is_bad, 0, np.where(is_good, 2, 1)),
            "category": "" if category is None else table[category],
            "customer": "nobody" if customer is None else table[customer],
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


def drawn_shops(data: Path) -> Iterator[tuple[str, int, list[pd.DataFrame]]]:
    """Yield the name, the known rows and the shops of each kind, as `read_reviews`; only books have long reviews."""
    chinese = read_as_text(data / FILES["zh"])
    reviews = labelled(chinese, "zh")
    books = reviews[reviews["category"] == "书籍"]
    yield "zh books", 300, [draw(books, 300, seed) for seed in range(4)]
    yield "zh books", 600, [draw(books, 600, seed) for seed in range(2)]
    others = [of for _, of in reviews.groupby("category", sort=False) if len(of) >= LEAST_OF_A_CATEGORY]
    yield "zh, each other category", 300, [draw(of, 300, 0) for of in others if of["category"].iloc[0] != "书籍"]
    devices = labelled(read_as_text(data / FILES["devices"]), "devices")
    yield "devices, 97% positive", 300, [draw(devices, 300, seed, 0.97) for seed in range(4)]


def draw(reviews: pd.DataFrame, rows: int, seed: int, positive: float | None = None) -> pd.DataFrame:
    """Draw a shop of `rows` known reviews and up to JUDGED_ROWS others, with a share of `positive` ones if given."""
    found = reviews.sample(frac=1, random_state=seed)
    if positive is not None:
        is_positive = found["label"] == 2
        others = found[~is_positive][: int(is_positive.sum() * (1 - positive) / positive)]
        found = pd.concat([found[is_positive], others]).sample(frac=1, random_state=seed)
    found = found[: rows + JUDGED_ROWS]
    return found.assign(known=np.arange(len(found)) < rows)


def predicted(reviews: pd.DataFrame) -> tuple[Labels, Labels, Labels]:
    """The true label of each review that is not `known`, the model's and TF-IDF's."""
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
    texts = [redact(text) for text in later["text"]]
    ours = head.choose(head.probabilities(np.zeros((len(later), len(LABELS))), texts, later["category"].tolist()))
    learned = rated.rows("known")
    p = tfidf_logistic_regression(
        [known["text"].iloc[i] for i in learned], rated.labels[learned], later["text"].tolist(), len(LABELS)
    )
    return later["label"].to_numpy(np.int64), ours, p.argmax(axis=1)


def line(name: str, rows: int, shops: Sequence[pd.DataFrame]) -> str:
    """The line of a set in the table; several shops are pooled, and their number is stated."""
    truth, ours, theirs = (np.concatenate(of) for of in zip(*map(predicted, shops), strict=True))

    def macro_f1(truth: Labels, predicted: Labels) -> float:
        return metrics.macro_f1(truth, predicted, len(LABELS))

    name = name if len(shops) == 1 else f"{name}, {len(shops)} shops"
    cells = [f"{rows:,}", name, f"{len(truth):,}"]
    for statistic in (metrics.accuracy, macro_f1):
        cells += [f"{statistic(truth, ours):.4f}, {statistic(truth, theirs):.4f}", lead(truth, ours, theirs, statistic)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, a line as each set is judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with reviews-zh, device-reviews, …")
    parser.add_argument("--sets", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--rows", nargs="+", type=int, default=[300, 1000])
    parser.add_argument("--drawn", action="store_true", help="shops drawn at random instead")
    options = parser.parse_args()
    if not (options.data / "reviews-zh").exists():
        sys.exit(f"{options.data}/reviews-zh is absent: this benchmark needs the review sets")
    print("| reviews known | set | judged | accuracy: model, TF-IDF | lead | macro-F1: model, TF-IDF | lead |")
    print("|---|---|---|---|---|---|---|")
    if options.drawn:
        for name, rows, shops in drawn_shops(options.data):
            print(line(name, rows, shops), flush=True)
        return
    with tempfile.TemporaryDirectory() as temporary:
        for rows in options.rows:
            for name in options.sets:
                print(line(name, rows, [read_reviews(options.data, name, rows, Path(temporary))]), flush=True)


if __name__ == "__main__":
    main()
