"""A night of the sample shop with GPT-2 124M in titles: the seconds of its stages, and prompts a second.

    python -m tests.bench.title_night [--customers 2000] [--data FOLDER] [--quick] [--json]

The weights are random, the prompts are the product's own, and lists are the only task. A night of a tiny shop runs
before it, so that it pays for no start and no compiling.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.config.config import load
from jobs.nightly import run_night
from jobs.sample import write_sample
from jobs.spark.session import create_session
from jobs.tables.runs import Night
from tests import models
from tests.bench import material
from tests.bench.measure import arguments, console, report

SETTINGS = ("gate.min_dates=1000", "models.sentiment=null", "models.answers=null", "report.write=false")


def night(spark: SparkSession, folder: Path, customers: int, data: Path | None = None, *, tiny: bool = False) -> Night:
    """Write a shop and a model, and run one night."""
    info = write_sample(folder, customers=customers)
    path = folder / "models/recommend"
    if tiny:
        models.save_causal(path)
    else:
        material.save_causal(path, data)
    return run_night(spark, load(str(info.config), SETTINGS), info.run_date, console, str(info.config))


def main() -> None:
    options = arguments(__doc__ or "", customers=2_000)
    spark = create_session("bench", timezone="Europe/London")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        night(spark, folder / "warm-up", 50, tiny=True)
        started = time.perf_counter()
        done = night(spark, folder / "shop", options.customers, options.data)
        seconds = time.perf_counter() - started
    spark.stop()
    model, lists = done.seconds["recommend.model"], done.scored["recommend"]
    figures = {
        "prompts": float(lists),
        "tokens of a prompt": done.tokens["recommend"] / lists,
        "night, seconds": seconds,
        "model, seconds": model,
        "prompts a second of the model": lists / model,
    }
    rows = {name: {"": f"{value:,.2f}"} for name, value in figures.items()}
    report(f"A night of {options.customers:,} customers, GPT-2 124M in titles", rows, figures, options.json)


if __name__ == "__main__":
    main()
