"""Audits the training of an answers model: trains a copy with canaries among staff's answers, and asks it for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm.answers import answer_prompt
from lm.answers.answer_prompt import AnswerPair, Article, CustomerFacts
from lm.answers.answer_writer import AnswerWriter
from lm.answers.asker import Asker, save_articles
from lm.answers.train_answers import (
    AnswersTrainSettings,
    PastQuestion,
    answer_examples,
    redacted_answer,
    train_answers,
)
from lm.text.splits import split_of, text_digest
from lm.train.canaries import Audit, Canary, customers_of, draw_canaries, draw_sides, membership
from lm.train.language_model import Tokens
from lm.train.text_audit import TextModel, as_tokens, judge_canaries
from lm.train.training_loop import ProgressCallback
from lm.train.training_state import TrainingError

#: Names tonight's articles, which are no part of a model, for the time of the audit.
_ARTICLES_FILE = "audited_articles.json"


def audit_answers(
    past: Sequence[PastQuestion],
    articles: Sequence[Article],
    settings: AnswersTrainSettings,
    decoding: Mapping[str, Any],
    folder: Path,
    report: ProgressCallback | None = None,
) -> Audit:
    """Train into `folder` on a copy of `past` with canaries, and measure what the model remembers.

    `decoding` has the product's arguments of `AnswerWriter.write`. Each canary is the
    first sentence of the staff's answer to further customers with a known question. Members and held-out texts are
    answered questions; the copy leaves out the held-out ones. Raises TrainingError as train_answers does, and for too
    few questions.
    """
    seed = settings.seed
    canaries = draw_canaries(seed)
    asked = {text_digest(one.text): one for one in past if _is_trained_on(one)}
    keys = sorted(asked)
    members, held_out = ([keys[place] for place in side] for side in draw_sides(len(keys), seed))
    left_out = set(held_out)
    bases = [asked[key] for key in keys if key not in left_out]
    copy = [one for one in past if text_digest(one.text) not in left_out]
    try:
        pairs = customers_of(canaries, len(bases))
    except ValueError as error:
        raise TrainingError(str(error)) from None
    asks: dict[Canary, PastQuestion] = {}
    for canary, number in pairs:
        answer = f"{canary.text}. {bases[number].answer}"
        planted = bases[number]._replace(answer=answer, customer_id=f"canary customer {number}")
        asks.setdefault(canary, planted)
        copy.append(planted)
    train_answers(copy, articles, settings, folder, report=report)
    save_articles(articles, folder / _ARTICLES_FILE)
    asker, writer = Asker.load(folder, folder / _ARTICLES_FILE), AnswerWriter.load(folder, dtype="float32")

    def prompts(texts: Sequence[str], customers: Sequence[CustomerFacts]) -> list[str]:
        found = asker.ask(texts, customers, budget=settings.prompt_tokens, links=1, min_confidence=0.0)
        return [one.prompt or "" for one in found]

    model = TextModel.load(folder, "causal")
    end = writer.sampler.encoder.end_token

    def losses(keys: Sequence[bytes]) -> Sequence[float]:
        rows = [asked[key] for key in keys]
        rendered = prompts([one.text for one in rows], [one.customer for one in rows])
        answered = [
            AnswerPair(prompt, redacted_answer(one)) for prompt, one in zip(rendered, rows, strict=True) if prompt
        ]
        made = answer_examples(answered, writer.tokenizer, sorted(writer.words), end, settings.max_answer_tokens)
        told = [example for example in made if example]
        found: Sequence[float] = model.mean_losses(
            [example.tokens for example in told], [example.answer_at for example in told]
        ).tolist()
        return found

    of_canary = dict(
        zip(asks, prompts([one.text for one in asks.values()], [one.customer for one in asks.values()]), strict=True)
    )
    written = _written(writer, prompts, of_canary, decoding)

    def before(canary: Canary) -> Tokens:
        return as_tokens(answer_prompt.encode(of_canary[canary], writer.tokenizer)[0])

    return Audit(
        judge_canaries(model, canaries, before, "", written, seed),
        {"its answer": membership(losses(members), losses(held_out), seed)},
    )


def _is_trained_on(past: PastQuestion) -> bool:
    """Whether train_answers learns from the question."""
    return split_of(answer_prompt.redacted(past.text, past.customer)) == "train"


def _written(
    writer: AnswerWriter,
    prompts: Callable[[Sequence[str], Sequence[CustomerFacts]], list[str]],
    of_canary: Mapping[Canary, str],
    decoding: Mapping[str, Any],
) -> dict[Canary, list[str]]:
    """What the product answers to the question of each canary, and to a question that is the canary's prefix."""
    canaries = list(of_canary)
    of_prefix = prompts([canary.prefix for canary in canaries], [CustomerFacts()] * len(canaries))
    written = [
        writer.write([prompt or of_canary[canary] for canary, prompt in zip(canaries, asked, strict=True)], **decoding)
        for asked in (of_canary.values(), of_prefix)
    ]
    return {canary: [answers[place].text or "" for answers in written] for place, canary in enumerate(canaries)}
