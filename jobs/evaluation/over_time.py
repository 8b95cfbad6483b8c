"""Judges the lists of many dates, and says whether they got better.

For whoever decides whether the models and the shop's data improve. Alone:

    regulars evaluate --config regulars.yaml --from 2026-02-01 --to 2026-02-22 --every 7d --picture dates.svg

Each date is judged as `jobs.evaluation.time_split` judges one, by the purchases of the days after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.evaluation.ranking_figures import RANKERS, cell, write_json
from jobs.evaluation.time_split import NobodyToJudge
from jobs.evaluation.trend import Estimate, change
from jobs.pictures import charts
from jobs.spark.errors import InputError, UsageError
from jobs.spark.progress import dates_done, warn

_MODEL, *_BASELINES = RANKERS


def dates_of(first: date, last: date, every: int) -> list[date]:
    """Return the dates from `first` to `last`, `every` so many days. Raises UsageError with fewer than two dates."""
    days = [first + timedelta(days=n) for n in range(0, (last - first).days + 1, every)]
    if len(days) < 2:
        raise UsageError(
            f"--from {first} --to {last} --every {every}d name {'one date' if days else 'no date'}: a change needs "
            "two; give a later --to, or judge one date by --run-date"
        )
    return days


def evaluate_dates(
    days: Sequence[date],
    judge: Callable[[date], dict[str, Any]],
    console: Console,
    json_file: Path | None = None,
    picture_file: Path | None = None,
) -> dict[str, Any]:
    """Judge each date by `judge`, which returns the decisive figures of `judge_lists`, and compare them.

    A date with nobody to judge is named and left out. Prints a table and one sentence each about the model's NDCG and
    its lead, writes the figures to `json_file` and a curve to `picture_file`, and returns the figures: `dates`, and
    `changes` of the model's figure and of its lead.
    Raises InputError with fewer than two judged dates, and what `judge` raises.
    """
    begun = time.monotonic()
    judged: dict[date, dict[str, Any]] = {}
    for number, day in enumerate(days, 1):
        try:
            figures = judge(day)
        except NobodyToJudge as error:
            warn(console, f"{day} is left out: {error}")
            figures = {"customers": 0}
        if figures["customers"]:
            judged[day] = figures
        console.print(f"{day} is judged: {dates_done(number, len(days), begun)}", highlight=False)
    if len(judged) < 2:
        raise InputError(
            f"{len(judged)} of {len(days)} dates have customers who bought something in the days after: give other "
            "dates, or more --days"
        )
    k = max(int(name.partition("@")[2]) for name in next(iter(judged.values()))[_MODEL] if name.startswith("ndcg@"))
    rival = best_baseline(judged, f"ndcg@{k}")
    customers = [figures["customers"] for figures in judged.values()]
    changes = {
        f"ndcg@{k}": change(list(judged), [_estimate(of[_MODEL][f"ndcg@{k}"]) for of in judged.values()], customers),
        f"lead on {rival}": change(
            list(judged), [_estimate(of[rival][f"model_more_ndcg@{k}"]) for of in judged.values()], customers
        ),
    }
    console.print(_table(judged, rival, k))
    for sentence in sentences(list(judged), changes, rival, k):
        console.print(sentence, highlight=False)
    found = {
        "protocol": "time-split, many dates",
        "dates": {day.isoformat(): figures for day, figures in judged.items()},
        "best_baseline": rival,
        "changes": {name: one._asdict() for name, one in changes.items()},
    }
    write_json(console, found, json_file)
    if picture_file is not None:
        picture_file.write_text(curve(judged, rival, k), encoding="utf-8")
        console.print(f"Wrote {picture_file}", highlight=False, markup=False)
    return found


def best_baseline(judged: Mapping[date, Mapping[str, Any]], metric: str) -> str:
    """Return the baseline with the highest mean of the metric over the dates."""
    names = [name for name in _BASELINES if all(name in figures for figures in judged.values())]
    return max(names, key=lambda name: sum(figures[name][metric]["value"] for figures in judged.values()))


def sentences(days: Sequence[date], changes: Mapping[str, Estimate], rival: str, k: int) -> list[str]:
    """Say whether the lists got better: by NDCG itself, and by the lead, which a harder date does not lower."""
    ndcg, lead = changes.values()
    verdicts = ("the lists got better", "the lists got worse", "chance explains it")
    by_lead = ("the model learned more than counting did", "it fell behind counting", "chance explains it")
    return [
        f"From {min(days)} to {max(days)} NDCG@{k} changed by {_signed(ndcg)}: {_verdict(ndcg, verdicts)}.",
        f"The lead on {rival} changed by {_signed(lead)}: {_verdict(lead, by_lead)}.",
    ]


def curve(judged: Mapping[date, Mapping[str, Any]], rival: str, k: int) -> str:
    """Draw NDCG by date with 95% intervals, of the model and of the best baseline; returns the SVG text."""
    series = {
        name: [_estimate(figures[of][f"ndcg@{k}"]) for figures in judged.values()]
        for name, of in (("model", _MODEL), (rival, rival))
    }
    labels = [day.isoformat() for day in judged]
    return charts.lines_with_intervals(f"NDCG@{k} of the lists by date, 95% intervals", labels, series)


def _table(judged: Mapping[date, Mapping[str, Any]], rival: str, k: int) -> Table:
    heads = ("lists of", "customers", f"recall@{k}", f"ndcg@{k}", f"{rival}: ndcg@{k}", "the model's lead on it")
    table = Table(*heads, title="Lists by date (95% intervals)", title_justify="left")
    for day, of in judged.items():
        cells = [cell(of[_MODEL][f"{name}@{k}"], of["customers"]) for name in ("recall", "ndcg")]
        cells += [cell(of[rival][f"{name}@{k}"], of["customers"]) for name in ("ndcg", "model_more_ndcg")]
        table.add_row(day.isoformat(), f"{of['customers']:,}", *cells)
    return table


def _estimate(figure: Mapping[str, float]) -> Estimate:
    return Estimate(figure["value"], figure["low"], figure["high"])


def _signed(one: Estimate) -> str:
    return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def _verdict(one: Estimate, words: tuple[str, str, str]) -> str:
    return words[0] if one.low > 0 else words[1] if one.high < 0 else words[2]
