"""Many dates: which are judged, what is said of them, and the picture."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from jobs.commands.evaluate_dates import of_one_date
from jobs.config.config import load
from jobs.evaluation.over_time import best_baseline, dates_of, evaluate_dates
from jobs.evaluation.time_split import NobodyToJudge
from jobs.spark.errors import InputError, UsageError

DAYS = [date(2026, 3, 1), date(2026, 3, 8), date(2026, 3, 15)]


def judged(model: float, co_purchase: float, popularity: float = 0.05, error: float = 0.01) -> dict[str, Any]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 1.96 * error, "high": value + 1.96 * error}

    def of(value: float) -> dict[str, Any]:
        return {f"{name}@10": interval(value) for name in ("recall", "ndcg")} | {
            "model_more_ndcg@10": interval(model - value)
        }

    figures: dict[str, Any] = {"model": of(model), "co-purchase": of(co_purchase), "popularity": of(popularity)}
    return figures | {"customers": 1000}


def evaluated(figures: Mapping[date, Any], tmp_path, **options: Any) -> tuple[dict[str, Any], str]:
    def judge(day: date) -> dict[str, Any]:
        if isinstance(figures[day], Exception):
            raise figures[day]
        return dict(figures[day])

    log = io.StringIO()
    found = evaluate_dates(list(figures), judge, Console(file=log, width=200), **options)
    return found, log.getvalue()


def test_lists_that_got_better(tmp_path):
    files = {"json_file": tmp_path / "dates.json", "picture_file": tmp_path / "dates.svg"}
    rising = {day: judged(value, 0.08) for day, value in zip(DAYS, (0.1, 0.15, 0.2), strict=True)}
    found, log = evaluated(rising, tmp_path, **files)
    assert json.loads(files["json_file"].read_text()) == found
    assert found["changes"]["ndcg@10"]["value"] == pytest.approx(0.1)
    assert "NDCG@10 changed by +0.100 (+0.072 to +0.128): the lists got better." in log
    assert "The lead on co-purchase changed by +0.100" in log
    assert re.search(r"2026-03-01 is judged: 1 of 3 dates, ends about [\d-]*\s?\d\d:\d\d\n", log)
    assert "2026-03-15 is judged: 3 of 3 dates\n" in log
    root = ElementTree.fromstring(files["picture_file"].read_text())
    whiskers = [one for one in root.iter() if one.get("class", "").startswith("ci")]
    assert len(whiskers) == 6  # three dates of two lines


def test_a_harder_time_lowers_both_and_keeps_the_lead(tmp_path):
    falling = {day: judged(value + 0.02, value) for day, value in zip(DAYS, (0.2, 0.15, 0.1), strict=True)}
    _, log = evaluated(falling, tmp_path)
    assert "NDCG@10 changed by -0.100 (-0.128 to -0.072): the lists got worse." in log
    assert "The lead on co-purchase changed by +0.000 (-0.028 to +0.028): chance explains it." in log


def test_dates_without_lists_or_purchases_are_left_out(tmp_path):
    figures = dict(zip(DAYS, (judged(0.1, 0.08), NobodyToJudge("no lists"), judged(0.1, 0.08)), strict=True))
    found, log = evaluated(figures, tmp_path)
    assert list(found["dates"]) == ["2026-03-01", "2026-03-15"]
    assert "2026-03-08 is left out: no lists" in log
    assert "chance explains it" in log
    with pytest.raises(InputError, match="1 of 2 dates have customers who bought"):
        evaluated({DAYS[0]: judged(0.1, 0.08), DAYS[1]: {"customers": 0}}, tmp_path)


def test_a_model_of_a_later_day_refuses_all(tmp_path):
    with pytest.raises(InputError, match="trained on events up to"):
        evaluated({DAYS[0]: judged(0.1, 0.08), DAYS[1]: InputError("trained on events up to")}, tmp_path)


def test_the_best_baseline_is_that_of_all_dates():
    both = {DAYS[0]: judged(0.1, 0.08, 0.2), DAYS[1]: judged(0.1, 0.08, 0.01)}
    assert best_baseline(both, "ndcg@10") == "popularity"


def test_dates_from_one_to_another():
    assert dates_of(date(2026, 3, 1), date(2026, 3, 20), 7) == DAYS
    with pytest.raises(UsageError, match="name one date"):
        dates_of(date(2026, 3, 1), date(2026, 3, 5), 7)


def test_a_date_of_its_own_touches_nothing_of_the_shop(tmp_path):
    file = tmp_path / "regulars.yaml"
    file.write_text(
        "{store: ./store, timezone: UTC, inputs: {purchases: {path: p}, items: {path: i}}, "
        "models: {recommend: ./m, sentiment: ./s, answers: ./a}, publish: {format: delta, to: ./d}, "
        "report: {prometheus: /x.prom}, loyalty: {control_share: 0.2, starts_on: 2026-01-01}, recommend: {k: 5}}"
    )
    own = of_one_date(load(file), "/scratch/2026-03-01")
    assert (own.store, own.models.recommend) == ("/scratch/2026-03-01/store", "/scratch/2026-03-01/model")
    assert (own.models.sentiment, own.models.answers) == (None, None)
    assert (own.publish.format, own.report.write, own.report.prometheus) == ("parquet", False, None)
    assert (own.loyalty.control_share, own.recommend.k) == (0.0, 5)
