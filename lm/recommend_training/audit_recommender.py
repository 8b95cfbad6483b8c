"""Audits the training of a recommender: trains a copy with canaries among the searches, and asks it for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from lm.checkpoint.checkpoint import load_tokenizer
from lm.checkpoint.manifest import Manifest
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.recommend_training.fine_tuning import K
from lm.recommend_training.held_out import split_of
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.train_recommender import train_recommend
from lm.recommend_training.training_examples import CustomerEvents
from lm.redaction.redact import redact
from lm.text.prompt import Event, PromptEncoder
from lm.text.template import TEMPLATES, event_line, product_text
from lm.train.canaries import Audit, Canary, customers_of, draw_canaries, draw_sides, membership
from lm.train.language_model import Tokens
from lm.train.text_audit import TextModel, as_tokens, judge_canaries
from lm.train.training_loop import ProgressCallback
from lm.train.training_state import TrainingError


def audit_recommender(
    customers: Sequence[CustomerEvents],
    items: Mapping[str, str],
    settings: RecommendTrainSettings,
    folder: Path,
    report: ProgressCallback | None = None,
) -> Audit:
    """Train into `folder` on a copy of `customers` with canaries, and measure what the model remembers.

    Each canary is the first search of its customers. Members and held-out texts are lines of the customers' own words;
    the copy leaves out the held-out ones. Raises TrainingError as train_recommend does, and for too few customers.
    """
    seed = settings.seed
    canaries = draw_canaries(seed)
    training = split_of(customers, items, settings).training
    written = sorted(
        {event for customer in training for event in customer.events if event.text is not None and event.text.strip()},
        key=repr,
    )
    members, held_out = ([written[place] for place in side] for side in draw_sides(len(written), seed))
    copy = planted([without(customer, frozenset(held_out)) for customer in customers], canaries)
    train_recommend(copy, items, settings, folder, report=report)
    model = TextModel.load(folder, "causal")
    template = TEMPLATES[settings.language]
    encoder = PromptEncoder(load_tokenizer(folder), Manifest(language=settings.language))

    def losses(events: Sequence[Event]) -> Sequence[float]:
        lines = [
            event_line(template, event, redact(product_text(event.title, event.item_id)), None) for event in events
        ]
        found: Sequence[float] = model.mean_losses([as_tokens(line) for line in encoder.encode_many(lines)]).tolist()
        return found

    def before(canary: Canary) -> Tokens:
        return as_tokens(encoder.prefix)

    label = template.searched + template.space
    shown = _titles_of_lists(folder, canaries, items, settings)
    return Audit(
        judge_canaries(model, canaries, before, label, shown, seed),
        {"its text": membership(losses(members), losses(held_out), seed)},
    )


def without(customer: CustomerEvents, left_out: Collection[Event]) -> CustomerEvents:
    """A customer without the events `left_out`."""
    kept = [place for place, event in enumerate(customer.events) if event not in left_out]
    moments = customer.moments
    return CustomerEvents(
        [customer.events[place] for place in kept],
        [customer.days[place] for place in kept],
        None if moments is None else [moments[place] for place in kept],
    )


def planted(customers: Sequence[CustomerEvents], canaries: Sequence[Canary]) -> list[CustomerEvents]:
    """A copy of `customers` in which each canary is a search at the beginning of `repeats` customers' events.

    The customers who came first have them, because no split holds out their first events. Raises TrainingError for
    too few customers.
    """
    copy = list(customers)
    begun = [place for place, customer in enumerate(customers) if customer.events]
    earliest = sorted(begun, key=lambda place: customers[place].days[0])[: max(16, len(begun) // 2)]
    try:
        pairs = customers_of(canaries, len(earliest))
    except ValueError as error:
        raise TrainingError(str(error)) from None
    for canary, number in pairs:
        one = copy[earliest[number]]
        moments = one.moments
        copy[earliest[number]] = CustomerEvents(
            [Event("searched", None, None, canary.text), *one.events],
            [one.days[0], *one.days],
            None if moments is None else [moments[0] - 1, *moments],
        )
    return copy


def _titles_of_lists(
    folder: Path, canaries: Sequence[Canary], items: Mapping[str, str], settings: RecommendTrainSettings
) -> dict[Canary, list[str]]:
    """The titles that the model lists for a customer who searched for each canary's prefix."""
    encoder = PromptEncoder.load(folder)
    engine = Recommender.load(folder, Catalogue.build(list(items), list(items.values()), encoder), dtype="float32")
    events = [[Event("searched", None, None, canary.prefix)] for canary in canaries]
    prompts = [rendered.prompt for rendered in encoder.render_many(events, settings.max_tokens)]
    lists = engine.recommend(prompts, [[] for _ in canaries], K)
    return {canary: [items[one.item_id] for one in best] for canary, best in zip(canaries, lists, strict=True)}
