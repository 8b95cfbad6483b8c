"""The command line: each command reads one configuration file, and each message says how to go on.

`EXIT_CODES` lists the exit codes; `regulars --help` prints them.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from jobs.commands import generate, model_commands, store_commands
from jobs.commands.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Future,
    LogFormat,
    Overrides,
    console,
    errors,
    load_config,
    parsed_run_date,
    session,
    use_log_format,
)
from jobs.spark.errors import UserError, disk_full, tables_changed
from jobs.spark.log_console import tell
from lm.checkpoint.checkpoint import CheckpointError
from lm.recommend.catalogue import CatalogueError

EXIT_CODES = (
    "Exit codes: 0 done; 1 a defect of Regulars; 2 wrong usage or configuration; 4 refused, old data kept; 5 input "
    "missing or unreadable; 6 published, but the Delta tables are behind; 75 another run holds the store or changed "
    "files that this one read, try again; 130 interrupted, the same command goes on."
)
app = typer.Typer(
    name="regulars",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"regulars {importlib.metadata.version('regulars')}", highlight=False)
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Nightly next-purchase lists and review sentiment for a shop, by GPT-2 on Spark."""


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="The folder to write the shop and its regulars.yaml into.")],
    customers: Annotated[int, typer.Option(min=1)] = 2000,
    products: Annotated[int, typer.Option(min=10)] = 400,
    days: Annotated[int, typer.Option(min=2)] = 60,
    seed: int = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the sample shop and its regulars.yaml.")] = False,
) -> None:
    """Write a sample shop with realistic errors in its data, and a configuration for it."""
    from jobs.sample import write_sample

    info = write_sample(out, customers=customers, products=products, days=days, seed=seed, replace=force)
    console.print(f"Wrote a shop of {customers:,} customers and {products:,} products below {out}", markup=False)
    console.print(
        f"Go on with: regulars train --config {out / 'regulars.yaml'} --as-of {info.last_day}",
        highlight=False,
        markup=False,
    )


@app.command()
def nightly(
    run_date: Annotated[str, typer.Option("--run-date", metavar="DATE", help="The date to write, or yesterday.")],
    deadline: store_commands.DeadlineOption = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Read and compute everything, also where incremental.enabled is set.")
    ] = False,
    future: Future = False,
    log_format: LogFormat = "text",
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Write all output tables of one date, or none of them."""
    use_log_format(log_format)
    from jobs.commands.summary import show_summary
    from jobs.nightly import run_night

    settings = load_config(config, overrides)
    day = parsed_run_date("--run-date", run_date, settings, future=future)
    until = store_commands.parsed_deadline(deadline, settings)
    spark = session("nightly", settings)
    night = run_night(spark, settings, day, console, str(config), until, from_scratch=from_scratch)
    show_summary(spark, night, console, settings.options())


@app.command()
def init(
    files: Annotated[
        list[str],
        typer.Argument(
            help="The shop's files or folders: CSV, JSON, Parquet, ORC, Excel; or tables of Spark's catalog, such as "
            "lake.orders. purchases=FILE says which table a file is."
        ),
    ],
    timezone: Annotated[str | None, typer.Option(help="The shop's IANA time zone, such as Europe/Berlin.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the configuration file.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Look at a shop's files and write a commented regulars.yaml, with a question wherever a guess is not sure."""
    from jobs.commands.init import write_configuration

    write_configuration(files, config, timezone, force, console)


@app.command()
def doctor(
    rows: Annotated[int, typer.Option(min=0, help="Rows of each input to map and check; 0 reads none.")] = 100,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Check Java, Python, packages, memory, disk, models and rows of the inputs, and say how to fix each."""
    from jobs.commands.doctor import check_setup
    from jobs.commands.doctor_rows import check_rows_of

    if not check_setup(config, given := overrides or [], console, lambda: check_rows_of(config, given, rows, console)):
        raise typer.Exit(2)


for command in (
    model_commands.train,
    model_commands.evaluate,
    store_commands.backfill,
    store_commands.plan,
    store_commands.rules,
    store_commands.explain,
    store_commands.status,
    store_commands.report,
    store_commands.rollback,
    store_commands.unpublish,
    store_commands.gc,
    store_commands.erase,
    store_commands.identify,
    generate.generate,
):
    app.command()(command)


def main() -> NoReturn:
    """Run the command line. An error that a user can fix ends with one message and its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = app(standalone_mode=False)
        code = result if isinstance(result, int) else 0  # typer returns 130 for an interrupt
    except (UserError, CheckpointError, CatalogueError) as error:
        code = _print_error(error)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        known = disk_full(error, _published_so_far()) or tables_changed(error)
        code = _usage_error(error) if known is None else _print_error(known)
    if code == 130:
        said = f"Interrupted. {_published_so_far()} The same command goes on where it stopped."
        tell(errors, _escape(said), "error", "error", exit_code=code)
    for number in (signal.SIGTERM, signal.SIGINT):  # the command has ended: its exit code stays what it is
        atexit.register(signal.signal, number, signal.SIG_IGN)
    sys.exit(code)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error came while an interrupt was handled: cancelled jobs of Spark raise errors of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _print_error(error: UserError | CheckpointError | CatalogueError) -> int:
    tell(errors, f"[bold red]Error:[/bold red] {_escape(str(error))}", "error", "error", exit_code=error.exit_code)
    return error.exit_code


def _usage_error(error: Exception) -> int:
    """Show typer's message for a wrong command line; any other exception is a defect and keeps its stack trace.

    Returns the exit code: 2, or 130 for an error that came from an interrupt.
    """
    if _was_interrupted(error):
        return 130
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return 2


def _published_so_far() -> str:
    """Say what this command has published. A command that has not imported the publishing has published nothing.

    A training publishes nothing: it writes the folder of its model at the end.
    """
    if "train" in sys.argv[1:2]:
        return "The old model stays."
    date_swap = sys.modules.get("jobs.store.date_swap")
    return str(date_swap.published_so_far()) if date_swap else "Nothing was published."


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Stop Spark's jobs and the main thread. Pool threads that wait for a job would delay the end of the process."""
    threading.Thread(target=_cancel_jobs, name="cancel-jobs", daemon=True).start()
    raise KeyboardInterrupt


def _cancel_jobs() -> None:
    """Cancel all Spark jobs until the process ends, because a pool thread may start another one."""
    pyspark = sys.modules.get("pyspark")
    while pyspark:
        context = pyspark.SparkContext._active_spark_context
        with suppress(Exception):  # the JVM may be ending already
            if context:
                context.cancelAllJobs()
        time.sleep(1)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
