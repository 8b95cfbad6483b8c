"""The page says all facts of the night, in one small file that needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from jobs.report.facts import NightFacts
from jobs.report.page import duration, render
from jobs.report.write import one_line
from tests.reports import DAY, night_facts

OUTCOMES = {"published": "PUBLISHED", "carried": "PUBLISHED IN PART", "kept": "KEPT YESTERDAY", "failed": "FAILED"}
VOID = {"meta", "link", "br", "rect", "path", "line", "circle"}


class Page(HTMLParser):
    """Collects the tags, the text and the tags that are open at the end of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag
        self.words += " " if tag in ("td", "th", "li", "p", "dd", "dt", "h1", "h2", "h3", "h4") else ""

    def handle_data(self, data):
        self.words += data if self.open and self.open[-1] not in ("style", "text") else ""


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_page_is_one_small_file_without_scripts_and_requests(outcome):
    html = render(night_facts(outcome), "Europe/London")
    page = Page(html)
    assert len(html.encode()) < 150_000
    assert page.open == []
    names = {name for name, _ in page.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "video", "audio", "form"}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    places = [attributes.get("href") for _, attributes in page.tags if "href" in attributes]
    assert all(
        place == "data:," or re.fullmatch(r"\.\./run_date=\d{4}-\d\d-\d\d/index\.html", place) for place in places
    )
    assert "@import" not in html
    assert "url(" not in html
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby",):
        assert {attributes[attribute] for _, attributes in page.tags if attribute in attributes} <= set(ids)
    levels = [int(name[1]) for name, _ in page.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


@pytest.mark.parametrize(("outcome", "headline"), OUTCOMES.items())
def test_the_first_screen_says_outcome_date_margin_freshness_and_command(outcome, headline):
    facts = night_facts(outcome)
    words = " ".join(Page(render(facts, "Europe/London")).words.split())
    first = words[: words.index("The last 35 dates")]
    assert f"{headline} {DAY}" in first
    assert "2 h 38 min" in first
    assert facts.command in first
    assert facts.reason in first
    if facts.input_ages:
        assert "74 h 12 min" in first
        assert first.count("older than usual") == 1


def test_every_fact_is_on_the_page_and_long_tables_say_what_they_left_out():
    facts = night_facts()
    html = render(facts, "Europe/London")
    words = " ".join(Page(html).words.split())
    for said in (
        "12% of the lists changed, 87% stayed the same, and 1.0% belong to customers without an earlier list",
        "Corvane Ink & Toner <XL> (new)",
        "Product 9 (was 9)",
        "Home > Kitchen 31 40%",
        "Broke. Call me: [PHONE]",
        "recommend 1,700 282 0 31,548 820.0",
        "purchases 100 88 9 3 yes",
        "the first 15 rules; 3 rules with 252 rows are left out",
        "31% 22% to 41%",
        "Fewer than 100 customers",
        "1,049 treated and 275 control customers since 2026-02-01, 28 of 28 days seen",
        "0123456789abcdef",
        "2026-03-02 02:30:00 Europe/London",
        "0.67 EUR",
    ):
        assert said in words, said
    assert words.count("missing") > words.count("carried") > 0
    assert "<XL>" not in html


def test_a_page_says_what_a_young_shop_does_not_have():
    full = night_facts()
    assert full.changes is not None
    assert full.experiment is not None
    nothing = {"opinions": None, "replays": [], "tasks": [], "input_ages": [], "days": full.days[-1:], "cost": None}
    changes = full.changes.model_copy(update={"since": None, "examples": [], "entered": [], "left": []})
    experiment = full.experiment.model_copy(update={"outcomes": []})
    facts = night_facts(**nothing, changes=changes, experiment=experiment, deadline=None, deadline_margin_seconds=None)
    words = " ".join(Page(render(facts, "UTC")).words.split())
    for said in ("There is no earlier date to compare them with", "none set", "no price set", "1,049 treated and"):
        assert said in words, said
    for missing in ("What customers say", "Did the lists come true", "Seconds of a night"):
        assert missing not in words


def test_an_input_row_that_has_no_outcome_is_told():
    facts = night_facts(inputs=[{"table": "purchases", "read": 100, "outcomes": {"used": 99}}])
    assert "purchases 100 99 no" in " ".join(Page(render(facts, "UTC")).words.split())


def test_run_json_holds_all_facts_and_a_later_release_may_add_some():
    facts = night_facts()
    text = facts.model_dump_json()
    assert NightFacts.model_validate_json(text) == facts
    assert NightFacts.model_validate_json(text.replace("{", '{"of_a_later_release": 1,', 1)) == facts


def test_the_line_says_the_night():
    assert one_line(night_facts(), "/s/index.html") == (
        "PUBLISHED 2026-03-01 | 1,982 lists with 19,820 products, 12% changed; 96 labelled reviews | 22 min | "
        "2 h 38 min to the deadline | report: /s/index.html"
    )
    assert "Readers find the data of 2026-02-28 | " in one_line(night_facts("failed"), "x")
    assert "Nothing is published yet" in one_line(night_facts("failed", newest_published=None), "x")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.6, "90 s"), (90, "2 min"), (5400, "1 h 30 min"), (-130, "-2 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_strip_names_its_months_and_stages_are_in_order_of_seconds():
    facts = night_facts("published")
    html = render(facts.model_copy(update={"seconds": {"inputs": 2.0, "publish": 9.0, "prompts": 4.0}}), "UTC")
    assert f"<i>{facts.days[0].run_date:%b}</i>" in html
    table = html[html.index("Stages, the longest first") :]
    assert table.index(">publish<") < table.index(">prompts<") < table.index(">inputs<")


def test_a_shop_without_a_sentiment_model_reads_of_no_labels():
    facts = night_facts("published")
    rows = {name: n for name, n in facts.rows.items() if name != "sentiments"}
    tasks = [one for one in facts.tasks if one.task != "sentiment"]
    html = render(facts.model_copy(update={"rows": rows, "tasks": tasks}), "UTC")
    assert "labelled reviews" in render(facts, "UTC")
    assert "labelled reviews" not in html
