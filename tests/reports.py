"""Made-up facts of nights for tests of the report's page, without a night."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from jobs.report.facts import NightFacts

DAY = date(2026, 3, 1)


def night_facts(outcome: str = "published", **values: Any) -> NightFacts:
    """Facts of a night of a shop of 2,000 customers, full where a night has everything; `values` replace fields."""
    facts: dict[str, Any] = {
        "outcome": outcome,
        "run_id": "2026-03-01-0a1b2c3d",
        "run_date": DAY,
        "store": "store",
        "started_at": datetime(2026, 3, 2, 2, 30, tzinfo=UTC),
        "finished_at": datetime(2026, 3, 2, 2, 52, 13, tzinfo=UTC),
        "command": "regulars status --config regulars.yaml",
        "newest_published": DAY,
        "deadline": "2026-03-02 05:30 Europe/London",
        "deadline_margin_seconds": 9467.0,
        "input_ages": [
            {"table": "purchases", "hours": 0.4, "rows": 28_113, "usual_hours": 0.5},
            {"table": "reviews", "hours": 74.2, "rows": 4_420, "usual_hours": 1.1},
        ],
        "days": [day(DAY - timedelta(days=back)) for back in range(34, -1, -1)],
        "currency": "EUR",
        "cost": 0.67,
    }
    if outcome == "failed":
        reason = "inputs.purchases.path: /data/purchases does not exist. Correct the path, then run the same command."
        facts |= {"reason": reason, "exit_code": 5, "input_ages": [], "newest_published": DAY - timedelta(days=1)}
    else:
        facts |= read_and_scored()
    if outcome == "kept":
        reason = "The night differs too much from the last 7 dates: rows of recommendations: 9,000, expected 12,000 to"
        facts |= {"reason": f"{reason} 40,000.", "exit_code": 4, "newest_published": DAY - timedelta(days=1)}
    if outcome in ("published", "carried"):
        facts |= tables_of_the_night()
    if outcome == "carried":
        facts |= {"reason": "The deadline left 214 recommend requests. Customers keep their earlier list."}
    return NightFacts.model_validate(facts | values)


def day(at: date) -> dict[str, Any]:
    """One date of the strip: every seventh failed, the oldest ones are missing."""
    if at < date(2026, 2, 5):
        return {"run_date": at, "state": "missing"}
    if at.day == 19:
        return {"run_date": at, "state": "failed"}
    bad = 0.2 + at.day / 200
    return {
        "run_date": at,
        "state": "carried" if at.day == 12 else "published",
        "seconds": 600.0 + 40 * (at.day % 7),
        "tokens": 30_000 + 900 * at.day,
        "cost": 0.3 + at.day / 100,
        "labels": {"negative": bad, "neutral": 0.1, "positive": 0.9 - bad},
        "segments": {"champions": 0.3, "loyal": 0.25, "at_risk": 0.15, "hibernating": 0.2, "new": 0.1},
    }


def read_and_scored() -> dict[str, Any]:
    """What a night knows once it has read its inputs and asked its models."""
    rules = [{"table": "purchases", "rule": f"rule_{number}", "rows": 100 - number} for number in range(18)]
    return {
        "seconds": {"inputs": 15.2, "prompts": 3.1, "recommend.model": 820.0, "recommendations": 840.0},
        "inputs": [
            {"table": "purchases", "read": 100, "outcomes": {"used": 88, "quarantined": 9, "duplicates": 3}},
            {"table": "reviews", "read": 40, "outcomes": {"used": 40, "quarantined": 0, "duplicates": 0}},
        ],
        "rejected": rules,
        "tasks": [
            {"task": "recommend", "reused": 1700, "scored": 282, "late": 0, "tokens": 31_548, "model_seconds": 820.0},
        ],
        "versions": {"regulars": "0.1.0", "recommend": "0123456789abcdef", "settings": "fedcba9876543210"},
    }


def tables_of_the_night() -> dict[str, Any]:
    """What the published tables and the inputs tell."""
    before = [{"rank": rank, "title": f"Product {rank}"} for rank in range(1, 11)]
    after = [{"rank": 1, "title": "Corvane Ink & Toner <XL>"}] + [
        {"rank": rank, "title": f"Product {rank - 1}", "previous_rank": rank - 1} for rank in range(2, 11)
    ]
    examples = [{"prompt_hash": f"{number:010x}", "before": before, "after": after} for number in range(10)]
    complaint = {"title": "Fairmont Lawn Mower", "p_negative": 0.97, "rating": 1, "text": "Broke. Call me: [PHONE]"}
    outcome = {"treated": 0.83, "control": 0.82, "relative": 0.009, "low": -0.042, "high": 0.061}
    return {
        "rows": {"sentiments": 96},
        "changes": {
            "customers": 1982,
            "rows": 19_820,
            "changed": 0.12,
            "unchanged": 0.87,
            "first": 0.01,
            "since": DAY - timedelta(days=1),
            "entered": [{"title": "Product 1", "lists": 41}],
            "left": [{"title": "Product 10", "lists": 40}],
            "examples": examples,
        },
        "opinions": {
            "reviews": 96,
            "labels": {"negative": 0.21, "neutral": 0.1, "positive": 0.69},
            "disagreements": 0.04,
            "categories": [{"category": "Home > Kitchen", "reviews": 31, "negative": 0.4}],
            "complaints": [complaint] * 10,
        },
        "replays": [
            {
                "lists_of": DAY - timedelta(days=7),
                "days": 7,
                "k": 10,
                "customers": 88,
                "hit": (0.31, 0.22, 0.41),
                "recall": (0.19, 0.13, 0.26),
            }
        ],
        "experiment": {
            "starts_on": date(2026, 2, 1),
            "days_seen": 28,
            "horizon_days": 28,
            "treated": 1049,
            "control": 275,
            "verdict": "Winner: none: no difference shown: the 95% interval holds 0.",
            "outcomes": [
                {"name": name, **outcome} for name in ("repeat_purchase_rate", "days_to_next_purchase", "spend")
            ],
        },
    }
