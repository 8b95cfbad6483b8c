"""What the commands share: options, the console, and readers of configuration, session and dates."""

from __future__ import annotations

import os
import re
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast
from zoneinfo import ZoneInfo

import typer

from jobs.spark.errors import ConfigurationError, UsageError
from jobs.spark.log_console import LogConsole

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config.config import Config

#: A scheduler's log has no width, and rich would break tables at 80 characters.
console = LogConsole(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
errors = LogConsole(stderr=True, soft_wrap=True)

ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key, as in a.b=c.")
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", help="text for people, or json: stages, progress and messages as one object a line."),
]
Future = Annotated[bool, typer.Option("--future", help="Allow dates after today.")]
#: Schedulers that know no dates write this word.
YESTERDAY = "yesterday"
DEFAULT_CONFIG = Path("regulars.yaml")


def use_log_format(log_format: str) -> None:
    """Make both consoles write text or JSON from now on."""
    console.as_json = errors.as_json = log_format == "json"


def load_config(path: Path, overrides: list[str] | None) -> Config:
    """Read the configuration. The late import keeps `--help` fast."""
    from jobs.config.config import load

    return load(path, overrides or [])


#: Settings of a command that reads few rows: compiling its plans would take longer than running them.
_FEW_ROWS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


def session(command: str, config: Config, *, reads_few_rows: bool = False) -> SparkSession:
    """Create the Spark session of a command. Files that this process and Spark create have the mode of `store_umask`.

    The JVM and the Python workers inherit the umask; Hadoop's file systems need a setting. The configuration overrides
    the settings of a command that `reads_few_rows`.
    """
    from jobs.spark.session import create_session

    os.umask(int(config.store_umask, 8))
    defaults = _FEW_ROWS if reads_few_rows else {}
    conf = {"spark.hadoop.fs.permissions.umask-mode": config.store_umask} | defaults | config.spark
    conf |= _plug_in(config)
    return create_session(f"regulars {command}", timezone=config.timezone, conf=conf)


def announced_session(command: str, config: Config, *, reads_few_rows: bool = False) -> SparkSession:
    """Create the session of a command that a person waits for, and say so: the start of Java takes seconds."""
    from jobs.spark.progress import Stages

    with Stages(console).stage("starting Spark"):
        return session(command, config, reads_few_rows=reads_few_rows)


def _plug_in(config: Config) -> dict[str, str]:
    """Name `privacy.detector` to this process, and return the settings that name it to Spark's workers.

    Raises ConfigurationError where it cannot be imported here.
    """
    from lm.redaction.plugged_in import VARIABLE, DetectorError, load_detector

    os.environ.pop(VARIABLE, None)
    if config.privacy.detector is None:
        return {}
    try:
        load_detector(config.privacy.detector)
    except DetectorError as error:
        raise ConfigurationError(str(error)) from error
    os.environ[VARIABLE] = config.privacy.detector
    return {f"spark.executorEnv.{VARIABLE}": config.privacy.detector}


def session_for_files(command: str, config: Config) -> SparkSession:
    """Return the session of a command that needs no more than files: Spark starts for Hadoop's file systems."""
    from jobs.spark import files

    if files.local(config.store) is None:
        return session(command, config)
    os.umask(int(config.store_umask, 8))
    return cast("SparkSession", None)  # no function of local paths uses the session


def shop_today(timezone: str) -> date:
    """Return today's date in the shop's time zone, whatever the machine's is."""
    return datetime.now(ZoneInfo(timezone)).date()


def parsed_run_date(option: str, text: str, config: Config, *, future: bool) -> date:
    """Parse a date that is going to be published; `yesterday` is that of the shop's time zone.

    Raises UsageError for a date after today, unless `future`.
    """
    today = shop_today(config.timezone)
    day = today - timedelta(days=1) if text == YESTERDAY else parsed_date(option, text)
    if day > today and not future:
        raise UsageError(
            f"{option} is {day}, and today is {today} in {config.timezone}: correct the date, or add --future to "
            "publish it all the same"
        )
    return day


def parsed_date(option: str, text: str) -> date:
    """Parse an ISO date. Raises UsageError with the option's name."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise UsageError(f"{option} is '{text}': there is no such day; correct the date") from None
        raise UsageError(f"{option} is '{text}': give a date as YYYY-MM-DD, for example 2026-03-01") from None
