"""Numbers in digits and in words, and their units, in one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.answers.grounding import atoms
from lm.answers.quantities import canonical_number, quantity_at


def quantities(text: str) -> list[str]:
    found = [quantity_at(text, atom.start, atom.end)[0] for atom in atoms(text) if atom.kind == "number"]
    return [value if unit is None else f"{value} {unit}" for value, unit in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("within 14 days or fourteen days or 14-day", ["14 day", "14 day", "14 day"]),
        ("half a year, half an hour, a year, one working day", ["0.5 year", "0.5 hour", "1 year", "1 working day"]),
        ("twenty-one nights, two hundred and five, three thousand", ["21 night", "205", "3000"]),
        ("£3.99, 3.99 euros, $5, USD 7", ["3.99 gbp", "3.99 eur", "5 usd", "7 usd"]),
        ("20%, 20 per cent, 20 percent", ["20 percent"] * 3),
        ("3 to 5 working days, 2 business days", ["3 working day", "5 working day", "2 working day"]),
        ("30days, 250ml, 2 more weeks", ["30 day", "250 ml", "2 week"]),
        ("1,000 pounds, 1000 GBP, 3.50, 3.5", ["1000 gbp", "1000 gbp", "3.5", "3.5"]),
        ("两周，十四天，半年，一年，3个工作日", ["2 week", "14 day", "0.5 year", "1 year", "3 working day"]),
        ("三十天，一百二十元，两万个，一个月", ["30 day", "120 cny", "20000 piece", "1 month"]),
        ("A0000042-003, 24/7, 2026-02-11, 3pm", ["a0000042-003", "24/7", "2026-02-11", "3pm"]),
        ("one of us, a friend, 一个问题", []),
    ],
)
def test_quantities_of_a_text(text, expected):
    assert quantities(text) == expected


@given(st.integers(1, 10**9))
def test_digits_with_and_without_commas_are_equal(number):
    assert canonical_number(f"{number:,}") == canonical_number(str(number)) == str(number)
