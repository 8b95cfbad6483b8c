"""The commands for a store's dates: backfill, plan, status, report, rollback, unpublish, gc, erase, identify."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.commands.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Future,
    LogFormat,
    Overrides,
    announced_session,
    console,
    load_config,
    parsed_date,
    parsed_run_date,
    session,
    session_for_files,
    use_log_format,
)
from jobs.spark.errors import UsageError

if TYPE_CHECKING:
    from jobs.config.config import Config
    from jobs.spark.deadline import Deadline

FirstDate = Annotated[str, typer.Option("--from", metavar="DATE", help="The first date, included.")]
LastDate = Annotated[str, typer.Option("--to", metavar="DATE", help="The last date, included, or yesterday.")]
DeadlineOption = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="HH:MM",
        help="Send no request to the model after this time of day in the shop's time zone; publish.at_deadline says "
        "what is published then.",
    ),
]
ReprocessOption = Annotated[
    Literal["missing", "failed", "stale", "all"],
    typer.Option(
        help="Which dates: missing (nothing published yet), failed (the last run failed, was killed or never began), "
        "stale (published with other packages, settings or models than today's, or cut short by a deadline), or all."
    ),
]
OrderOption = Annotated[
    Literal["oldest", "newest"],
    typer.Option(
        help="oldest: as if the nights had run one by one. newest: the latest dates are published first, at more "
        "model time, because a date never uses answers of a later date."
    ),
]
VersionsOption = Annotated[
    Literal["own", "current"],
    typer.Option(help="current: today's settings and models. own: those that each date was published with."),
]
LookbackOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Also run the N dates before --from again, if they ever ran, for rows that arrived late. The ledger "
        "answers unchanged requests.",
    ),
]


def backfill(
    first: FirstDate,
    last: LastDate,
    reprocess: ReprocessOption = "missing",
    order: OrderOption = "oldest",
    on_error: Annotated[
        Literal["stop", "continue"], typer.Option(help="After a date that fails: stop, or go on with the next.")
    ] = "stop",
    versions: VersionsOption = "current",
    lookback: LookbackOption = 0,
    deadline: DeadlineOption = None,
    future: Future = False,
    log_format: LogFormat = "text",
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Run the night for the dates of a range that need it, each as of its own end."""
    from jobs.backfill import BackfillOptions, refuse_empty_range, run_backfill

    use_log_format(log_format)
    settings = load_config(config, overrides)
    dates = parsed_date("--from", first), parsed_run_date("--to", last, settings, future=future)
    refuse_empty_range(*dates)
    until = parsed_deadline(deadline, settings)
    choices = BackfillOptions(reprocess, order, on_error, versions, lookback)
    run_backfill(session("backfill", settings), settings, *dates, console, str(config), choices, until)


def plan(
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first date, included.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last date, included.")] = None,
    run_date: Annotated[str | None, typer.Option("--run-date", metavar="DATE", help="This one date.")] = None,
    reprocess: ReprocessOption = "missing",
    order: OrderOption = "oldest",
    versions: VersionsOption = "current",
    lookback: LookbackOption = 0,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Show what a night or a backfill would do and cost. Changes nothing."""
    from jobs.backfill import BackfillOptions, due_dates, refuse_empty_range
    from jobs.commands.plan import plan as make_plan

    if (run_date is None) == (first is None or last is None):
        raise UsageError("give --run-date DATE, or --from DATE and --to DATE")
    if run_date is not None:  # a night runs its date in any state
        first, last, reprocess, lookback = run_date, run_date, "all", 0
    settings = load_config(config, overrides)
    dates = parsed_date("--from", str(first)), parsed_date("--to", str(last))
    refuse_empty_range(*dates)
    choices = BackfillOptions(reprocess, order, versions=versions, lookback=lookback)
    spark = announced_session("plan", settings)
    due = due_dates(spark, settings, *dates, choices, str(config))
    make_plan(spark, settings, due, console, str(config), own_versions=versions == "own")


def explain(
    user: Annotated[str, typer.Option(help="The customer's id.")],
    run_date: Annotated[
        str | None, typer.Option("--run-date", metavar="DATE", help="The date; default: the newest published one.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="The product whose events are weighed.")] = 1,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Show one customer's list, the parts of its scores, and why a product is in it. Changes nothing."""
    from jobs.commands.explain import explain as explain_customer
    from jobs.store.store import Store, published_dates

    settings = load_config(config, overrides)
    day = None if run_date is None else parsed_date("--run-date", run_date)
    spark = announced_session("explain", settings)
    if day is None:
        dates = published_dates(spark, Store(settings.store), "recommendations")
        if not dates:
            raise UsageError(f"no date is published in {settings.store}: give --run-date DATE")
        day = dates[-1]
    explain_customer(spark, settings, user, day, rank, console, str(config))


def rules(
    run_date: Annotated[str, typer.Option("--run-date", metavar="DATE", help="The date of the lists.")],
    days: Annotated[int, typer.Option(min=1, help="Judge the lists by the purchases of this many days after it.")] = 14,
    customers: Annotated[int, typer.Option(min=1, help="The most customers, drawn by a hash.")] = 2000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures here, with the ten lists that change most.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Show what each rule of the configuration changes and costs. Changes nothing."""
    from jobs.commands.rules import show_rules

    settings = load_config(config, overrides)
    day = parsed_date("--run-date", run_date)
    show_rules(announced_session("rules", settings), settings, day, days, customers, console, str(config), json_file)


def status(
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first date, included.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last date, included.")] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Show the state of every date, with its run, rows and seconds."""
    from jobs.commands.status import show_status

    settings = load_config(config, overrides)
    start = parsed_date("--from", first) if first else None
    end = parsed_date("--to", last) if last else None
    show_status(session_for_files("status", settings), settings, console, str(config), start, end)


def report(
    run_date: Annotated[
        str | None, typer.Option("--run-date", metavar="DATE", help="The date; by default the newest that ran.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Write the report of a date again: a page, run.json and one line."""
    from jobs.commands.report import write_report

    settings = load_config(config, overrides)
    day = parsed_date("--run-date", run_date) if run_date else None
    write_report(session("report", settings), settings, str(config), day, console, show=show)


def rollback(
    run_date: Annotated[str, typer.Option("--run-date", metavar="DATE", help="The date to restore.")],
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Restore the version of a date that its last publish replaced; a second rollback undoes the first."""
    from jobs.commands.rollback import rollback as put_back

    settings = load_config(config, overrides)
    day = parsed_date("--run-date", run_date)
    tables = put_back(session("rollback", settings), settings, day, console)
    console.print(f"{day}: the previous version is back in {', '.join(tables)}", highlight=False)


def unpublish(
    run_date: Annotated[str, typer.Option("--run-date", metavar="DATE", help="The date to take out of all tables.")],
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Take a date out of every table; rollback brings it back. A date that was only tried is forgotten."""
    from jobs.commands.unpublish import unpublish as take_away

    settings = load_config(config, overrides)
    day = parsed_date("--run-date", run_date)
    tables = take_away(session_for_files("unpublish", settings), settings, day, console)
    if not tables:
        console.print(f"{day} was never published; its failed run is forgotten", highlight=False)
        return
    console.print(f"{day} is no longer in {', '.join(tables)}", highlight=False)
    if settings.publish.keep_publishes:
        console.print(
            f"To bring it back: {settings.command('rollback', f'--run-date {day}')}", highlight=False, markup=False
        )


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Delete what no run, rollback or repeated date needs, and merge the ledger's waves."""
    from jobs.commands.gc import collect_garbage

    settings = load_config(config, overrides)
    collect_garbage(session("gc", settings), settings, console, dry_run=dry_run)


def erase(
    users: Annotated[Path, typer.Option(help="A text file with the id of one customer a line.")],
    phrases: Annotated[
        Path | None, typer.Option(help="A text file with one text a line, which is searched for too.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the rows that would go.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Take customers out of every table, the ledger and the trash, search every byte for them, write a receipt."""
    from jobs.commands.erase import erase as erase_users

    settings = load_config(config, overrides)
    erase_users(session_for_files("erase", settings), settings, users, console, phrases=phrases, dry_run=dry_run)


def identify(
    pseudonyms: Annotated[list[str], typer.Argument(help="Pseudonyms, or values of user_hash in quarantine.")],
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Print the ids of the customers behind pseudonyms. Needs the key and the shop's tables."""
    from jobs.commands.identify import identify as find_ids

    settings = load_config(config, overrides)
    found = find_ids(session("identify", settings), settings, pseudonyms)
    for pseudonym in pseudonyms:
        console.print(
            f"{pseudonym} {found.get(pseudonym, '(no customer of the inputs)')}", highlight=False, markup=False
        )


def parsed_deadline(text: str | None, config: Config) -> Deadline | None:
    """Parse --deadline; None where it is not given."""
    from jobs.spark.deadline import next_deadline

    return next_deadline(text, config.timezone, datetime.now(UTC)) if text else None
