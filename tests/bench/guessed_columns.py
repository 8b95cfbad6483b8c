"""Which contract columns of real exports `regulars init` maps right, which wrong, and which wrong ones it asks about.

    python -m tests.bench.guessed_columns --data FOLDER [--json]

The right source columns are written down here by hand. A column counts as right with or without a question; a wrong
one without a question is a defect. `tests/jobs/commands/test_init.py` does the same for eight made layouts.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jobs.profiling.guessing import guess_tables
from jobs.profiling.source_files import read_files
from tests.bench.measure import arguments, console, report

#: Files of each set, and by table and contract column the right source columns; several where each is right.
SETS: dict[str, tuple[list[str], dict[str, dict[str, str]]]] = {
    "online-retail": (
        ["online_retail.csv.gz"],
        {
            "purchases": {
                "user_id": "CustomerID",
                "item_id": "StockCode",
                "purchased_at": "InvoiceDate",
                "quantity": "Quantity",
                "unit_price": "UnitPrice",
                "order_id": "InvoiceNo",
                "title": "Description",
            }
        },
    ),
    "groceries": (
        ["Groceries_dataset.csv.gz"],
        {
            "purchases": {
                "user_id": "Member_number",
                "item_id": "itemDescription",
                "purchased_at": "Date",
                "title": "itemDescription",
            }
        },
    ),
    "gift-cards": (
        ["reviews.json.gz", "items.json.gz"],
        {
            "reviews": {
                "user_id": "reviewerID",
                "item_id": "asin",
                "rating": "overall",
                "text": "reviewText",
                "reviewed_at": "unixReviewTime|reviewTime",
            },
            "items": {"item_id": "asin", "title": "title", "price": "price"},
        },
    ),
    "device-reviews": (
        ["1429_1.csv.gz"],
        {
            "reviews": {
                "user_id": "reviews.username",
                "item_id": "asins|id",
                "rating": "reviews.rating",
                "text": "reviews.text",
                "reviewed_at": "reviews.date",
            }
        },
    ),
    "flipkart": (
        ["flipkart_reviews.csv.gz"],
        {"reviews": {"item_id": "Product_name", "rating": "Rating", "text": "Review"}},
    ),
    "reviews-zh": (
        ["online_shopping_10_cats.csv.gz"],
        {"reviews": {"item_id": "cat", "rating": "label", "text": "review"}},
    ),
    "sst2": (["dev.tsv.gz"], {"reviews": {"rating": "label", "text": "sentence"}}),
    "beauty": (["titles.csv"], {"items": {"item_id": "item_id|asin", "title": "title"}}),
    "search-bestbuy": (
        ["clicks.csv"],
        {"searches": {"user_id": "user", "query": "query", "searched_at": "query_time", "clicked_item_id": "sku"}},
    ),
}


def main() -> None:
    options = arguments(__doc__ or "")
    if options.data is None:
        sys.exit("--data names the folder of the real data sets")
    rows, totals = {}, {"columns": 0, "right": 0, "wrong_without_question": 0}
    for name, (files, expected) in SETS.items():
        paths = [options.data / name / file for file in files]
        if not all(path.exists() for path in paths):
            console.print(f"[yellow]{options.data / name} is absent: left out[/yellow]")
            continue
        right, silent = judged(paths, expected)
        columns = sum(map(len, expected.values()))
        totals["columns"] += columns
        totals["right"] += right
        totals["wrong_without_question"] += len(silent)
        rows[name] = {"columns": str(columns), "right": str(right), "wrong without a question": ", ".join(silent)}
    report("columns that `regulars init` maps", rows, totals, options.json)


def judged(paths: list[Path], expected: dict[str, dict[str, str]]) -> tuple[int, list[str]]:
    """Return how many columns are right, and the wrong ones that carry no question."""
    with tempfile.TemporaryDirectory() as folder:
        tables, _ = guess_tables(read_files(paths, Path(folder)))
    right, silent = 0, []
    for table in tables:
        for guess in table.columns:
            accepted = expected.get(table.table, {}).get(guess.column, "").split("|")
            if guess.source in accepted:
                right += 1
            elif guess.source is not None and not guess.question:
                silent.append(f"{table.table}.{guess.column}")
    return right, silent


if __name__ == "__main__":
    main()
