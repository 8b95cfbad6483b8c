"""The commands about models: `regulars train` and `regulars evaluate`."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Overrides,
    console,
    load_config,
    parsed_date,
    session,
    shop_today,
)
from jobs.spark.errors import UsageError
from jobs.tasks.all_tasks import TASKS


class Protocol(StrEnum):
    """The purchases that are held out."""

    TIME_SPLIT = "time-split"
    LEAVE_ONE_OUT = "leave-one-out"


AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="DATE", help="Use no event after this date; default: today in the shop's time zone."
    ),
]
ProtocolOption = Annotated[
    Protocol,
    typer.Option(help="time-split: all purchases after a day; leave-one-out: each customer's last, as in papers."),
]
TRAINED = tuple(task.NAME for task in TASKS)
JUDGED = ("recommend", "sentiment", "answers")  # by `evaluate`


def train(
    as_of: AsOf = None,
    task: Annotated[str, typer.Option(help=f"{', '.join(TRAINED)} or all.")] = "all",
    protocol: ProtocolOption = Protocol.TIME_SPLIT,
    refit: Annotated[
        bool, typer.Option("--refit", help="Train again on the purchases that said when to stop, too.")
    ] = False,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Replace the present recommender only if the new one is not worse than it."),
    ] = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="First train a copy with planted texts, and show what it remembers; with --promote, train only if "
            "it reveals no text of too few customers.",
        ),
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Train GPT-2 on the shop's own tables and write the folders named under `models`."""
    from jobs.training.train import left_out
    from jobs.training.train import train as run_training
    from jobs.training.trainer import TrainingOptions

    if task not in (*TRAINED, "all"):
        raise UsageError(f"--task is '{task}': it must be {', '.join(TRAINED)} or all")
    if protocol == Protocol.LEAVE_ONE_OUT:
        task = "recommend" if task == "all" else task
        if task != "recommend":
            raise UsageError(f"--protocol leave-one-out is about purchases: it goes with --task recommend, not {task}")
    settings = load_config(config, overrides)
    day = _until(as_of, settings.timezone)
    named = [name for name in TRAINED if getattr(settings.models, name) is not None]
    tasks = named if task == "all" else [task]
    options = TrainingOptions(protocol.value, settings.train.recommend.refit or refit, promote, audit)
    if options.refit and promote:
        raise UsageError("--promote compares on held-out purchases, which a refit trains on: leave one of the two out")
    figures = run_training(session("train", settings), settings, day, tasks, console, options)
    without = [f" --set models.{task}=null" for task in left_out(settings, tasks, figures)]
    go_on = settings.command("nightly", f"--run-date {day}{''.join(without)}")
    if protocol == Protocol.LEAVE_ONE_OUT:
        go_on = settings.command("evaluate", "--protocol leave-one-out")
    console.print(f"Go on with: {go_on}", highlight=False, markup=False)


def evaluate(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="With --sheet: the file; default: sheet.html.")
    ] = None,
    run_date: Annotated[
        str | None, typer.Option("--run-date", metavar="DATE", help="Judge the lists of this date (time-split).")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Judge them against this many days after it.")] = 14,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="Judge the lists of many dates: the first one.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last of them.")] = None,
    every: Annotated[str, typer.Option(metavar="DAYS", help="The days between two of them, such as 7d.")] = "7d",
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="With --from: one model for each date, trained as of it, and its lists."),
    ] = False,
    task: Annotated[str, typer.Option(help=f"{', '.join(JUDGED)}.")] = "recommend",
    protocol: ProtocolOption = Protocol.TIME_SPLIT,
    as_of: AsOf = None,
    loyalty: Annotated[bool, typer.Option("--loyalty", help="Compare treated and control customers up to it.")] = False,
    sheet: Annotated[
        bool,
        typer.Option("--sheet", help="Write 60 histories and lists as a page for a person to mark, and judge nothing."),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", help="Draw an SVG here: with --task sentiment the reliability, with --from NDCG by date."
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Judge the lists by what customers bought next, or a model by held-out reviews or questions, beside baselines."""
    if task not in JUDGED:
        raise UsageError(f"--task is '{task}': it must be {', '.join(JUDGED[:-1])} or {JUDGED[-1]}")
    if file is not None and not sheet:
        raise UsageError(f"'{file}' is a file without an option: --sheet, --json and --picture write files")
    for option, target in (("--sheet", file), ("--json", json_file), ("--picture", picture)):
        if target is not None:
            _refuse_target(option, target)
    settings = load_config(config, overrides)
    if sheet:
        from jobs.report.sheet import write_sheet

        chosen = None if run_date is None else parsed_date("--run-date", run_date)
        write_sheet(session("evaluate", settings), settings, chosen, console, file or Path("sheet.html"))
    elif first is not None or last is not None or retrain:
        from jobs.commands import evaluate_dates
        from jobs.evaluation.over_time import dates_of

        if first is None or last is None or run_date is not None:
            raise UsageError("many dates need --from and --to, and no --run-date")
        dates = dates_of(parsed_date("--from", first), parsed_date("--to", last), _days(every))
        spark, written = session("evaluate", settings), {"json_file": json_file, "picture_file": picture}
        if retrain:
            evaluate_dates.evaluate_retrained(spark, settings, dates, days, console, str(config), **written)
        else:
            evaluate_dates.evaluate_published(spark, settings, dates, days, console, **written)
    elif task == "sentiment":
        from jobs.evaluation.sentiment_figures import evaluate_sentiment_holdout

        if run_date is not None and as_of is not None:
            raise UsageError("--as-of judges by held-out reviews, --run-date by later ones: leave one of the two out")
        until = _until(as_of, settings.timezone) if run_date is None else parsed_date("--run-date", run_date)
        ahead = None if run_date is None else days
        evaluate_sentiment_holdout(session("evaluate", settings), settings, until, console, json_file, ahead, picture)
    elif task == "answers":
        from jobs.evaluation.held_out_questions import evaluate_answers_holdout

        if run_date is not None:
            raise UsageError("--run-date judges lists and reviews: with --task answers give --as-of")
        until = _until(as_of, settings.timezone)
        evaluate_answers_holdout(session("evaluate", settings), settings, until, console, json_file)
    elif protocol == Protocol.LEAVE_ONE_OUT:
        from jobs.evaluation.leave_one_out import evaluate_leave_one_out

        evaluate_leave_one_out(
            session("evaluate", settings), settings, _until(as_of, settings.timezone), console, json_file
        )
    elif run_date is None:
        raise UsageError(
            "--run-date is missing: name the date whose lists are judged, use --from and --to for many dates, or "
            "--protocol leave-one-out"
        )
    elif loyalty:
        from jobs.evaluation.loyalty_uplift import evaluate_loyalty

        day = parsed_date("--run-date", run_date)
        evaluate_loyalty(session("evaluate", settings), settings, day, console, json_file)
    else:
        from jobs.evaluation.time_split import evaluate_time_split

        day = parsed_date("--run-date", run_date)
        evaluate_time_split(session("evaluate", settings), settings, day, days, console, json_file)


def _days(every: str) -> int:
    """Parse --every: a number of days, with or without the letter d."""
    found = re.fullmatch(r"([1-9]\d{0,3})d?", every)
    if found is None:
        raise UsageError(f"--every is '{every}': give a number of days, such as 7d")
    return int(found[1])


def _until(as_of: str | None, timezone: str) -> date:
    """Parse --as-of; the default is today in the shop's time zone."""
    return shop_today(timezone) if as_of is None else parsed_date("--as-of", as_of)


def _refuse_target(option: str, target: Path) -> None:
    """Raise UsageError for a file that cannot be written, before anything long runs."""
    if target.is_dir():
        raise UsageError(f"{option}: {target} is a folder: name a file in it")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{option}: the folder of {target} does not exist: make it first")
    if option == "--sheet" and target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{option}: {target} does not end with .html: name a page, such as sheet.html")
