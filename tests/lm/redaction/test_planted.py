"""Figures of redaction on texts that `plant.py` wrote, as an independent reader sees them.

A change that finds more raises a figure of FOUND; one that finds less fails here.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from lm.redaction.redact import redact
from tests.lm.redaction.plant import DATA, LANGUAGES
from tests.lm.redaction.reader import is_readable

PLAIN, TWISTED = 0.99, 0.95
LEAST = dict.fromkeys(["name", *(f"address {language}" for language in LANGUAGES)], 0.9)


@cache
def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def recall(planted: list[dict[str, Any]]) -> float:
    assert planted
    return sum(not is_readable(redact(row["text"]), row["hidden"]) for row in planted) / len(planted)


def test_the_sets_are_as_large_as_they_are_said_to_be():
    planted = rows("planted")
    assert len(planted) >= 1000
    assert len({row["kind"] for row in planted}) >= 30
    assert len({row["language"] for row in planted}) == 9
    assert len(rows("clean")) >= 500
    assert all(is_readable(row["text"], row["hidden"]) for row in planted)  # the reader sees through every twist


@pytest.mark.parametrize("kind", sorted({row["kind"] for row in rows("planted")}))
def test_recall_of_a_kind(kind: str):
    plain = [row for row in rows("planted") if row["kind"] == kind and not row["twist"]]
    twisted = [row for row in rows("planted") if row["kind"] == kind and row["twist"]]
    assert recall(plain) >= LEAST.get(kind, PLAIN)
    assert not twisted or recall(twisted) >= LEAST.get(kind, TWISTED)


def test_recall_of_all_kinds():
    assert recall([row for row in rows("planted") if not row["twist"]]) >= PLAIN
    assert recall([row for row in rows("planted") if row["twist"]]) >= TWISTED


def test_clean_texts_stay():
    changed = Counter(row["topic"] for row in rows("clean") if redact(row["text"]) != row["text"])
    assert sum(changed.values()) <= 0.01 * len(rows("clean")), changed
