"""The part of `regulars doctor` that reads rows: the first N rows of each input, mapped by Spark as a night maps them.

It shows every rule that the rows break, with counts, shapes of values, and the line of regulars.yaml that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from jobs.commands.options import announced_session, load_config
from jobs.config.input_settings import InputSettings, SourceSettings
from jobs.config.run_date import glob_of_dates
from jobs.config.settings import Config
from jobs.sources.paths import local_matches
from jobs.spark.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.inputs.row_checks import RowFinding

_Source = TypeVar("_Source", bound=SourceSettings)


def check_rows_of(config_file: Path, overrides: Sequence[str], rows: int, console: Console) -> bool:
    """Check `rows` rows of each input of the configuration; return whether a night can read all of them.

    Reads nothing, and returns True, if `rows` is 0, or if the configuration is not usable or an input has no file:
    the other checks say so. Starts Spark.
    """
    try:
        config = load_config(config_file, list(overrides))
    except UserError:
        return True
    if not rows or not config.inputs or not all(map(_has_files, config.inputs.values())):
        return True
    return check_rows(announced_session("doctor", config, reads_few_rows=True), config, rows, console)


def check_rows(spark: SparkSession, config: Config, rows: int, console: Console) -> bool:
    """Print what is wrong with the first `rows` rows of each input.

    Returns whether each input can be read and has a valid row: some rejected rows do not stop a night. A path with
    {run_date} is read for every date; conditions and queries are those of today.
    """
    from jobs.sources.queries import named_sources

    sources = {table: _for_any_date(source) for table, source in config.inputs.items()}
    named = {name: _for_any_date(source) for name, source in config.sources.items()}
    try:
        with named_sources(spark, named, sources):
            return _check_sources(spark, sources, rows, console)
    except UserError as error:
        _print(console, f"✗ {error}")
        return False


def _check_sources(spark: SparkSession, sources: Mapping[str, InputSettings], rows: int, console: Console) -> bool:
    from jobs.inputs.row_checks import sample_input, unknown_ids

    samples = []
    readable = True
    for table, source in sources.items():
        try:
            sample = sample_input(spark, table, source, rows, table == "purchases" and "items" not in sources)
        except UserError as error:
            readable = False
            _print(console, f"✗ {error}")
            continue
        samples.append(sample)
        # A table without rows is no fault, unless a night needs it.
        is_needed = table in ("purchases", "items") or (table == "optouts" and not source.allow_empty)
        is_usable = sample.rejected < sample.rows or (not sample.rows and not is_needed)
        readable = readable and is_usable
        mark = "✗" if not is_usable else "!" if sample.rejected else "✓"
        _print(console, f"{mark} inputs.{table}: {sample.rejected:,} of the first {sample.rows:,} rows are rejected")
        for finding in sample.findings:
            _show(finding, console)
    if len(samples) == len(sources):
        for finding in unknown_ids(spark, samples, sources):
            _show(finding, console)
        _show_fees(spark, sources, console)
    return readable


def _show_fees(spark: SparkSession, sources: Mapping[str, InputSettings], console: Console) -> None:
    """Warn about products that look like fees, with the rule that never lists them. Reads the titles of many rows."""
    from jobs.inputs.row_checks import titles_of
    from jobs.profiling.fee_products import find_fees

    table = "items" if "items" in sources else "purchases"
    if table not in sources:
        return
    for fees in find_fees(titles_of(spark, table, sources[table])):
        _print(console, f"! inputs.{table}: {fees.products:,} products {fees.why}, and lists may show them")
        _print(console, f"      to keep them out, add to the list rules:   - {fees.rule}")


def _has_files(source: InputSettings) -> bool:
    return all("://" in path or local_matches(glob_of_dates(path)) for path in source.paths)


def _for_any_date(source: _Source) -> _Source:
    """Return the source with its SQL as of today; its paths match every date."""
    today = source.for_date(datetime.now(UTC).date())
    paths = [glob_of_dates(path) for path in source.paths]
    return today.model_copy(update={"path": paths}) if paths else today


def _show(finding: RowFinding, console: Console) -> None:
    shapes = f" Values: {' | '.join(finding.examples)}." if finding.examples else ""
    mark = "!" if finding.is_warning else "✗"
    _print(console, f"  {mark} {finding.table}.{finding.rule}, {finding.rows:,} rows: {finding.what}.{shapes}")
    if finding.remedy:
        _print(console, f"      {finding.remedy}")


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)
