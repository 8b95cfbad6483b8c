"""Lists under one cap, decided for many requests at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm.recommend.flat_lists import flat_lists
from lm.recommend.list_rules import Cap, Resolved

NONE = np.empty(0, np.int64)


@given(st.lists(st.lists(st.integers(-1, 3), max_size=12), min_size=1, max_size=6), st.integers(1, 3))
def test_a_product_is_listed_if_fewer_better_ones_of_its_value_are(values: list[list[int]], most: int) -> None:
    products = max(map(len, values))
    value = np.full(len(values) * products, -1)
    for n, of in enumerate(values):
        value[n * products : n * products + len(of)] = of
    cap = Cap("one a brand", value, most)
    none = np.zeros(len(value), np.float32)
    rules = [Resolved(none, none, (), (), NONE, np.empty(0, np.float32), (), caps=[cap])]
    request = np.repeat(np.arange(len(values)), [len(of) for of in values])
    row = np.concatenate([n * products + np.arange(len(of)) for n, of in enumerate(values)])
    found = flat_lists(request, row, rules * len(values))
    wanted, moved = [], []
    for of in values:
        listed = [one < 0 or of[:n].count(one) < most for n, one in enumerate(of)]
        wanted += listed
        moved += [is_listed and not all(listed[:n]) for n, is_listed in enumerate(listed)]
    assert found.listed.tolist() == wanted
    assert [names == ("one a brand",) for names in found.names] == moved
