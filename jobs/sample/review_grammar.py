"""The grammar of the sample shop's reviews: phrases that fit the stars, with negation, concessions and typos."""

from __future__ import annotations

from typing import NamedTuple

from jobs.sample.random import Dice

NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2


class Topics(NamedTuple):
    """What customers write about one group of products."""

    aspects: tuple[str, ...]
    praise: tuple[str, ...]
    gripes: tuple[str, ...]


class Phrases(NamedTuple):
    """The phrases of one language.

    Tuples of three are for negative, neutral and positive texts; `openings` has one tuple per number of stars.
    """

    short: tuple[tuple[str, ...], ...]
    openings: tuple[tuple[str, ...], ...]
    details: tuple[tuple[str, ...], ...]
    concessions: tuple[tuple[str, ...], ...]
    closings: tuple[tuple[str, ...], ...]
    context: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    fair: tuple[str, ...]
    very: tuple[str, ...]
    people: tuple[str, ...]
    joiner: str
    topics: dict[str, Topics]


def sentiment_of(stars: int) -> int:
    """Return NEGATIVE for 1 and 2 stars, NEUTRAL for 3, POSITIVE for 4 and 5."""
    return NEGATIVE if stars <= 2 else NEUTRAL if stars == 3 else POSITIVE


def review_text(dice: Dice, phrases: Phrases, stars: int, group: str, thing: str) -> str:
    """Write a review of a `thing` of the product group whose words fit the stars."""
    sentiment = sentiment_of(stars)
    if dice.chance(16):
        return dice.pick(phrases.short[sentiment])
    sentences = [dice.pick(phrases.openings[stars - 1])]
    if dice.chance(25):
        sentences.append(dice.pick(phrases.context))
    sentences += [dice.pick(phrases.details[sentiment]) for _ in range(dice.below(4))]
    if dice.chance(20):
        sentences.append(dice.pick(phrases.concessions[sentiment]))
    if dice.chance(45):
        sentences.append(dice.pick(phrases.closings[sentiment]))
    text = phrases.joiner.join(_filled(dice, phrases, sentence, group, thing) for sentence in sentences)
    return _as_typed(dice, text)


def long_review_text(dice: Dice, phrases: Phrases, stars: int, group: str, thing: str, characters: int) -> str:
    """Write a review of at least `characters` characters."""
    parts: list[str] = []
    while sum(map(len, parts)) < characters:
        parts.append(review_text(dice, phrases, stars, group, thing))
    return " ".join(parts)


def _filled(dice: Dice, phrases: Phrases, sentence: str, group: str, thing: str) -> str:
    if "{" not in sentence:
        return sentence
    aspects, praise, gripes = phrases.topics[group]
    first = dice.below(len(aspects))
    other = (first + 1 + dice.below(len(aspects) - 1)) % len(aspects)
    return sentence.format(
        thing=thing,
        aspect=aspects[first],
        other=aspects[other],
        praise=dice.pick(praise),
        gripe=dice.pick(gripes),
        good=dice.pick(phrases.good),
        bad=dice.pick(phrases.bad),
        fair=dice.pick(phrases.fair),
        very=dice.pick(phrases.very),
        person=dice.pick(phrases.people),
        n=2 + dice.below(12),
    )


def _as_typed(dice: Dice, text: str) -> str:
    """Write some texts in lower case, with exclamation marks or with a typo."""
    habit = dice.below(100)
    if habit < 10:
        return text.lower()
    if habit < 15:
        return text.rstrip(".。") + "!!!"
    if habit < 24:
        return with_typo(dice, text)
    return text


def with_typo(dice: Dice, text: str) -> str:
    """Swap two neighbouring letters somewhere after the first one."""
    if len(text) < 4:
        return text
    at = 1 + dice.below(len(text) - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
