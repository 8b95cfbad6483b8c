"""Views, carts and wishes in prompts: one line a product, a budget of their own, only for models that know them."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from lm.checkpoint.manifest import Manifest
from lm.recommend.co_purchase import purchases_in_prompt
from lm.recommend_training.training_examples import newest_events
from lm.text.prompt import BROWSING_PART, Event, PromptEncoder
from lm.text.template import BROWSING
from tests.models import train_tokenizer

TOKENIZER = train_tokenizer()
FIRST = TOKENIZER.get_vocab_size()
ITEMS = [f"i{n}" for n in range(30)]


def encoder(coding: str = "item_tokens", **training: object) -> PromptEncoder:
    codes = {"item_ids": ITEMS, "first_item_token": FIRST} if coding == "item_tokens" else {}
    return PromptEncoder(TOKENIZER, Manifest.model_validate({"coding": coding, "training": training, **codes}))


def saw(kind: str, item: str) -> Event:
    return Event(kind, item, f"Product {item}")


def lines(prompt: str) -> list[str]:
    return prompt.splitlines()[1:]


def test_a_product_has_one_line_until_it_is_bought() -> None:
    history = [
        saw("viewed", "i1"), saw("in cart", "i1"), saw("viewed", "i1"),  # the cart is the stronger sign
        saw("viewed", "i2"), saw("bought", "i2"),
        saw("bought", "i3"), saw("viewed", "i3"),  # seen again after the purchase
        saw("wished", "i4"), Event("searched", text="tea"),
    ]  # fmt: skip
    prompt = encoder().render(history, 256).prompt
    assert lines(prompt) == [
        "Searched: tea", "In cart: <|item:i1|>", "Viewed: <|item:i3|>", "Wished: <|item:i4|>",
        "<|item:i2|>", "<|item:i3|>",
    ]  # fmt: skip
    assert purchases_in_prompt(encoder().encode(prompt), FIRST).tolist() == [2, 3]
    assert lines(encoder("titles").render(history, 900).prompt) == [
        "Bought: Product i2", "Bought: Product i3", "Searched: tea",
        "In cart: Product i1", "Viewed: Product i3", "Wished: Product i4", "Bought:",
    ]  # fmt: skip


@pytest.mark.parametrize("coding", ["item_tokens", "titles"])
def test_browsing_has_its_own_budget(coding: str) -> None:
    enc = encoder(coding)
    dice = random.Random(1)
    others = [dice.choice([saw("bought", i), Event("searched", text=f"a {i}")]) for i in ITEMS]
    browsed = [saw(dice.choice(BROWSING), i) for i in ITEMS]
    budget = 300
    room = budget - enc.smallest_budget
    alone = enc.render(others, budget)
    both = enc.render([*others, *browsed], budget)
    shown = [line for line in lines(both.prompt) if line.startswith(("Viewed", "In cart", "Wished"))]
    assert 0 < len(enc.encode("".join(f"{line}\n" for line in shown))) <= room // BROWSING_PART
    kept = [line for line in lines(both.prompt) if line not in shown]
    assert kept == lines(enc.render(others, budget - len(enc.encode("".join(f"{line}\n" for line in shown)))).prompt)
    assert both.tokens == len(enc.encode(both.prompt)) <= budget
    assert len(lines(alone.prompt)) - len(kept) <= room // BROWSING_PART
    assert both.events_used == len(shown) + len(kept) - (coding == "titles")


def test_arrow_and_lists_agree_and_the_batch_does_not_matter() -> None:
    dice = random.Random(2)
    kinds = ["bought", "searched", "reviewed", *BROWSING]
    histories = [
        [Event(dice.choice(kinds), dice.choice(ITEMS[:6]), "Tea", "good") for _ in range(dice.randrange(15))]
        for _ in range(40)
    ]
    enc = encoder()
    one_by_one = [enc.render(history, 60) for history in histories]
    assert enc.render_many(histories, 60) == one_by_one
    fields = [(name, pa.int32() if name == "rating" else pa.string()) for name in Event._fields]
    rows = pa.array([[e._asdict() for e in history] for history in histories], pa.list_(pa.struct(fields)))
    assert enc.render_columns(enc.histories(rows), 60).prompt.to_pylist() == [r.prompt for r in one_by_one]


def test_a_model_that_was_trained_without_browsing_reads_none() -> None:
    history = [saw("viewed", "i1"), saw("bought", "i2")]
    assert "Viewed" not in encoder(window={"browsed_events": 0}).render(history, 99).prompt
    assert "Viewed" not in encoder(window={"as_of": "2026-01-01"}).render(history, 99).prompt
    assert "Viewed" not in encoder(window="damaged").render(history, 99).prompt
    assert "Viewed" in encoder(window={"browsed_events": 7}).render(history, 99).prompt


def test_the_newest_of_browsing_and_of_all_others_are_read() -> None:
    history = [saw("viewed" if n % 3 else "bought", f"i{n}") for n in range(12)]
    assert [e.item_id for e in newest_events(history, 2)] == ["i6", "i9", "i10", "i11"]
    assert newest_events(history[::3], 2) == history[::3][-2:]
