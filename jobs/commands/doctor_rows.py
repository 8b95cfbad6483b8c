"""The part of `regulars doctor` that reads rows: the first N rows of each input, mapped by Spark as a night maps them.

It shows every rule that the rows break, with counts, shapes of values, and the line of regulars.yaml that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.commands.options import load_config, session
from jobs.config.input_settings import InputSettings
from jobs.config.settings import Config
from jobs.spark.errors import InputError, UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.inputs.row_checks import RowFinding


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
    return check_rows(session("doctor", config), config, rows, console)


def check_rows(spark: SparkSession, config: Config, rows: int, console: Console) -> bool:
    """Print what is wrong with the first `rows` rows of each input.

    Returns whether each input can be read and has a valid row: some rejected rows do not stop a night. A path with
    {run_date} is read for every date.
    """
    from jobs.inputs.row_checks import sample_input, unknown_ids

    sources = {table: _for_any_date(source) for table, source in config.inputs.items()}
    samples = []
    readable = True
    for table, source in sources.items():
        try:
            sample = sample_input(spark, table, source, rows, table == "purchases" and "items" not in sources)
        except InputError as error:
            readable = False
            _print(console, f"✗ {error}")
            continue
        samples.append(sample)
        # A table without rows is no fault, unless a night needs it.
        is_usable = sample.rejected < sample.rows or (not sample.rows and table not in ("purchases", "items"))
        readable = readable and is_usable
        mark = "✗" if not is_usable else "!" if sample.rejected else "✓"
        _print(console, f"{mark} inputs.{table}: {sample.rejected:,} of the first {sample.rows:,} rows are rejected")
        for finding in sample.findings:
            _show(finding, console)
    if len(samples) == len(sources):
        for finding in unknown_ids(spark, samples, sources):
            _show(finding, console)
    return readable


def _has_files(source: InputSettings) -> bool:
    return all("://" in path or any(Path("/").glob(path.lstrip("/"))) for path in _for_any_date(source).paths)


def _for_any_date(source: InputSettings) -> InputSettings:
    return source.model_copy(update={"path": [path.replace("{run_date}", "*") for path in source.paths]})


def _show(finding: RowFinding, console: Console) -> None:
    shapes = f" Values: {' | '.join(finding.examples)}." if finding.examples else ""
    mark = "!" if finding.is_warning else "✗"
    _print(console, f"  {mark} {finding.table}.{finding.rule}, {finding.rows:,} rows: {finding.what}.{shapes}")
    if finding.remedy:
        _print(console, f"      {finding.remedy}")


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)
