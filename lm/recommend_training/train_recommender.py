"""Trains the recommender: byte-level BPE, pre-training on histories as text, fine-tuning on next purchases.

In item_tokens coding an item is one token with an embedding from its title, and each predicted purchase is a softmax
over all items (the loss of strong sequential recommenders: Petrov & Macdonald, "gSASRec", RecSys 2023; Klenitskiy &
Vasilev, RecSys 2023). In titles coding the model spells the title after the prompt. Both read the night's own prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import HISTORY_EVENTS, Manifest, read_manifest
from lm.checkpoint.tokenizer import train_bpe
from lm.recommend.plain_titles import telling_titles
from lm.recommend_training.fine_tuning import ItemTokenTuning, K, TitleTuning
from lm.recommend_training.further_customers import FurtherCustomers
from lm.recommend_training.held_out import Split, split_of
from lm.recommend_training.history_events import chosen_history_events
from lm.recommend_training.item_embeddings import add_items
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import BOUGHT, CustomerEvents, windows
from lm.recommend_training.training_figures import (
    GPT2_WEIGHT,
    MOVED,
    counting_lists,
    held_out_figures,
    is_worse,
    verdict,
)
from lm.redaction.redact import redact
from lm.text.prompt import TITLE_TOKENS, Event, PromptEncoder
from lm.text.template import TEMPLATES, event_line, product_text
from lm.train import distributed
from lm.train.language_model import Tokens, pretraining, stage_schedule, start_model, write_model_folder
from lm.train.private_steps import PrivateSteps, refuse_unprotected_stages
from lm.train.training_loop import ProgressCallback, StageOutcome, fit
from lm.train.training_state import replace_folder, training_key, work_folder


def train_recommend(
    customers: Sequence[CustomerEvents],
    items: Mapping[str, str],
    settings: RecommendTrainSettings,
    out: Path,
    *,
    report: ProgressCallback | None = None,
    window: dict[str, Any] | None = None,
    further: FurtherCustomers | None = None,
) -> dict[str, float]:
    """Train on `customers` (in a fixed order) to predict `items` (id -> title), and write the model folder `out`.

    Of a large shop, `customers` are those in memory: they have the held-out purchases and the words of the tokenizer.
    The training also counts the purchases of `further` ones, up to the last day that it learns from, and reads their
    histories part by part; then an epoch is one part. With leave-one-out all events of further customers are read.

    An older `out` stays until the new one is finished. An interrupted training goes on where it stopped. The manifest
    records `window`, the figures and the verdict on them. Returns the figures of
    `lm.recommend_training.training_figures`. Where a baseline is better than the lists beyond the interval, counting
    alone makes them if it is better.
    Raises TrainingError where there is too little to learn from.
    """
    items = dict(sorted(items.items()))
    if not telling_titles(items):  # only purchases then tell products apart
        settings = replace(settings, titled=False, newcomers=False)
    stages = {"pretrain_epochs": settings.pretrain_epochs > 0, "refit": settings.refit}
    refuse_unprotected_stages(settings.privacy, stages | {"train.max_customers": further is not None})
    if settings.privacy is not None:  # the number of steps decides the noise, so it must be known before
        settings = replace(settings, max_epochs=min(settings.max_epochs, settings.round_epochs))
    split = split_of(customers, items, settings)
    start = None if settings.init is None else checkpoint.resolve(settings.init)
    tokenizer = _tokenizer(split.training, items, settings) if start is None else checkpoint.load_tokenizer(start)
    model = start_model(
        settings,
        tokenizer,
        "causal",
        positions=settings.max_tokens + settings.extra_positions,
        new_tokens=settings.coding == "item_tokens",
    )
    longest = model.config.max_position_embeddings - (TITLE_TOKENS if settings.coding == "titles" else 1)
    settings = replace(settings, max_tokens=min(settings.max_tokens, longest))
    begun_from: dict[str, Any] = {"from": start and model_fingerprint(start), "items": items}
    if further is not None:
        begun_from["further"] = [further.version, further.parts]
    deciding = asdict(replace(settings, max_minutes=None))  # a training that was cut may go on with another limit
    training_id = training_key(deciding | begun_from, (repr(customer).encode() for customer in customers))
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, training_id) as work:
        distributed.broadcast_from_first(None)  # wait until the first process has made the folder
        if settings.pretrain_epochs:
            documents = _documents(split.training, items, tokenizer, settings)
            pretrain = stage_schedule("pretrain", settings, settings.pretrain_epochs)
            fit(pretraining(model, documents, settings), pretrain, work, report)
        before = Manifest() if start is None else read_manifest(start)
        tuning = _coding(model, tokenizer, items, settings, before, split)
        outcome, figures, private = _fine_tune(tuning, split, items, work, report, further)
        if distributed.rank():
            return figures
        notes = {"settings": asdict(settings), "window": window or {}, "customers": len(customers)}
        notes |= {"epochs": outcome.best_epoch + 1, "out_of_time": outcome.out_of_time, "lines": outcome.lines}
        notes |= {"verdict": verdict(figures)}
        if private is not None:
            notes |= {"privacy": private.notes(_not_covered(settings))}
        if further is not None:
            notes |= {"counted": {"customers": len(customers) + further.customers, "further_version": further.version}}
        new = work / "model"
        manifest = tuning.finish()
        write_model_folder(model, tokenizer, manifest.model_copy(update={"training": notes, "metrics": figures}), new)
        tuning.hybrid.save(new)
        replace_folder(new, out)
    return figures


def _coding(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    items: Mapping[str, str],
    settings: RecommendTrainSettings,
    before: Manifest,
    split: Split,
) -> ItemTokenTuning | TitleTuning:
    """The fine-tuning of the configured coding, for the items of the manifest `before` and the new ones."""
    positions = model.config.max_position_embeddings
    if settings.coding == "titles":
        manifest = Manifest(language=settings.language, history_events=settings.history_events or HISTORY_EVENTS)
        return TitleTuning(model, PromptEncoder(tokenizer, manifest, context_tokens=positions), items, settings)
    language, seed, titled = settings.language, settings.seed, settings.titled
    manifest = add_items(model, tokenizer, items, before, language=language, seed=seed, titled=titled)
    encoder = PromptEncoder(tokenizer, manifest, context_tokens=positions)
    most = settings.history_events or chosen_history_events(encoder, split, settings)
    encoder = PromptEncoder(tokenizer, manifest.model_copy(update={"history_events": most}), context_tokens=positions)
    known = len(before.item_ids) if before.coding == "item_tokens" else 0
    return ItemTokenTuning(model, encoder, items, settings, known)


def _fine_tune(
    tuning: ItemTokenTuning | TitleTuning,
    split: Split,
    items: Mapping[str, str],
    work: Path,
    report: ProgressCallback | None,
    further: FurtherCustomers | None,
) -> tuple[StageOutcome, dict[str, float], PrivateSteps | None]:
    """Train on the split and judge it. With `refit` train again on `split.refit`, at the rates that led to the best."""
    model, settings = tuning.model, tuning.settings
    parts = 1 if further is None else further.parts  # an epoch reads one of them
    schedule = replace(
        stage_schedule("finetune", settings),
        max_epochs=settings.max_epochs * parts,
        round_epochs=settings.round_epochs * parts,
        patience=settings.patience * parts,
        max_seconds=None if settings.max_minutes is None else 60 * settings.max_minutes,
    )
    begin = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    before = further and further.upto(split.last_training_day)
    task = tuning.task(split.training, split.validation, before)
    outcome = fit(task, schedule, work, report)
    model.eval()
    tuning.fit_hybrid(split.training, split.validation, before)
    rivals = counting_lists(split, items, settings)
    figures = held_out_figures(tuning.recommend(split.test, K), rivals, split, settings)
    if is_worse(figures) and tuning.counting != tuning.hybrid:
        mixture, tuning.hybrid = tuning.hybrid, tuning.counting
        alone = held_out_figures(tuning.recommend(split.test, K), rivals, split, settings)
        if alone[f"ndcg@{K}"] > figures[f"ndcg@{K}"]:
            figures = alone | {MOVED: figures[f"ndcg@{K}"]}
        else:
            tuning.hybrid = mixture
    if tuning.hybrid.co_purchase is not None:
        figures[GPT2_WEIGHT] = tuning.hybrid.co_purchase.weights[0]
    if settings.refit:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(begin[name])
        again = replace(stage_schedule("refit", settings), rates=outcome.rates)
        fit(tuning.task(split.refit, [], further), again, work, report)
        model.eval()
        tuning.fit_hybrid(split.refit, [], further)
    elif settings.recount and settings.protocol == "time-split":
        tuning.recount(split.refit, further)
    return outcome, figures, task.private


def _not_covered(settings: RecommendTrainSettings) -> list[str]:
    """What learns from customers without noise, beside GPT-2."""
    parts = {
        "the words of the tokenizer": settings.init is None,
        "which products were bought": settings.coding == "item_tokens",
        "the number of events of a prompt": settings.coding == "item_tokens"
        and settings.history_events is None
        and not settings.exclude_purchased,
        "counted purchases": settings.coding == "item_tokens" and settings.neighbours,
        "the weights of the mixture": settings.coding == "item_tokens" and (settings.neighbours or settings.newcomers),
        "the figures": True,
    }
    return [part for part, is_there in parts.items() if is_there]


def _tokenizer(
    customers: Sequence[CustomerEvents], items: Mapping[str, str], settings: RecommendTrainSettings
) -> Tokenizer:
    texts, writers = zip(*_texts(customers, items, settings), strict=True)
    return train_bpe(texts, settings.vocab_size, writers=writers, min_writers=settings.min_customers)


def _texts(
    customers: Sequence[CustomerEvents], items: Mapping[str, str], settings: RecommendTrainSettings
) -> Iterator[tuple[str, str | None]]:
    """The texts that the tokenizer learns from, a line for every title and event, with their writers.

    The shop wrote the titles (writer None); they are redacted, because a product may bear a customer's name.
    """
    template = TEMPLATES[settings.language]
    lines: dict[Event, str] = {}
    yield template.header, None
    for item, title in items.items():
        yield event_line(template, Event(BOUGHT, item, title), redact(product_text(title, item)), None), None
    for number, customer in enumerate(customers):
        for event in customer.events:
            if event not in lines:
                title = redact(product_text(event.title, event.item_id))
                lines[event] = event_line(template, event, title, None)
            yield lines[event], None if event.kind == BOUGHT else f"customer {number}"


def _documents(
    customers: Sequence[CustomerEvents],
    items: Mapping[str, str],
    tokenizer: Tokenizer,
    settings: RecommendTrainSettings,
) -> list[Tokens]:
    """Token ids to pre-train on: whole histories in titles coding, else every distinct line once."""
    encoder = PromptEncoder(tokenizer, Manifest(language=settings.language))
    if settings.coding == "titles":
        prompts = windows([customer.events for customer in customers], encoder, settings.max_tokens)
        return [np.array(tokens, dtype=np.int32) for of_customer in prompts for tokens in of_customer]
    lines = encoder.encode_many(sorted({text for text, _ in _texts(customers, items, settings)}))
    return [np.array(line[: settings.max_tokens], dtype=np.int32) for line in lines]
