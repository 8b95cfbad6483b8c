"""Lists less the best of counting, on shops where there is much and little to learn, by the product's own commands.

    python -m tests.bench.counting --data ../shared/data [--shops groceries ...] [--seeds 0 1 2] [--quick] [--json]
    python -m tests.bench.counting --drawn                           # the shops of tests/bench/drawn_shops.py

Each shop is trained as of one date (`regulars train`), gets its lists (`regulars nightly`) and is judged by the
purchases of the days after it (`regulars evaluate`). Nothing is chosen on these. The last columns are the model's
NDCG@10 and recall@10 less those of the baseline that is best by NDCG@10, customer by customer, with 95% intervals. The
seed of a drawn shop also draws it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.bench.beauty import regulars
from tests.bench.drawn_shops import DAYS, DRAWN, FIRST, JUDGED, write_drawn
from tests.bench.measure import report

BASELINES = ("co-purchase", "popularity", "buy again")


@dataclass(frozen=True)
class Shop:
    """One data set: its inputs, the date of its lists, and the days that judge them."""

    run_date: str
    days: int
    file: str = ""  # below the folder of the data; empty for a sample shop
    inputs: dict[str, Any] = field(default_factory=dict)
    exclude_purchased: bool = True
    customers: int = 0  # of a sample shop
    drawn: str = ""  # name of a drawn shop
    timezone: str = "UTC"


def csv(path: str, columns: dict[str, str], **options: Any) -> dict[str, Any]:
    """An input table of a CSV file."""
    return {"path": path, "format": "csv", "options": {"header": True, **options}, "columns": columns}


GROCERIES = csv(
    "groceries/Groceries_dataset.csv.gz",
    {
        "user_id": "Member_number",
        "item_id": "itemDescription",
        "title": "itemDescription",
        "purchased_at": "to_timestamp(Date, 'dd-MM-yyyy')",
    },
)
RETAIL = csv(
    "online-retail/online_retail.csv.gz",
    {
        "user_id": "CAST(CAST(CustomerID AS DOUBLE) AS BIGINT)",
        "item_id": "StockCode",
        "purchased_at": "to_timestamp(InvoiceDate)",
        "quantity": "Quantity",
        "unit_price": "UnitPrice",
        "order_id": "InvoiceNo",
        "title": "Description",
    },
) | {"where": "CustomerID IS NOT NULL"}
DEVICES = csv(
    "device-reviews/1429_1.csv.gz",
    {
        "user_id": "`reviews.username`",
        "item_id": "asins",
        "purchased_at": "to_timestamp(`reviews.date`)",
        "title": "name",
    },
    multiLine=True,
    quote='"',
    escape='"',
)
GIFT_CARDS = {
    "path": "gift-cards/reviews.json.gz",
    "format": "json",
    "columns": {
        "user_id": "reviewerID",
        "item_id": "asin",
        "purchased_at": "timestamp_seconds(CAST(unixReviewTime AS BIGINT))",
    },
}
GIFT_CARD_ITEMS = {
    "path": "gift-cards/items.json.gz",
    "format": "json",
    "columns": {"item_id": "asin", "title": "title"},
}
#: From the quickest to the slowest.
SHOPS = {
    "sample of 60": Shop("2026-02-15", 14, customers=60),
    "sample of 300": Shop("2026-02-15", 14, customers=300),
    "gift cards": Shop(
        "2017-08-31", 120, "gift-cards/items.json.gz", {"purchases": GIFT_CARDS, "items": GIFT_CARD_ITEMS}
    ),
    "groceries": Shop("2015-11-30", 30, str(GROCERIES["path"]), {"purchases": GROCERIES}, exclude_purchased=False),
    "sample of 2,000": Shop("2026-02-15", 14, customers=2000),
    "devices": Shop("2017-03-31", 60, str(DEVICES["path"]), {"purchases": DEVICES}, exclude_purchased=False),
    "Online Retail, new": Shop("2011-11-10", 14, str(RETAIL["path"]), {"purchases": RETAIL}, timezone="Europe/London"),
    "Online Retail, all": Shop(
        "2011-11-10", 14, str(RETAIL["path"]), {"purchases": RETAIL}, exclude_purchased=False, timezone="Europe/London"
    ),
}
DRAWN_AT = (FIRST + timedelta(days=DAYS - 1)).date().isoformat()
DRAWN_SHOPS = {name: Shop(DRAWN_AT, JUDGED, drawn=name, exclude_purchased=new) for name, (_, new) in DRAWN.items()}
DRAWN_COLUMNS = {"user_id": "customer", "item_id": "product", "title": "title", "purchased_at": "bought_at"}


def prepare(shop: Shop, data: Path, folder: Path, seed: int) -> None:
    """Write the shop's `regulars.yaml` into `folder`; a sample shop and one that `seed` draws also their tables."""
    if shop.customers:
        regulars("sample", "--out", str(folder), "--customers", str(shop.customers), "--force")
        settings = yaml.safe_load((folder / "regulars.yaml").read_text())
    elif shop.drawn:
        write_drawn(shop.drawn, seed, folder / "purchases.csv")
        settings = {
            "store": "./store",
            "timezone": "UTC",
            "inputs": {"purchases": csv("./purchases.csv", DRAWN_COLUMNS)},
        }
    else:
        inputs = {name: table | {"path": str(data / table["path"])} for name, table in shop.inputs.items()}
        settings = {"store": "./store", "timezone": shop.timezone, "inputs": inputs}
    settings["models"] = {"recommend": "./models/recommend", "sentiment": None}
    settings["recommend"] = {"k": 10, "reasons": "none", "exclude_purchased": shop.exclude_purchased}
    (folder / "regulars.yaml").write_text(yaml.safe_dump(settings))


def judge(shop: Shop, folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Train, list and evaluate once; the figures against the best baseline, the verdict and the minutes of training."""
    settings = [f"train.seed={seed}", *overrides]
    common = ["--config", str(folder / "regulars.yaml"), *(word for one in settings for word in ("--set", one))]
    begun = time.monotonic()
    regulars("train", "--task", "recommend", "--as-of", shop.run_date, *common)
    minutes = (time.monotonic() - begun) / 60
    regulars("nightly", "--run-date", shop.run_date, *common)
    figures = folder / "figures.json"
    regulars("evaluate", "--run-date", shop.run_date, "--days", str(shop.days), "--json", str(figures), *common)
    found = json.loads(figures.read_text())["new_items" if shop.exclude_purchased else "all_items"]
    best = max((name for name in BASELINES if name in found), key=lambda name: found[name]["ndcg@10"]["value"])
    verdict = json.loads((folder / "models/recommend/regulars.json").read_text())["training"]["verdict"]
    shutil.rmtree(folder / "store")
    return {
        "customers": found["customers"],
        "model": found["model"]["ndcg@10"]["value"],
        "best": best,
        "best_ndcg": found[best]["ndcg@10"]["value"],
        "lead_ndcg": found[best]["model_more_ndcg@10"],
        "lead_recall": found[best]["model_more_recall@10"],
        "slices": found["slices"],
        "verdict": verdict,
        "minutes": minutes,
    }


def interval(figure: dict[str, float]) -> str:
    """A difference with its interval."""
    return f"{figure['value']:+.4f} ({figure['low']:+.4f} to {figure['high']:+.4f})"


def main() -> None:
    """Run the shops and seeds and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(), help="folder with the data sets")
    parser.add_argument("--shops", nargs="+", choices=[*SHOPS, *DRAWN_SHOPS])
    parser.add_argument("--drawn", action="store_true", help="all drawn shops")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML")
    parser.add_argument("--quick", action="store_true", help="the sample of 60 with one seed: a minute")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names, seeds = options.shops or list(DRAWN_SHOPS if options.drawn else SHOPS), options.seeds
    if options.quick:
        names, seeds = ["sample of 60"], seeds[:1]
    rows: dict[str, dict[str, str]] = {}
    figures: dict[str, Any] = {}
    for name in names:
        shop = (SHOPS | DRAWN_SHOPS)[name]
        if shop.file and not (options.data / shop.file).exists():
            print(f"{options.data / shop.file} is absent: {name} is left out", file=sys.stderr)
            continue
        for seed in seeds:
            with tempfile.TemporaryDirectory() as temporary:
                prepare(shop, options.data.resolve(), Path(temporary), seed)
                found = judge(shop, Path(temporary), seed, options.set)
            figures[f"{name}, seed {seed}"] = found
            rows[f"{name}, seed {seed}"] = {
                "customers": f"{found['customers']:,}",
                "NDCG@10": f"{found['model']:.4f}",
                "best baseline": f"{found['best']} {found['best_ndcg']:.4f}",
                "lead in NDCG@10": interval(found["lead_ndcg"]),
                "lead in recall@10": interval(found["lead_recall"]),
                "minutes": f"{found['minutes']:.1f}",
            }
            print(json.dumps({f"{name}, seed {seed}": found}), file=sys.stderr)
    report("Lists less the best of counting", rows, figures, options.json)


if __name__ == "__main__":
    main()
