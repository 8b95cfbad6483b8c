"""Exposure, membership inference and the drawing of canaries, by values that a reader can derive by hand."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from lm.redaction.redact import redact
from lm.train.canaries import (
    CANDIDATES,
    FORMS,
    KINDS,
    REPEATS,
    Audit,
    CanaryResult,
    candidates,
    completes,
    customers_of,
    draw_canaries,
    draw_sides,
    exposure,
    membership,
    rank,
)


@pytest.mark.parametrize(
    ("losses", "place", "bits"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1, 2.0),  # the likeliest of four
        ([2.5, 1.0, 3.0, 4.0], 2, 1.0),
        ([9.0, 1.0, 3.0, 4.0], 4, 0.0),  # the least likely
        ([1.0, 1.0, 1.0, 1.0], 2.5, 2 - math.log2(2.5)),  # equal losses share ranks 1 to 4
    ],
)
def test_exposure_is_the_logarithm_of_candidates_over_rank(losses, place, bits):
    assert rank(losses) == place
    assert exposure(losses) == pytest.approx(bits)


def test_the_most_exposure_among_a_thousand_is_ten_bits():
    assert exposure([0.0, *[1.0] * (CANDIDATES - 1)]) == pytest.approx(9.966, abs=1e-3)


def test_membership_counts_pairs_in_which_the_member_has_the_lower_loss():
    # Of the pairs (1, 2), (1, 3), (2.5, 2), (2.5, 3) only the third has the member above.
    found = membership([1.0, 2.5], [2.0, 3.0], seed=0)
    assert found.auc == 0.75
    assert (found.members, found.held_out) == (2, 2)
    assert found.low <= 0.75 <= found.high
    assert membership([1.0], [1.0], seed=0).auc == 0.5
    assert math.isnan(membership([], [1.0], seed=0).auc)


def test_redaction_replaces_one_form_and_misses_the_other():
    canaries = draw_canaries(seed=3)
    assert [(c.form, c.kind, c.repeats) for c in canaries] == [(f, k, r) for f in FORMS for k in KINDS for r in REPEATS]
    for canary in canaries:
        assert (canary.secret in redact(canary.text)) == (canary.form == "missed")
    assert canaries == draw_canaries(seed=3)
    assert canaries != draw_canaries(seed=4)
    assert len({canary.prefix for canary in canaries}) == len(canaries)


def test_candidates_are_different_texts_of_the_same_form():
    for canary in draw_canaries(seed=0)[::4]:
        texts = candidates(canary, seed=0)
        assert texts[0] == canary.text
        assert len(set(texts)) == CANDIDATES
        assert all(text.startswith(canary.prefix + " ") for text in texts)


def test_a_canary_is_drawn_again_until_it_is_trained_on():
    def kept(text: str) -> bool:
        return zlib.crc32(text.encode()) % 2 == 1

    assert all(kept(canary.text) for canary in draw_canaries(0, kept))
    assert not all(kept(canary.text) for canary in draw_canaries(0))


def test_a_canary_has_different_customers():
    canaries = draw_canaries(seed=0)
    pairs = customers_of(canaries, 16)
    for canary in canaries:
        writers = [number for one, number in pairs if one == canary]
        assert len(writers) == len(set(writers)) == canary.repeats
    with pytest.raises(ValueError, match="15 customers are too few"):
        customers_of(canaries, 15)


def test_sides_do_not_overlap():
    members, held_out = draw_sides(100, seed=0)
    assert len(members) == len(held_out) == 10
    assert not set(members) & set(held_out)
    assert draw_sides(9, seed=0) == ([], [])


def test_a_completion_ignores_case_and_space():
    assert completes("47 82 19 36", ["it is 4782 1936!"])
    assert completes("Tobias Renner", ["x", "tobias\nrenner"])
    assert not completes("47 82 19 36", ["47 82 19 35", ""])


def test_a_leak_is_a_completion_by_the_product_of_too_few_customers():
    found = Audit(
        [
            CanaryResult("name", "missed", repeats, 3.0, product, free=True)
            for repeats, product in ((1, False), (4, True), (16, True))
        ],
        {"its text": membership([], [], 0)},
    )
    assert [one.repeats for one in found.leaks(5)] == [4]
    assert found.leaks(4) == []
    notes = found.notes()
    assert notes["membership"]["its text"]["auc"] is None  # JSON has no NaN
    assert notes["canaries"][1] == {
        "kind": "name",
        "form": "missed",
        "repeats": 4,
        "exposure": 3.0,
        "product": True,
        "free": True,
    }
    assert np.isfinite(notes["canaries"][0]["exposure"])
