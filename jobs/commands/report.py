"""`regulars report`: writes the report of a date again, with what is known today.

For whoever judges a night in the morning: the page is `<store>/reports/run_date=D/index.html`.
"""

from __future__ import annotations

import webbrowser
from datetime import date

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.config.config import Config
from jobs.report.write import rewrite
from jobs.spark import files
from jobs.spark.errors import UsageError
from jobs.store.dates import known_span
from jobs.store.store import Store


def write_report(
    spark: SparkSession,
    config: Config,
    config_file: str,
    run_date: date | None,
    console: Console,
    *,
    show: bool = False,
) -> str:
    """Write the report of `run_date`, by default of the newest date that ran, print its line and return its path.

    With `show` it is opened in the browser. Raises UsageError for a date or a store without any night.
    """
    store = Store(config.store)
    if run_date is None:
        span = known_span(spark, store)
        if span is None:
            raise UsageError(
                f"no night was ever run in {store.root}: run first {config.command('nightly', '--run-date DATE')}"
            )
        run_date = span[1]
    _, line = rewrite(spark, config, config_file, run_date)
    console.print(line, highlight=False, markup=False)
    page = f"{store.report(run_date)}/index.html"
    if show and not webbrowser.open(files.uri(page)):
        console.print("No browser was found: open the page by its path.", highlight=False)
    return page
