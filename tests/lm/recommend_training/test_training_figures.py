"""What a training says of its lists beside counting."""

from __future__ import annotations

import pytest

from lm.recommend_training.training_examples import CustomerEvents
from lm.recommend_training.training_figures import cut_histories_note, is_worse, verdict
from lm.text.template import Event


def figures(**leads: tuple[float, float, float]) -> dict[str, float]:
    found = {"ndcg@10": 0.3, "customers": 100.0}
    for name, values in leads.items():
        for end, value in zip(("", "_low", "_high"), values, strict=True):
            found[f"{name}_lead_ndcg@10{end}"] = value
    return found


def test_a_lead_over_each_baseline_needs_no_more_words():
    found = figures(buy_again=(0.023, 0.012, 0.033), popularity=(0.2, 0.1, 0.3))
    assert not is_worse(found)
    assert verdict(found | {"gpt2_weight": 0.5}) == (
        "NDCG@10 of held-out purchases: better than buy again by +0.023 (+0.012 to +0.033), better than popularity by "
        "+0.200 (+0.100 to +0.300)."
    )


@pytest.mark.parametrize(
    ("lead", "more", "says"),
    [
        ((0.001, -0.004, 0.006), {"gpt2_weight": 0.12}, "not shown to differ from popularity: +0.001"),
        ((0.001, -0.004, 0.006), {"gpt2_weight": 0.12}, "gave GPT-2 the weight 0.12, and counting the rest"),
        ((0.001, -0.004, 0.006), {"gpt2_weight": -0.002}, "gave GPT-2 no weight, so counting makes the lists."),
        ((0.0, 0.0, 0.0), {"mixture_ndcg@10": 0.25}, "purchases: as good as popularity for every customer."),
        ((-0.02, -0.03, -0.01), {"gpt2_weight": 0.9}, "purchases: worse than popularity by 0.020 (0.010 to 0.030)."),
        ((-0.02, -0.03, -0.01), {"mixture_ndcg@10": 0.25}, "They are better, and still worse than a baseline."),
        ((-0.02, -0.03, -0.01), {"gpt2_weight": 0.9}, "Counting alone makes no better lists, so the mixture stays"),
        ((-0.02, -0.03, -0.01), {}, "Counting has no part in these lists. It needs train.recommend.coding"),
        ((0.0, 0.0, 0.0), {"mixture_ndcg@10": 0.25}, "better than the mixture with GPT-2 (0.250), so counting alone"),
    ],
)
def test_what_was_done_without_a_lead(lead, more, says):
    found = figures(popularity=lead) | more
    assert says in verdict(found)
    assert is_worse(found) == (lead[2] < 0)


@pytest.mark.parametrize(("customers", "lead"), [(1, (-0.3, -0.3, -0.3)), (9, (0.3, 0.3, 0.3))])
def test_too_few_customers_show_no_lead(customers, lead):
    found = figures(popularity=lead) | {"customers": float(customers), "gpt2_weight": 0.5}
    assert not is_worse(found)
    assert f"{lead[0]:+.3f} beside popularity, of too few customers to tell. Validation purchases" in verdict(found)


@pytest.mark.parametrize(("lead", "most", "is_told"), [(-0.01, 2, True), (-0.01, 3, False), (0.01, 2, False)])
def test_a_shop_whose_histories_are_cut_is_told(lead, most, is_told):
    customers = [CustomerEvents([Event("bought", "a", "a")] * events, range(events)) for events in (1, 3)]
    note = cut_histories_note({"buy_again_lead_ndcg@10": lead}, customers, most)
    assert (note is not None) == is_told
    if note is not None:
        assert "(recommend.history_events), and 50% of the customers have more" in note
