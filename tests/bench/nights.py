"""What a night costs when little changed, when it is resumed, and what publishing takes of it.

    python -m tests.bench.nights [--customers 20000] [--layers 12] [--width 768] [--tokens 48] [--quick] [--json]

Nights of one sample shop, one after another, with random weights in the shape of GPT-2 124M by default: the first;
the next date without any new event; the one after it, for which 5% of the customers bought something. Then, in a
second store, the first night killed when half of its model's time is spent, and gone on with. A night of a tiny shop
runs before them all, so that none pays for starting and compiling. Prompts have `--tokens` tokens at most: fewer than a
night's own default make the model's share of a night smaller, and the bench bearable.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.config.config import Config, load
from jobs.nightly import run_night
from jobs.sample import write_sample
from jobs.scoring import waves
from jobs.scoring.models import Model
from jobs.spark import fault_points
from jobs.spark.session import create_session
from jobs.tables.runs import Night
from jobs.tasks import recommend
from tests import ROOT
from tests.bench.measure import arguments, console, report
from tests.models import save_causal, save_classifier

CHANGED = 0.05
PRODUCTS, DAYS = 400, 30
#: Waves that a night is cut into, so that there is a half to be killed at.
WAVES = 16
QUICK_JVM = {
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": "4",
}

KILLED = """
import sys
from datetime import date
from jobs.scoring import waves
from tests.bench.nights import load, run_night, session, console
waves.FIRST_WAVE, waves._GROWTH = int(sys.argv[3]), 1
config = load(sys.argv[1], sys.argv[5:])
run_night(session(quick=sys.argv[4] == "True"), config, date.fromisoformat(sys.argv[2]), console, sys.argv[1])
"""


@dataclass(frozen=True)
class Timed:
    """One night: its wall-clock seconds, those of the model alone, and what it did."""

    seconds: float
    model: float
    night: Night


class Shop:
    """A sample shop, its models of random weights and the settings of its nights."""

    def __init__(self, folder: Path, customers: int, shape: dict[str, int], tokens: int, *, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        # No answers: their model is not made here, whatever the size of the shop.
        self.settings = ("gate.min_dates=1000", f"recommend.prompt_tokens={tokens}", "models.answers=null")
        info = write_sample(folder, customers=customers, products=PRODUCTS, days=DAYS)
        self.config_file, self.first = str(info.config), info.run_date
        ids = sorted(pd.read_parquet(folder / "data/items").item_id.unique())
        save_causal(folder / "models/recommend", item_ids=ids, n_positions=512, **shape)
        save_classifier(folder / "models/sentiment", n_positions=512, **shape)

    def config(self, *overrides: str) -> Config:
        """The shop's configuration; the gate is for shops that live longer than this."""
        return load(self.config_file, [*self.settings, *overrides])

    def buy(self, day: date, share: float) -> int:
        """On `day` a share of the customers buys one product each; returns how many."""
        purchases = self.folder / "data/purchases"
        rows = pq.read_table(purchases)
        past = rows.to_pandas().dropna(subset=["user_id", "item_id"]).drop_duplicates("user_id")
        some = past.sort_values("user_id").head(round(len(past) * share))
        at = pd.Timestamp(day, tz="Europe/London") + pd.Timedelta(hours=12)
        bought = some.assign(purchased_at=at, order_id=[f"bench-{n}" for n in range(len(some))], quantity=1)
        bought["purchased_at"] = bought.purchased_at.astype(past.purchased_at.dtype)
        table = pa.Table.from_pandas(bought, schema=rows.schema, preserve_index=False)  # prices as the shop has them
        pq.write_table(table, purchases / "bench.parquet")
        return len(some)


def session(*, quick: bool) -> SparkSession:
    """The product's own session; a quick run has no time to compile well."""
    return create_session("bench", timezone="Europe/London", conf=QUICK_JVM if quick else {})


def night(spark: SparkSession, shop: Shop, day: date, *overrides: str) -> Timed:
    """Run one night and time it."""
    started = time.perf_counter()
    done = run_night(spark, shop.config(*overrides), day, console, shop.config_file)
    seconds = time.perf_counter() - started
    model = sum(value for name, value in done.seconds.items() if name.endswith(".model"))
    console.print(f"[dim]{day} {' '.join(overrides)}: {seconds:.1f} s, model {model:.1f} s[/dim]", highlight=False)
    return Timed(seconds, model, done)


def counting(spark: SparkSession) -> tuple[Any, Callable[[], None]]:
    """Count the prompts that reach the recommender inside the UDF; call the second to stop."""
    rows = spark.sparkContext.accumulator(0)
    plain = recommend.recommender_loader

    class Counting:
        def __init__(self, model: Any) -> None:
            self.model = model

        def __getattr__(self, name: str) -> Any:
            return getattr(self.model, name)

        def recommend(self, prompts: Sequence[str], *arguments: Any) -> Any:
            rows.add(len(prompts))
            return self.model.recommend(prompts, *arguments)

    def loader(model: Model, folder: str, *settings: Any) -> Callable[[], Any]:
        load_model = plain(model, folder, *settings)
        return lambda: Counting(load_model())

    recommend.recommender_loader = loader

    def stop() -> None:
        recommend.recommender_loader = plain

    return rows, stop


def kept(store: Path) -> int:
    """Requests that the ledger of lists has answered."""
    return sum(pq.read_metadata(part).num_rows for part in (store / "ledger/recommend").glob("*/*.parquet"))


def kill_at_half(shop: Shop, day: date, store: Path, requests: int, half: float, *overrides: str) -> float:
    """Kill a night where the share `half` of its lists should be kept, and again until it is; returns what is kept.

    Reviews come after the lists, so half of a night's model time is over when more than half of its lists are there.
    """
    root, nth = str(ROOT), round(WAVES * half)
    waves.FIRST_WAVE, waves._GROWTH = -(-requests // WAVES), 1  # waves of one size, however slow they are
    settings = [shop.config_file, str(day), str(waves.FIRST_WAVE), str(shop.quick), *shop.settings, *overrides]
    while kept(store) < (half - 0.05) * requests:
        environment = os.environ | {fault_points.VARIABLE: f"wave-committed:{nth}", "PYTHONPATH": root}
        command = [sys.executable, "-c", KILLED, *settings]
        died = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        if died.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the night was to be killed, it ended with {died.returncode}")
        console.print(f"[dim]killed with {kept(store):,} of {requests:,} requests kept[/dim]", highlight=False)
        nth = 1
    return kept(store) / requests


def measure(
    spark: SparkSession, folder: Path, customers: int, shape: dict[str, int], tokens: int, *, quick: bool
) -> dict[str, float]:
    """Run all nights and return the figures as ratios, and the first night's seconds."""
    warm_up = Shop(folder / "warm-up", 50, {"n_embd": 32, "n_layer": 1, "n_head": 2}, tokens, quick=quick)
    night(spark, warm_up, warm_up.first)
    shop = Shop(folder / "shop", customers, shape, tokens, quick=quick)
    rows, stop = counting(spark)
    first = night(spark, shop, shop.first)
    stop()
    distinct = first.night.scored["recommend"]
    figures = {
        "first night, seconds": first.seconds,
        "first night, model seconds": first.model,
        "tokens a second of the model": sum(first.night.tokens.values()) / first.model,
        "rows through the UDF / distinct requests": rows.value / distinct,
        "publishing's share of the first night": first.night.seconds["publishing"] / first.seconds,
    }
    bought = shop.buy(shop.first + timedelta(days=2), CHANGED)
    for days, name in ((1, "0% changed"), (2, f"{bought / customers:.0%} changed")):
        again = night(spark, shop, shop.first + timedelta(days=days))
        figures[f"{name}: requests scored"] = again.night.scored["recommend"]
        figures[f"{name}: model time / first night's"] = again.model / first.model
        figures[f"{name}: whole time / first night's"] = again.seconds / first.seconds
    store = folder / "killed"
    overrides = (f"store={store}", "ledger.wave_minutes=60")
    half = min(0.5 * first.model / first.night.seconds["recommend.model"], 0.95)
    figures["killed: share of lists kept"] = kill_at_half(shop, shop.first, store, distinct, half, *overrides)
    resumed = night(spark, shop, shop.first, *overrides)
    figures["killed and resumed: whole time / first night's"] = resumed.seconds / first.seconds
    return figures


def main() -> None:
    options = arguments(__doc__ or "", customers=20_000, layers=12, width=768, tokens=48)
    if options.quick:
        options.layers, options.width = max(2, options.layers), max(64, options.width)
        options.tokens = max(32, options.tokens)
    shape = {"n_embd": options.width, "n_layer": options.layers, "n_head": max(2, options.width // 64)}
    spark = session(quick=options.quick)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(spark, Path(folder), options.customers, shape, options.tokens, quick=options.quick)
    spark.stop()
    rows = {name: {"": f"{value:,.3f}"} for name, value in figures.items()}
    report(
        f"Nights of {options.customers:,} customers, prompts of {options.tokens} tokens, GPT-2 {shape}",
        rows,
        figures | shape,
        options.json,
    )


if __name__ == "__main__":
    main()
