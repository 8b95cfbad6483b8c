"""Forms of numbers, ids, stars and words: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.profiling.value_forms import (
    STATUS_WORDS,
    boolean_form,
    entity_form,
    id_form,
    mask,
    number_form,
    rating_form,
    read_number,
)

#: Name of the writing, decimal mark, and how a number of cents is written.
WRITINGS = {
    "1299.00": (".", lambda cents: f"{cents / 100:.2f}"),
    "1,299.00": (".", lambda cents: f"{cents / 100:,.2f}"),
    "1.299,00": (",", lambda cents: swapped(f"{cents / 100:,.2f}")),
    "1299,00": (",", lambda cents: f"{cents / 100:.2f}".replace(".", ",")),
    "1 299,00": (",", lambda cents: swapped(f"{cents / 100:,.2f}").replace(".", " ")),
    "1'299.00": (".", lambda cents: f"{cents / 100:,.2f}".replace(",", "'")),
    "€ 1.299,00": (",", lambda cents: "€ " + swapped(f"{cents / 100:,.2f}")),
    "1.299,00 EUR": (",", lambda cents: swapped(f"{cents / 100:,.2f}") + " EUR"),
    "$1,299.00": (".", lambda cents: f"${cents / 100:,.2f}"),
}


def swapped(text: str) -> str:
    return text.translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize("writing", WRITINGS)
@given(cents=st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_a_written_number_is_read_as_itself(writing: str, cents: list[int]) -> None:
    decimal, write = WRITINGS[writing]
    values = [write(one) for one in cents]
    form = number_form(values)
    assert form is not None
    assert form.question == ""
    assert (form.name == "decimal comma") == (decimal == ",")
    assert [read_number(value, decimal) for value in values] == pytest.approx([one / 100 for one in cents])


def test_a_mark_that_may_group_or_divide_is_asked_for() -> None:
    for values in (["1,299", "2,500"], ["1.299", "2.500"]):
        form = number_form(values)
        assert form is not None
        assert form.question
    decided = number_form(["1,299", "2,500.50"])
    assert decided is not None
    assert (decided.question, decided.sql) == ("", "regexp_replace({0}, '[^0-9.+-]', '')")


def test_a_word_among_plain_numbers_does_not_make_them_anything_else() -> None:
    form = number_form(["12.50"] * 19 + ["n/a"])
    assert form is not None
    assert (form.name, form.sql, form.share) == ("plain number", "{0}", 0.95)


@pytest.mark.parametrize("values", [["tea"], ["85123A"], ["1.2.3"], ["2026-03-01"], ["1,2,3"], []])
def test_what_is_no_number_has_no_form(values: list[str]) -> None:
    assert number_form(values) is None


@pytest.mark.parametrize(
    ("values", "name", "asks"),
    [
        (["5", "1", "3"], "stars", False),
        (["5.0", "1.0"], "stars", False),
        (["4.5", "3"], "stars with fractions; 4.5 counts as 5", False),
        (["4,5", "3,0"], "stars with fractions; 4.5 counts as 5", False),
        (["4.1 out of 5 stars", "5.0 out of 5 stars"], "stars in words; 4.5 counts as 5", False),
        (["4 von 5 Sternen", "1 von 5 Sternen"], "stars in words; 4.5 counts as 5", False),
        (["4/5", "3/5"], "stars in words; 4.5 counts as 5", False),
        (["★★★★☆", "★☆☆☆☆"], "stars as symbols", False),
        (["8/10", "3/10"], "stars in words", True),
        (["8", "10", "3"], "0 to 10", True),
        (["80", "100"], "0 to 100", True),
        (["1", "0"], "0 or 1", True),
        (["0", "3", "5"], "stars", True),
        (["5", "4", "1"] * 50 + ["9", "0", "-1"], "stars", False),
    ],
)
def test_stars_on_any_scale(values: list[str], name: str, asks: bool) -> None:
    form = rating_form(values)
    assert form is not None
    assert (form.name, bool(form.question)) == (name, asks)


@pytest.mark.parametrize("values", [["good"], ["1000"], ["-1", "5"], ["4/5", "8/10"], []])
def test_what_is_no_rating_has_no_form(values: list[str]) -> None:
    assert rating_form(values) is None


def test_yes_and_no_in_other_languages() -> None:
    plain, stock = boolean_form(["true", "FALSE"]), boolean_form(["17", "0"])
    assert plain is not None
    assert plain.sql == "{0}"
    assert stock is not None
    assert stock.question
    words = boolean_form(["Ja", "nein"])
    assert words is not None
    assert words.sql == (
        "CASE WHEN lower(trim({0})) IN ('ja') THEN true WHEN lower(trim({0})) IN ('nein') THEN false END"
    )
    assert boolean_form(["perhaps"]) is None
    assert boolean_form([]) is None


def test_ids_that_a_spreadsheet_has_changed() -> None:
    assert id_form(["17850.0", "13047.0"]).name == "ids like 17850.0"
    assert id_form(["6.93E+12"]).question
    assert id_form(["17850.0", "13047.0", "85123A", "x"]).share == 0.5
    assert id_form(["6.93E+12", "17850.0", "85123A", "x"]).share == 0.25
    assert id_form(["85123A", "17850", "1.5", "00.12"]).name == "text"
    assert id_form([]).name == "text"


def test_entities_are_replaced_with_the_ampersand_last() -> None:
    form = entity_form(["Tea &amp; cup", "5 &#39;cups&#39;", "plain"])
    assert form is not None
    assert form.sql == "replace(replace({0}, '&#39;', ''''), '&amp;', '&')"
    assert form.share == pytest.approx(2 / 3)
    assert entity_form(["Tea & cup", "&unknown;"]) is None


@given(st.text(max_size=60))
def test_a_mask_keeps_no_letter_and_no_digit_of_a_value(value: str) -> None:
    shape = mask(value)
    if not shape.startswith("text of ") and shape.lower() not in STATUS_WORDS:
        assert set(shape) <= set("xX9") | {c for c in value if not c.isalnum()} | {" "}


def test_a_mask_shows_words_that_describe_no_person() -> None:
    assert mask("cancelled") == "cancelled"
    assert mask("Ann Lee, 12") == "Xxx Xxx, 99"
    assert mask("x" * 50) == "text of 50 characters"
