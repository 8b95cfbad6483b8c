"""How many events prompts have: the fewest that buy again needs."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lm.checkpoint.manifest import Manifest, read_manifest
from lm.recommend_training.fine_tuning import TitleTuning
from lm.recommend_training.held_out import HeldOut, Split
from lm.recommend_training.history_events import chosen_history_events
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.recommend_training.training_examples import CustomerEvents
from lm.text.prompt import Event, PromptEncoder
from tests.models import train_tokenizer

STAPLES = [f"s{n:02}" for n in range(20)]
OTHERS = [f"x{n:03}" for n in range(300)]
ITEMS = {item: f"product {item}" for item in [*STAPLES, *OTHERS]}
SETTINGS = RecommendTrainSettings(exclude_purchased=False, max_tokens=260)


@pytest.fixture(scope="module")
def encoder():
    tokenizer = train_tokenizer(ITEMS.values(), vocab_size=300)
    manifest = Manifest(coding="item_tokens", item_ids=sorted(ITEMS), first_item_token=tokenizer.get_vocab_size())
    return PromptEncoder(tokenizer, manifest, context_tokens=512)


def bought(item):
    return Event("bought", item, ITEMS[item])


def person(rng, own_baskets, others_after):
    """Baskets of two own staples and one other product, then purchases of other products alone."""
    own = rng.sample(STAPLES, 2)
    events = [bought(item) for _ in range(own_baskets) for item in (*own, rng.choice(OTHERS))]
    events += [bought(item) for item in rng.sample(OTHERS, others_after)]
    return HeldOut(events, frozenset(event.item_id for event in events if event.item_id), frozenset(own))


def split(people):
    return Split([CustomerEvents(one.events, range(len(one.events))) for one in people], people, people, [])


@pytest.mark.parametrize(
    ("others_after", "chosen"), [(0, 50), (30, 50), (80, 100), (140, 200)], ids=["none", "few", "many", "most"]
)
def test_the_fewest_events_that_reach_the_repeats_are_chosen(encoder, others_after, chosen):
    rng = random.Random(0)
    people = split([person(rng, 6, others_after) for _ in range(40)])
    assert chosen_history_events(encoder, people, SETTINGS) == chosen
    assert chosen_history_events(encoder, people, replace(SETTINGS, exclude_purchased=True)) == 50


def test_a_gain_of_one_customer_in_many_is_within_a_standard_error(encoder):
    rng = random.Random(1)
    one, many = person(rng, 6, 140), [person(rng, 16, 0) for _ in range(40)]
    assert chosen_history_events(encoder, split([one, *many]), SETTINGS) == 50
    assert chosen_history_events(encoder, split([one]), SETTINGS) == 50


def test_events_that_no_prompt_holds_are_no_gain(encoder):
    rng = random.Random(2)
    people = split([person(rng, 6, 80) for _ in range(40)])
    assert chosen_history_events(encoder, people, replace(SETTINGS, max_tokens=80)) == 50


def test_titles_are_learned_after_as_many_events_as_a_night_reads(encoder):
    few = PromptEncoder(encoder.tokenizer, Manifest(history_events=2), context_tokens=512)
    tuning = TitleTuning(None, few, ITEMS, replace(SETTINGS, coding="titles"))
    events = [bought(item) for item in STAPLES[:5]]
    (read,) = tuning.examples([(events, "x000")])
    assert read.tokens.tolist() == [*few.encode(few.render(events[-2:], 260).prompt), *few.answer_tokens(ITEMS["x000"])]


def test_a_training_writes_its_choice_and_the_configured_number(tmp_path):
    rng = random.Random(3)
    customers = []
    for _ in range(30):
        held = person(rng, 6, 80)
        last = sorted(held.items)
        events = [*held.events, *map(bought, last), bought(OTHERS[0]), *map(bought, last)]
        days = [*range(len(held.events)), *[200] * len(last), 200, *[210] * len(last)]
        customers.append(CustomerEvents(events, days))
    tiny = replace(SETTINGS, n_embd=16, n_layer=1, vocab_size=300, max_epochs=1, pretrain_epochs=0)
    for configured, written in ((None, 100), (70, 70)):
        out = tmp_path / str(written)
        train_recommend(customers, ITEMS, replace(tiny, history_events=configured), out)
        assert read_manifest(out).history_events == written
