"""The text file for Prometheus is read by Prometheus' own parser and has the facts of the night."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.report.prometheus import write_metrics
from jobs.spark.errors import ConfigurationError
from tests.reports import DAY, night_facts

Samples = dict[tuple[str, str], float]


def read(path: Path) -> Samples:
    """The value of each sample by its name and its label's value."""
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    return {(one.name, "".join(one.labels.values())): one.value for family in families for one in family.samples}


def test_the_file_has_the_facts_of_the_night(tmp_path: Path) -> None:
    write_metrics(night_facts("published"), tmp_path / "regulars.prom")
    found = read(tmp_path / "regulars.prom")
    assert found["regulars_run_date_seconds", ""] == datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert found["regulars_newest_published_date_seconds", ""] == datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert found["regulars_night_duration_seconds", ""] == 22 * 60 + 13
    assert found["regulars_night_exit_code", ""] == 0
    assert found["regulars_night_stage_seconds", "prompts"] == 3.1
    assert found["regulars_night_rows", "sentiments"] == 96
    assert found["regulars_night_tokens", "recommend"] == 31_548
    assert found["regulars_night_quarantined_rows", "purchases"] == sum(100 - number for number in range(18))
    assert found["regulars_input_age_seconds", "reviews"] == 74.2 * 3600
    assert outcome(found) == ["published"]


def test_a_failed_night_replaces_the_figures_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "regulars.prom"
    write_metrics(night_facts("published"), path)
    write_metrics(night_facts("failed", newest_published=date(2026, 2, 28)), path)
    found = read(path)
    assert found["regulars_night_exit_code", ""] == 5
    assert found["regulars_newest_published_date_seconds", ""] == datetime(2026, 2, 28, tzinfo=UTC).timestamp()
    assert ("regulars_night_rows", "sentiments") not in found
    assert outcome(found) == ["failed"]
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_store_without_a_published_date_has_no_newest_one(tmp_path: Path) -> None:
    write_metrics(night_facts("failed", newest_published=None), tmp_path / "regulars.prom")
    assert ("regulars_newest_published_date_seconds", "") not in read(tmp_path / "regulars.prom")


def test_a_missing_folder_is_told_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"report\.prometheus: .*regulars\.prom cannot be written"):
        write_metrics(night_facts(run_date=DAY), tmp_path / "missing" / "regulars.prom")


def outcome(found: Samples) -> list[str]:
    return [label for (name, label), value in found.items() if name == "regulars_night_outcome" and value == 1]
