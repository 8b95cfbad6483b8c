"""Renders the facts of a night as one HTML page without scripts, requests or files beside it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from jobs.pictures import charts
from jobs.report.facts import Day, InputAge, ListedItem, NightFacts
from jobs.report.html import environment, style
from jobs.spark.progress import duration

HEADLINES = {"published": "PUBLISHED", "carried": "PUBLISHED IN PART", "kept": "KEPT YESTERDAY", "failed": "FAILED"}
_MARKS = {"published": "■", "carried": "◧", "failed": "✗", "missing": "·", "before": "–"}
_STATES = {state: state for state in _MARKS} | {"before": "before the first night"}
_LABELS = ("negative", "neutral", "positive")
#: Rules of quarantine on the page; `run.json` has all.
_RULES = 15
#: An input is old if its newest row is this many hours older than usual, and older than a day where nothing is usual.
_OLD_HOURS = 24.0


def render(facts: NightFacts, timezone: str) -> str:
    """Return the page as HTML. Times are shown in the shop's `timezone`."""
    rejected = facts.rejected[:_RULES]
    left_out = facts.rejected[_RULES:]
    labels, segments = _shares(facts.days, "labels"), _shares(facts.days, "segments")
    label_names = [name for name in _LABELS if name in labels] + sorted(set(labels) - set(_LABELS))
    text: str = _template(timezone).render(
        f=facts,
        headline=HEADLINES[facts.outcome],
        summary=summary(facts),
        css=style(),
        cards=_cards(facts),
        marks=_MARKS,
        states=_STATES,
        outcomes=list(dict.fromkeys(name for one in facts.inputs for name in one.outcomes)),
        rejected=rejected,
        rejected_left_out=len(left_out),
        rejected_rows_left_out=sum(one.rows for one in left_out),
        replay_rows=facts.replays,
        work_charts=_work_charts(facts),
        label_names=label_names,
        label_chart=_areas("Labels by day", facts.days, {name: labels[name] for name in label_names}),
        segment_names=list(segments),
        segment_chart=_areas("Customers by segment", facts.days, segments),
        uplift_chart=_uplift(facts),
    )
    return text


def summary(facts: NightFacts) -> str:
    """Say in one sentence what readers of the tables find."""
    reviews = facts.rows.get("sentiments", 0)
    has_labels = "sentiments" in facts.rows or any(one.task == "sentiment" for one in facts.tasks)
    labels = f"{reviews:,} labelled reviews" if has_labels else ""
    if facts.changes is not None:
        changed = "" if facts.changes.since is None else f", {facts.changes.changed:.0%} changed"
        lists, rows = facts.changes.customers, facts.changes.rows
        return f"{lists:,} lists with {rows:,} products{changed}{'; ' if labels else ''}{labels}."
    if facts.outcome in ("published", "carried"):
        return f"{labels or 'No lists and no labels'}."
    if facts.newest_published is None:
        return "Nothing is published yet."
    return f"Nothing new was published. Readers find the data of {facts.newest_published}."


def is_old(age: InputAge) -> bool:
    """Return whether an input's newest row is far older than usual."""
    return age.hours > (age.usual_hours or 0.0) + _OLD_HOURS


@cache
def _template(timezone: str) -> Any:
    zone = ZoneInfo(timezone)

    def moment(at: datetime) -> str:
        return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S} {timezone}"

    pages = environment()
    filters: dict[str, Callable[[Any], Any]] = {
        "share": lambda value: f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}",
        "count": lambda value: f"{value:,}",
        "hours": lambda value: "" if value is None else duration(value * 3600),
        "words": lambda name: name.replace("_", " "),
        "moment": moment,
        "entered": _entered,
    }
    pages.filters |= filters
    pages.tests["old"] = is_old
    return pages.get_template("page.html.jinja")


def _entered(items: list[ListedItem]) -> list[ListedItem]:
    return [item for item in items if item.previous_rank is None]


def _cards(facts: NightFacts) -> list[tuple[str, str, str]]:
    """Return name, value and a further line of each figure of the first screen."""
    cards = [("Run took", duration(facts.wall_seconds), f"exit code {facts.exit_code}")]
    if facts.deadline_margin_seconds is not None:
        margin = facts.deadline_margin_seconds
        cards.append(("Margin to the deadline", duration(margin), f"deadline {facts.deadline}"))
    else:
        cards.append(("Margin to the deadline", "none set", "nightly --deadline HH:MM"))
    old = [age for age in facts.input_ages if is_old(age)]
    if facts.input_ages:
        oldest = max(old or facts.input_ages, key=lambda age: age.hours - (age.usual_hours or 0.0))
        verdict = f"{len(old)} of {len(facts.input_ages)} old" if old else "all fresh"
        cards.append(("Inputs", verdict, f"{oldest.table}: {duration(oldest.hours * 3600)} before the end of the date"))
    cards.append(("Rejected rows", f"{sum(one.rows for one in facts.rejected):,}", "new in quarantine"))
    scored, reused = (sum(getattr(task, kind) for task in facts.tasks) for kind in ("scored", "reused"))
    cards.append(("Requests", f"{scored:,} scored", f"{reused:,} answered by the ledger"))
    cost = "no price set" if facts.cost is None else f"{facts.cost:,.2f} {facts.currency}".rstrip()
    cards.append(("Tokens", f"{facts.tokens:,}", f"cost: {cost}"))
    return cards


def _shares(days: list[Day], name: str) -> dict[str, list[float | None]]:
    """Return the shares of each slice by day, None where a day has none at all."""
    names = sorted({one for day in days for one in getattr(day, name)})
    return {one: [getattr(day, name).get(one, 0.0) if getattr(day, name) else None for day in days] for one in names}


def _areas(title: str, days: list[Day], shares: dict[str, list[float | None]]) -> str | None:
    """Draw the shares of the dates that have any; None with fewer than two such dates."""
    with_shares = [n for n in range(len(days)) if any(values[n] is not None for values in shares.values())]
    if len(with_shares) < 2:
        return None
    labels = [f"{days[n].run_date:%m-%d}" for n in with_shares]
    return charts.stacked_areas(title, labels, {name: [v[n] for n in with_shares] for name, v in shares.items()})


def _work_charts(facts: NightFacts) -> list[tuple[str, str]]:
    known = [day for day in facts.days if day.seconds is not None]
    if len(known) < 2:
        return []
    labels = [f"{day.run_date:%m-%d}" for day in known]
    found = [("Seconds of a night", charts.bars("Seconds of a night", labels, [day.seconds for day in known]))]
    if any(day.cost is not None for day in known):
        title = f"Cost of a night, {facts.currency}".rstrip(", ")
        return [*found, (title, charts.bars(title, labels, [day.cost for day in known]))]
    tokens = [float(day.tokens or 0) for day in known]
    return [*found, ("Tokens through the models", charts.bars("Tokens through the models", labels, tokens))]


def _uplift(facts: NightFacts) -> str | None:
    if facts.experiment is None or not facts.experiment.outcomes:
        return None
    effects = {one.name.replace("_", " "): (one.relative, one.low, one.high) for one in facts.experiment.outcomes}
    return charts.intervals("Relative effect of the lists with its interval", effects)
