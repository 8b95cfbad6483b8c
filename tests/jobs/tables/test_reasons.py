"""Reasons name the customer's own events; `because` names neither rare searches nor redacted texts."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from jobs.tables import reasons, recommendations
from jobs.tables.reasons import EVENTS

AT = datetime(2026, 2, 1, tzinfo=UTC)
EVENT = "kind:string,text:string,title:string,at:timestamp,weight:double"
LISTS = f"user_id string, title string, reasons array<struct<{EVENT}>>"


def event(kind, text, title=None, weight=1.0):
    return (kind, text, title, AT, weight)


BOUGHT = event("bought", "Blue kettle", "Blue kettle")
REVIEWED = event("reviewed", "Red mug: lovely", "Red mug")
FREQUENT, RARE, REDACTED = (
    event("searched", "tea  Pot"),
    event("searched", "my secret"),
    event("searched", "call [PHONE]"),
)
CASES = {
    "both": ([BOUGHT, FREQUENT], "Because you searched for “tea  Pot” and bought Blue kettle.", None),
    "product": ([REVIEWED, BOUGHT], "Because you reviewed Red mug.", "因为您评价过Red mug。"),
    "search": ([FREQUENT], "Because you searched for “tea  Pot”.", "因为您搜索过“tea  Pot”。"),
    "light search": ([BOUGHT, event("searched", "tea pot", weight=0.2)], "Because you bought Blue kettle.", None),
    "light product": (
        [event("searched", "tea pot"), event("bought", "x", "Mug", weight=0.2)],
        "Because you searched for “tea pot”.",
        None,
    ),
    "rare": ([RARE, BOUGHT], "Because you bought Blue kettle.", "因为您购买过Blue kettle。"),
    "only rare": ([RARE], None, None),
    "unlike": ([event("searched", "dog leash 5 m", weight=2.0), BOUGHT], "Because you bought Blue kettle.", None),
    "only unlike": ([event("searched", "狗粮")], None, None),
    "lighter but alike": (
        [event("searched", "dog leash 5 m", weight=2.0), FREQUENT],
        "Because you searched for “tea  Pot”.",
        None,
    ),
    "Chinese": ([event("searched", "茶壶 1升")], "Because you searched for “茶壶 1升”.", None),
    "redacted": ([REDACTED], None, None),
    "redacted title": ([event("bought", "x", "for [EMAIL]")], None, None),
    "untitled": ([event("bought", "i7", " ")], None, None),
    "none": ([], None, None),
    "not explained": (None, None, None),
}


def test_because_names_the_heaviest_events_that_may_be_named(spark):
    lists = spark.createDataFrame([(name, "Teapots 红茶壶", found) for name, (found, *_) in CASES.items()], LISTS)
    frequent = ("Tea pot", "dog leash 5 m", "狗粮", "茶壶 1升")
    asked = [(f"u{n}", text) for n in range(5) for text in frequent] + [("u1", "call [PHONE]")] * 9
    asked += (
        [("u1", "my secret")] * 9
        + [(f"u{n}", "my secret") for n in range(4)]
        + [(f"u{n}", "call [PHONE]") for n in range(7)]
    )
    searches = spark.createDataFrame(asked, "user_id string, query string")
    english = reasons.with_because(lists, searches, "en", 5)
    assert english.schema["reasons"].dataType.simpleString() == reasons.REASONS
    assert {r.user_id: r.because for r in english.collect()} == {name: text for name, (_, text, _) in CASES.items()}
    chinese = {r.user_id: r.because for r in reasons.with_because(lists, searches, "zh", 5).collect()}
    assert chinese["both"] == "因为您搜索过“tea  Pot”并购买过Blue kettle。"
    assert {name: text for name, text in chinese.items() if CASES[name][2]} == {
        n: c[2] for n, c in CASES.items() if c[2]
    }


def test_without_searches_no_search_is_named(spark):
    lists = spark.createDataFrame([("u1", "Tea", [FREQUENT, BOUGHT]), ("u2", "Tea", [FREQUENT])], LISTS)
    found = {r.user_id: r.because for r in reasons.with_because(lists, None, "en", 5).collect()}
    assert found == {"u1": "Because you bought Blue kettle.", "u2": None}


def test_customers_with_one_request_get_their_own_times(spark):
    other = datetime(2026, 2, 2, tzinfo=UTC)
    prompts = spark.createDataFrame(
        [
            ("u1", "k", "h", [("bought", "Kettle", "Kettle", AT)]),
            ("u2", "k", "h", [("bought", "Kettle", "Kettle", other)]),
        ],
        f"user_id string, key string, prompt_hash string, events {EVENTS}",
    )
    parts = (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    listed = [("a", -1.0, parts, [(0, 0.5)], None, None), ("b", -2.0, parts, None, None, None)]
    results = spark.createDataFrame(
        [("k", "h", listed, "m", "c", date(2026, 3, 1), "new")],
        f"key string, prompt_hash string, result {recommendations.RESULT}, model_version string,"
        " catalogue_version string, scored_on date, why_scored string",
    )
    items = spark.createDataFrame([(i, i, True) for i in "ab"], "item_id string, title string, available boolean")
    rows = recommendations.lists(prompts, results, items, 2).orderBy("user_id", "rank").collect()
    assert [r.reasons and [(e.kind, e.text, e.at.astimezone(UTC), e.weight) for e in r.reasons] for r in rows] == [
        [("bought", "Kettle", AT, 0.5)],
        None,
        [("bought", "Kettle", other, 0.5)],
        None,
    ]
    assert {tuple(r.parts) for r in rows} == {parts}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("only_first", "explained"), [(True, 1), (False, 3)])
def test_scored_reasons_keep_the_heaviest_events_above_zero(tmp_path, only_first, explained):
    from tests.lm.recommend.test_recommender import ITEMS, TITLES, make_recommender
    from tests.models import save_causal

    model = make_recommender(save_causal(tmp_path / "m", item_ids=ITEMS[:150], spread=0.15), ITEMS, TITLES)
    prompt = "Customer history\n" + "".join(f"Searched: ink {n}\n" for n in range(8)) + "<|item:i004|>\n"
    lists = model.recommend([prompt, "Customer history\n"], [[], []], 3)
    found = reasons.scored_reasons(model, [prompt, "Customer history\n"], lists, only_first=only_first)
    assert [[one[:2] for one in row] for row in found] == [[(c.item_id, c.score) for c in row] for row in lists]
    assert all(abs(sum(parts) - score) < 1e-4 for row in found for _, score, parts, _ in row)
    assert [sum(weights is not None for *_, weights in row) for row in found] == [explained, explained]
    weights = found[0][0][3]
    assert [weight for _, weight in weights] == sorted((weight for _, weight in weights), reverse=True)
    assert len(weights) <= reasons.KEPT
    assert all(weight > 0 for _, weight in weights)
    assert found[1][0][3] == []
