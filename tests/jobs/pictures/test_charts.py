"""Charts are small SVG texts that need no script and look the same each time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from jobs.pictures import charts
from jobs.pictures.reliability_diagram import reliability_svg
from jobs.pictures.training_curves import training_svg

DAYS = [f"03-{day:02d}" for day in range(1, 31)]
SHARES = {"bad": [0.25] * 30, "fine": [0.75] * 30}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.stacked_areas("Shares", DAYS, SHARES),
        lambda: charts.bars("Seconds", DAYS, [float(day) for day in range(30)]),
        lambda: charts.intervals("Effects", {"spend": (0.1, -0.2, 0.3)}),
        lambda: reliability_svg([{"confidence": 0.9, "accuracy": 0.8, "reviews": 9}], 0.1),
        lambda: training_svg("recommend", [{"stage": "finetune", "epoch": 0, "loss": 5.0, "ndcg@10": 0.2}]),
    ],
)
def test_a_chart_is_small_and_self_contained_and_equal_data_gives_equal_text(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert len(svg) < 10_000
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "image", "a", "foreignObject"}
    assert re.findall(r"https?://[^\"' ]+", svg) == ["http://www.w3.org/2000/svg"]
    assert draw() == svg


def heights(svg: str) -> list[float]:
    return [
        float(bar.get("height", 0))
        for bar in ElementTree.fromstring(svg).findall(".//{*}rect")
        if bar.get("class", "").startswith("rect")
    ]


def test_bars_are_as_high_as_their_values():
    one, two, four = heights(charts.bars("Seconds", ["a", "b", "c"], [1.0, 2.0, 4.0]))
    assert (two / one, four / one) == (pytest.approx(2, rel=0.01), pytest.approx(4, rel=0.01))


def test_the_reliability_diagram_has_each_bin_at_its_place():
    bins = [{"confidence": 0.5, "accuracy": 0.5, "reviews": 700}, {"confidence": 0.9, "accuracy": 0.1, "reviews": 500}]
    svg = ElementTree.fromstring(reliability_svg(bins, 0.2))
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in svg.findall(".//{*}circle")]
    (left, bottom), (right, top), calibrated, sure = dots  # the ends of the diagonal, then the bins
    middle = ((left + right) / 2, (top + bottom) / 2)
    assert calibrated == pytest.approx(middle, abs=1)
    assert sure[0] == pytest.approx(left + 0.9 * (right - left), abs=1)
    assert sure[1] == pytest.approx(bottom + 0.1 * (top - bottom), abs=1)
    assert any(
        "1,200 reviews, expected calibration error 0.200" in (text.text or "") for text in svg.findall(".//{*}text")
    )


def test_curves_have_the_losses_on_the_left_axis_and_all_else_on_the_right():
    lines = [{"stage": "s", "epoch": n, "loss": 6.0 - n, "seconds": 1.0, "ndcg@10": 0.1 * n} for n in range(4)]
    texts = [text.text for text in ElementTree.fromstring(training_svg("recommend", lines)).findall(".//{*}text")]
    assert {"loss", "ndcg@10 (right)", "Training of recommend by epoch"} <= set(texts)
    assert not any("seconds" in (text or "") for text in texts)
    assert training_svg("recommend", []) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [(2.4e6, "2.4 million"), (1.25e9, "1.25 billion"), (12_345, "12,345"), (0.125, "0.125"), (0, "0"), (90, "90")],
)
def test_numbers_of_an_axis_are_written_as_people_write_them(value, words):
    assert charts.in_words(value) == words
