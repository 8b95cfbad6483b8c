"""A worker with ten thousand and with a million products; the mixture fitted on all products and on a sample of them.

    python -m tests.bench.million_products [--customers N] [--products N] [--quick] [--json]

Models of item tokens have random weights (64 dimensions, two layers), 50 co-purchases a product, and title vectors
of 6 words. Each worker is a process of its own, which lists 10 of all products after histories of 20. The fits follow
two trainings of one seed on a sample shop of 10,000 products, which differ in nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import scipy.sparse

from lm.checkpoint.manifest import Manifest, read_manifest, write_manifest
from lm.recommend.catalogue import Catalogue
from lm.recommend.co_purchase import CoPurchaseFeatures
from lm.recommend.cold_items import ColdItems
from lm.recommend.title_features import BUCKETS
from tests.bench.measure import arguments, console, report

FEW = 10_000
NEIGHBOURS, FEATURES, BOUGHT, K = 50, 6, 20, 10
WORDS = ("red", "blue", "small", "large", "steel", "cotton", "lamp", "pen", "ink", "soap", "tea", "cable", "bag", "cup")


def main() -> None:
    options = arguments(__doc__ or "", customers=300, products=1_000_000)
    figures: dict[str, Any] = {"customers": options.customers}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for products in (FEW, options.products):
            path = Path(folder) / str(products)
            save(path, products)
            found = worker(path, options.customers)
            figures[f"{products}"] = found
            rows[f"a worker with {products:,} products"] = {
                "customers/s": f"{found['customers_per_second']:,.0f}",
                "most memory": f"{found['most_bytes'] / 1e9:.2f} GB",
                "of its own": f"{found['own_bytes'] / 1e9:.2f} GB",
            }
        for name, exact in (("all products", True), ("a sample of them", False)):
            found = figures[f"fit on {name}"] = fit(Path(folder), name, exact=exact, quick=options.quick)
            low, high = found["ndcg@10_low"], found["ndcg@10_high"]
            rows[f"mixture fitted on {name}"] = {"NDCG@10": f"{found['ndcg@10']:.4f} ({low:.4f}–{high:.4f})"}
    report(f"Lists of {options.customers:,} customers, and two fits", rows, figures, options.json)


def save(path: Path, products: int) -> None:
    """Write a model with random weights into `path`, and the catalogue of all its products beside it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from lm.text.prompt import PromptEncoder
    from tests.models import train_tokenizer

    begun = time.monotonic()
    tokenizer = train_tokenizer([f"{word}\n" for word in WORDS])
    first = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 128}
    GPT2LMHeadModel(GPT2Config(vocab_size=first + products, **shape)).save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    rng = np.random.default_rng(0)
    columns = rng.integers(0, products, (products, NEIGHBOURS), dtype=np.int32)
    indptr = np.arange(0, products * NEIGHBOURS + 1, NEIGHBOURS, dtype=np.int32)
    cosines = rng.random(products * NEIGHBOURS, dtype=np.float32)
    matrix = scipy.sparse.csr_matrix((cosines, columns.ravel(), indptr), shape=(products, products))
    CoPurchaseFeatures(matrix, popular=rng.random((2, products), dtype=np.float32)).save(path)
    features = rng.integers(0, BUCKETS, products * FEATURES, dtype=np.int32)
    values = np.full(len(features), FEATURES**-0.5, np.float32)
    starts = np.arange(0, len(features) + 1, FEATURES, dtype=np.int32)
    vectors = scipy.sparse.csr_matrix((values, features, starts), shape=(products, BUCKETS))
    ColdItems(vectors, np.ones(BUCKETS, np.float32), np.ones(products, np.bool_)).save(path)
    ids = [f"P{number:07d}" for number in range(products)]
    titles = [f"{WORDS[number % len(WORDS)]} {number}" for number in range(products)]
    coded: dict[str, Any] = {"coding": "item_tokens", "first_item_token": first, "item_ids": ids}
    weights = {"neighbour_weights": [1.0, 0.5, 0.2, 0.1, -1.0, 0.3, 0.1, 0.1], "newcomer_weights": [1.0, -9.0]}
    write_manifest(path, Manifest.model_validate({"task": "recommend", **coded, **weights}))
    Catalogue.build(ids, titles, PromptEncoder.load(path)).save(path / "catalogue")
    console.print(f"[dim]{products:,} products written in {time.monotonic() - begun:.0f} s[/dim]", highlight=False)


def worker(path: Path, customers: int) -> dict[str, float]:
    """Score customers in a new process; its speed and memory."""
    code = f"from tests.bench.million_products import work; work({str(path)!r}, {customers})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(path: str, customers: int) -> None:
    """Print the speed and the memory of this process, which lists products as a worker of a night does."""
    import resource

    from lm.recommend.recommender import Recommender
    from lm.text.template import Event

    engine = Recommender.load(path, Catalogue.load(Path(path) / "catalogue"))
    ids = engine.encoder.manifest.item_ids
    rng = np.random.default_rng(0)
    bought = [[ids[int(code)] for code in rng.integers(0, len(ids), BOUGHT)] for _ in range(customers)]
    events = [[Event("bought", item) for item in history] for history in bought]
    prompts = [rendered.prompt for rendered in engine.encoder.render_many(events, 100)]
    engine.recommend(prompts[:32], bought[:32], K)  # maps the files
    begun = time.perf_counter()
    lists = engine.recommend(prompts, bought, K)
    seconds = time.perf_counter() - begun
    assert all(len(best) == K for best in lists)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    own = psutil.Process().memory_full_info().uss
    print(json.dumps({"customers_per_second": customers / seconds, "most_bytes": most, "own_bytes": own}))


def fit(folder: Path, name: str, *, exact: bool, quick: bool) -> dict[str, Any]:
    """Train on the sample shop with the mixture fitted on all products or on a sample; its held-out figures."""
    from lm.recommend_training.settings import RecommendTrainSettings
    from lm.recommend_training.train_recommender import train_recommend

    customers, items = shop(folder, customers=2_000 if quick else 8_000, products=FEW)
    settings = RecommendTrainSettings(n_embd=32, n_layer=1, max_epochs=1 if quick else 2)
    begun = time.monotonic()
    with patch("lm.recommend_training.fit_hybrid.is_exact", lambda *_: exact):
        found = dict(train_recommend(customers, items, settings, folder / f"fit {exact}"))
    weights = read_manifest(folder / f"fit {exact}").neighbour_weights
    console.print(f"[dim]fit on {name} in {time.monotonic() - begun:.0f} s: {weights}[/dim]", highlight=False)
    return found | {"weights": weights}


def shop(folder: Path, *, customers: int, products: int) -> tuple[list[Any], dict[str, str]]:
    """The purchases of the sample shop as training customers, and its titles."""
    import pandas as pd
    import pyarrow.parquet as pq

    from jobs.sample import write_sample
    from lm.recommend_training.training_examples import CustomerEvents
    from lm.text.template import Event

    if not (folder / "shop").exists():
        write_sample(folder / "shop", customers=customers, products=products, days=200, seed=0)
    table = pq.read_table(folder / "shop/data/items").to_pylist()
    items = {row["item_id"]: row["title"] for row in table}
    rows = pq.read_table(folder / "shop/data/purchases", columns=["user_id", "purchased_at", "item_id"]).to_pandas()
    rows = rows[rows.item_id.isin(list(items)) & rows.user_id.notna() & rows.purchased_at.notna()]
    rows = rows.drop_duplicates().sort_values(["user_id", "purchased_at", "item_id"], kind="stable")
    rows["day"] = (rows.purchased_at - pd.Timestamp(0, tz="UTC")).dt.days
    found = []
    for _, of_customer in rows.groupby("user_id"):
        events = [Event("bought", item, items[item]) for item in of_customer.item_id]
        found.append(CustomerEvents(events, of_customer.day.tolist()))
    return found, items


if __name__ == "__main__":
    main()
