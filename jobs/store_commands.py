"""The commands that look after a store's dates: backfill."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides, console, load_config, parsed_date, session

FirstDate = Annotated[str, typer.Option("--from", metavar="DATE", help="The first date, included.")]
LastDate = Annotated[str, typer.Option("--to", metavar="DATE", help="The last date, included.")]


def backfill(
    first: FirstDate, last: LastDate, config: ConfigFile = DEFAULT_CONFIG, overrides: Overrides = None
) -> None:
    """Run the night for each date from the first to the last, in order, as of that date."""
    from jobs.backfill import run_backfill

    settings = load_config(config, overrides)
    dates = parsed_date("--from", first), parsed_date("--to", last)
    run_backfill(session("backfill", settings), settings, *dates, console, str(config))
