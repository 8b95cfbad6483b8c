"""Draws the sample shop's searches: some precede a purchase, the others do not lead to one.

A search names the family, often the brand and sometimes the variant of the product that the customer has in mind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sample.catalogue import FAMILIES
from jobs.sample.customers import FAVOURITES, SimulatedPurchases, pick_from_line, pick_product_line
from jobs.sample.events import CustomerBlock, finished, with_control_characters
from jobs.sample.personal import draw_personal_data
from jobs.sample.random import Bools, Dice, Floats, Ints, hashed, normal, uniform
from jobs.sample.review_grammar import with_typo

_P_ANNOUNCED = 0.60
_LEAD = (np.log(40 / 1440), 1.5)  # lognormal in days: half of the purchases follow within 40 minutes
_P_IDLE = 0.45
_IDLE_UNTIL = 0.75  # share of the time between two purchases; later searches announce the purchase
_P_IDLE_LAST = 0.50
#: Cumulative shares of: brand and word; brand, word and variant; word and variant. The rest is the word alone.
_FORMS = (0.40, 0.60, 0.75)
_TYPOS = 0.04
_PERSONAL = 0.003

#: Shares of searches that are dirty, one kind a row.
SEARCH_DIRT = {
    "duplicate": 0.003,
    "null_user": 0.003,
    "future": 0.002,
    "blank_query": 0.001,
    "control_characters": 0.002,
}


@dataclass(frozen=True)
class SimulatedSearches:
    """The searches of a block as (s,) arrays."""

    customer: Ints
    step: Ints  # distinct within the customer
    day: Floats
    item: Ints  # the item that the customer has in mind
    announces: Bools  # whether the customer then buys it


def draw_searches(block: CustomerBlock, bought: SimulatedPurchases) -> SimulatedSearches:
    """Draw the searches before purchases, between them, and after the last one."""
    people = block.people
    key = people.key[bought.customer]
    gap = bought.day - bought.previous_day
    announced = (gap > 0) & (uniform(key, "announced", bought.step) < _P_ANNOUNCED)
    lead = np.minimum(np.exp(_LEAD[0] + _LEAD[1] * normal(key, "lead", bought.step)), (1 - _IDLE_UNTIL) * gap)
    idle = (gap > 0) & (uniform(key, "idle", bought.step) < _P_IDLE)
    idle_day = bought.previous_day + _IDLE_UNTIL * gap * uniform(key, "idle moment", bought.step)
    last_day = people.joined.copy()
    last_day[bought.customer] = bought.day  # rows are sorted by time, so the last one wins
    last = (uniform(people.key, "idle at last") < _P_IDLE_LAST) | (people.purchases == 0)
    at_last = last_day + np.maximum(0.0, people.left - last_day) * uniform(people.key, "last moment")

    everyone = np.arange(len(people.key))
    customer = np.concatenate([bought.customer[announced], bought.customer[idle], everyone[last]])
    step = np.concatenate([4 * bought.step[announced], 4 * bought.step[idle] + 1, 4 * people.purchases[last] + 2])
    day = np.concatenate([(bought.day - lead)[announced], idle_day[idle], at_last[last]])
    announces = np.arange(len(customer)) < announced.sum()
    item = browsed_items(block, customer, step)
    item[announces] = bought.item[announced]
    return SimulatedSearches(customer, step, day, item, announces)


def browsed_items(block: CustomerBlock, customer: Ints, step: Ints, purpose: str = "looked") -> Ints:
    """Draw items (s,) of the customers' favourite product lines, or of popular ones; `purpose` names the draws."""
    key = block.people.key[customer]
    favourite = (uniform(key, f"{purpose} favourite", step) * FAVOURITES).astype(np.int64)
    liked = block.people.favourites[customer, favourite]
    popular = pick_product_line(block.catalogue, block.people.chinese[customer], uniform(key, f"{purpose} house", step))
    product_line = np.where(uniform(key, f"{purpose} by taste", step) < 0.6, liked, popular)
    return pick_from_line(block.catalogue, product_line, uniform(key, f"{purpose} item", step))


def searches_table(block: CustomerBlock, searches: SimulatedSearches) -> pa.Table:
    """Return the searches table of the block, dirty rows included."""
    key, step = block.people.key[searches.customer], searches.step
    dirt = block.dirt("searches", key, step, SEARCH_DIRT)
    u = uniform(key, "click", step)
    own = np.where(searches.announces, 0.35, 0.15)
    clicked = np.where(u < own, searches.item, block.catalogue.successors[searches.item, 0])
    clicks = pa.array(clicked, mask=u >= own + 0.08)
    table = pa.table(
        {
            "user_id": block.users(searches.customer, dirt["null_user"]),
            "query": _queries(block, searches, dirt),
            "searched_at": block.instants(searches.day, dirt["future"], key, step),
            "clicked_item_id": block.catalogue.item_ids.take(clicks),
        }
    )
    return finished(table, "searched_at", dirt["duplicate"])


def _queries(block: CustomerBlock, searches: SimulatedSearches, dirt: dict[str, Bools]) -> pa.Array:
    """Compose the query texts (s,) in Arrow; typos and planted values follow row by row."""
    catalogue = block.catalogue
    key, step, item = block.people.key[searches.customer], searches.step, searches.item
    chinese = block.people.chinese[searches.customer]
    form = np.searchsorted(_FORMS, uniform(key, "form", step), side="right")
    names_brand = form <= 1
    names_variant = ((form == 1) | (form == 2)) & (chinese == catalogue.chinese[item])
    rows = pa.array(item)
    query = pc.binary_join_element_wise(
        pc.if_else(pa.array(names_brand), catalogue.brands.take(rows), ""),
        _WORDS.take(pa.array(_word(catalogue.family[item], chinese, uniform(key, "word", step)))),
        pc.if_else(pa.array(names_variant), catalogue.variants.take(rows), ""),
        " ",
    )
    query = pc.utf8_trim(query, " ")
    lower = uniform(key, "lower", step) < 0.6
    query = pc.if_else(pa.array(lower), pc.utf8_lower(query), query)
    query = pc.if_else(pa.array(dirt["blank_query"]), " ", query)
    private = (uniform(key, "private", step) < _PERSONAL) & ~dirt["blank_query"]
    return _with_typos_and_planted_values(block, searches, query, private, dirt["control_characters"])


def _with_typos_and_planted_values(
    block: CustomerBlock, searches: SimulatedSearches, query: pa.Array, private: Bools, control: Bools
) -> pa.Array:
    key = block.people.key[searches.customer]
    typo = (uniform(key, "typo", searches.step) < _TYPOS) & ~private
    odd = np.flatnonzero(typo | private | control)
    seeds = hashed(key[odd], "query text", searches.step[odd]).tolist()
    chinese = block.people.chinese[searches.customer]
    texts = []
    for row, text, seed in zip(odd.tolist(), query.take(pa.array(odd)).to_pylist(), seeds, strict=True):
        dice = Dice(seed)
        if private[row]:
            planted = draw_personal_data(dice, bool(chinese[row]))
            block.add_personal("searches", planted)
            text = planted.value if dice.chance(50) else f"{text} {planted.value}"
        elif typo[row]:
            text = with_typo(dice, text)
        texts.append(with_control_characters(dice, text) if control[row] else text)
    is_odd = np.zeros(len(query), np.bool_)
    is_odd[odd] = True
    return pc.replace_with_mask(query, pa.array(is_odd), pa.array(texts, pa.string()))


_ALL_WORDS = [family.words_zh if zh else family.words for family in FAMILIES for zh in (False, True)]
_WORDS = pa.array([word for words in _ALL_WORDS for word in words], pa.string())
_WORD_COUNT = np.array([len(words) for words in _ALL_WORDS])
_FIRST_WORD = np.cumsum(_WORD_COUNT) - _WORD_COUNT


def _word(family: Ints, chinese: Bools, u: Floats) -> Ints:
    """Draw an index (s,) into `_WORDS` of one of the family's words in the language."""
    which = family * 2 + chinese
    return _FIRST_WORD[which] + (u * _WORD_COUNT[which]).astype(np.int64)
