"""Titles that say nothing are recognised, whatever their numbers, and real ones are kept."""

from __future__ import annotations

import pytest

from lm.recommend.plain_titles import telling_titles, title_or_nothing, untold_note

REAL = {f"B{n:03}": f"{colour} {thing}" for n, (colour, thing) in enumerate((c, t) for c in "abcde" for t in "vwxyz")}


@pytest.mark.parametrize(
    ("item", "title"),
    [("B1", "B1"), ("b1", "B-1"), ("B1", " "), ("B1", "N/A"), ("B1", "Untitled"), ("B1", "4711"), ("B1", "B1 (12)")],
)
def test_a_title_without_words_of_its_own_says_nothing(item, title):
    assert telling_titles(REAL | {item: title}) == REAL
    assert title_or_nothing(item, title) == ""
    assert title_or_nothing(item, "red teapot 4711") == "red teapot 4711"


@pytest.mark.parametrize("template", ["{}", "Item {}", "Product no. {}", "Our product", "SKU-{}-EU"])
def test_what_most_products_share_says_nothing(template):
    same = {f"x{n}": template.format(1000 + n) for n in range(30)}
    assert telling_titles(same | REAL) == REAL
    assert telling_titles(same) == {}


def test_names_with_numbers_and_few_products_are_kept():
    few = {"a": "Item 1", "b": "Item 2"}  # two products may well have such names
    assert telling_titles(few) == few
    shirts = {f"s{n}": f"T-shirt {n}" for n in range(20)} | REAL  # a large share, but not most
    assert telling_titles(shirts) == shirts
    model_numbers = {"WD40": "Corvane WD40", "a": "7UP", "b": "黑色墨盒"}
    assert telling_titles(model_numbers) == model_numbers


def test_the_note_counts_them():
    assert untold_note(REAL) is None
    note = untold_note({item: item for item in REAL}, "purchases")
    assert note is not None
    assert note.startswith("purchases.title: 25 of 25 titles repeat the id")
    assert note.endswith("name it in inputs.purchases.columns.title.")
    assert "B001" not in note
