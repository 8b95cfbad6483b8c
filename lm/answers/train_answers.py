"""Trains GPT-2 to write answers: the prompt of a past question, then the answer of the shop's staff.

Facts are slots. The loss is the cross-entropy of the answer's tokens alone. Facts that the prompt lacks are left out of
the target (lm.answers.fact_slots.learnable_target), so the model does not learn to invent any.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from lm.answers import answer_prompt
from lm.answers.answer_figures import answer_figures, retrieval_figures
from lm.answers.answer_prompt import AnswerPair, Article, CustomerFacts
from lm.answers.answer_writer import AnswerWriter
from lm.answers.common_sentences import common_sentences
from lm.answers.fact_slots import SlotTokenizer, learnable_target, split_at_slots, tokens_of_slots
from lm.answers.grounding import atoms, ordinary_words
from lm.answers.held_out_answers import HeldOutQuestion
from lm.answers.model_file import AnswersFile, write_settings
from lm.answers.retrieval import RankModel, Retriever
from lm.answers.train_retrieval import LabelledQuestions, link_by_answer, train_ranker
from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest
from lm.checkpoint.tokenizer import train_bpe
from lm.engine.device import choose_device
from lm.redaction.writers import known_writers
from lm.text.splits import split_of
from lm.train.language_model import (
    Tokens,
    TrainingSettings,
    cross_entropy_sum,
    hidden_states,
    output_rows,
    stage_schedule,
    start_model,
    write_model_folder,
)
from lm.train.training_loop import ProgressCallback, TrainingTask, fit, length_batches, pad
from lm.train.training_state import TooFewExamples, TrainingError, replace_folder, training_key, work_folder

_FEWEST = 50
#: Held-out questions that are answered for the reported figures; the benchmark answers more.
_JUDGED = 100
_ANSWER_CHARACTERS = 6000


@dataclass(frozen=True, kw_only=True)
class AnswersTrainSettings(TrainingSettings):
    """How an answers model is trained; lengths are in tokens."""

    prompt_tokens: int = 320
    max_answer_tokens: int = 256
    answered_share: float = 0.95
    min_steps: int = 1000


class PastQuestion(NamedTuple):
    """An answered question: the customer's facts at that time, staff's answer, their article if noted, who asked."""

    text: str
    customer: CustomerFacts
    answer: str
    article_id: str | None = None
    customer_id: str | None = None


def train_answers(
    past: Sequence[PastQuestion],
    articles: Sequence[Article],
    settings: AnswersTrainSettings,
    out: Path,
    *,
    report: ProgressCallback | None = None,
    window: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Train retrieval and writing on `past`, and write the model folder `out`.

    A hash of the question assigns it to training, validation or test, 8 : 1 : 1. An older `out` stays until the
    new one is finished. Returns the test figures, also of plain BM25 and of the article itself as the answer. Raises
    TrainingError where there is too little to learn from.
    """
    _refuse_too_little(past, articles)
    past = [one._replace(answer=redacted_answer(one)) for one in past]
    questions = [answer_prompt.redacted(one.text, one.customer) for one in past]
    links = article_links(past, articles)
    parts = np.array([split_of(question) for question in questions])
    train, validation, test = (np.flatnonzero(parts == part) for part in ("train", "validation", "test"))
    labelled = LabelledQuestions([questions[i] for i in train], [links[i] for i in train], list(articles))
    ranker = train_ranker(labelled, settings.seed)
    asked_by = known_writers(
        [f"question {i}" if one.customer_id is None else one.customer_id for i, one in enumerate(past)], len(past)
    )
    learned_by = [asked_by[i] for i in train]
    answers, least = [past[i].answer for i in train], settings.min_customers
    words = ordinary_words([*(a.body for a in articles), *answers], [*[None] * len(articles), *learned_by], least)
    received = common_sentences(answers, learned_by, [a.body for a in articles], least)
    tokenizer, model = _start(settings, [*articles], answers, labelled.questions, learned_by)
    slotted = SlotTokenizer(tokenizer)
    article_by_id = {article.article_id: article for article in articles}
    pairs = [
        AnswerPair(
            answer_prompt.render_prompt(q, article_by_id[link], one.customer, slotted, settings.prompt_tokens),
            one.answer,
        )
        for q, link, one in zip(questions, links, past, strict=True)
    ]
    end = tokenizer.token_to_id(checkpoint.END_OF_TEXT)
    if end is None:
        raise TrainingError(
            f"the tokenizer of init lacks {checkpoint.END_OF_TEXT}, which ends an answer: name a GPT-2 checkpoint"
        )
    made = answer_examples(pairs, slotted, words, end, settings.max_answer_tokens, received)
    learned = [example for i in train if (example := made[i])]
    judged = [example for i in validation if (example := made[i])]
    if not learned or not judged:
        raise TrainingError(
            "no past answer has a sentence that its article supports and that enough customers received: check "
            "questions.article_id and privacy.min_customers"
        )
    begun_from = {"from": settings.init and model_fingerprint(checkpoint.resolve(settings.init))}
    training_id = training_key(
        asdict(settings) | begun_from, [example.tokens.tobytes() for example in learned + judged]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, training_id) as work:
        tuning = AnswerTuning(model, learned, judged, settings)
        epochs = max(settings.max_epochs, -(-settings.min_steps // tuning.steps))
        outcome = fit(tuning.task(), stage_schedule("finetune", settings, epochs), work, report)
        model.eval()
        file = AnswersFile(
            words=words, min_confidence=_threshold(ranker, articles, questions, links, validation, settings)
        )
        new = work / "model"
        _write(new, model, tokenizer, Manifest(task="answers"), ranker, file)
        figures = retrieval_figures(Retriever(articles, ranker), [questions[i] for i in test], [links[i] for i in test])
        figures |= answer_figures(
            AnswerWriter.load(new), [pairs[i] for i in test[:_JUDGED]], settings.max_answer_tokens, settings.seed
        )
        figures |= {"fit": outcome.best.get("fit", 0.0), "answers": float(len(past))}
        notes = {"settings": asdict(settings), "window": window or {}, "epochs": outcome.best_epoch + 1}
        notes |= {"lines": outcome.lines, "answers_without_support": sum(example is None for example in made)}
        _write(new, model, tokenizer, Manifest(task="answers", training=notes, metrics=figures), ranker, file)
        replace_folder(new, out)
    return figures


def _refuse_too_little(past: Sequence[PastQuestion], articles: Sequence[Article]) -> None:
    if not articles:
        raise TrainingError("there are no help articles: give inputs.articles a table with rows")
    parts = {split_of(one.text) for one in past}
    if len(past) < _FEWEST or len(parts) < 3:
        raise TooFewExamples(
            f"{len(past)} past questions with an answer are too few to learn from: at least {_FEWEST} are needed; map "
            "inputs.questions.columns.answer to what staff answered, or give more days"
        )


def redacted_answer(past: PastQuestion) -> str:
    """An answer without personal data, in its own lines. The order numbers of its customer stay."""
    lines = past.answer[:_ANSWER_CHARACTERS].split("\n")
    return "\n".join(answer_prompt.redacted(line, past.customer, _ANSWER_CHARACTERS) for line in lines)


def article_links(past: Sequence[PastQuestion], articles: Sequence[Article]) -> list[str]:
    """The article id of each past question: the one that staff noted, else the one nearest to their answer."""
    known = {article.article_id for article in articles}
    nearest = link_by_answer([one.answer for one in past], articles)
    return [
        one.article_id if one.article_id in known and one.article_id is not None else near
        for one, near in zip(past, nearest, strict=True)
    ]


def _start(
    settings: AnswersTrainSettings,
    articles: Sequence[Article],
    answers: Sequence[str],
    questions: Sequence[str],
    asked_by: Sequence[str | None],
) -> tuple[Tokenizer, PreTrainedModel]:
    if settings.init is None:
        texts = [text for a in articles for text in (a.title, a.body)]
        writers = [*[None] * len(texts), *asked_by, *asked_by]
        tokenizer = slot_tokenizer([*texts, *answers, *questions], settings.vocab_size, writers, settings.min_customers)
    else:
        tokenizer = with_slots(checkpoint.load_tokenizer(checkpoint.resolve(settings.init)))
    positions = settings.prompt_tokens + settings.max_answer_tokens
    return tokenizer, start_model(settings, tokenizer, "causal", positions=positions, new_tokens=True)


def _threshold(
    ranker: RankModel,
    articles: Sequence[Article],
    questions: Sequence[str],
    links: Sequence[str],
    rows: NDArray[np.int64],
    settings: AnswersTrainSettings,
) -> float:
    """The confidence that `answered_share` of the validation questions with an article reach."""
    known = {article.article_id for article in articles}
    answerable = [questions[i] for i in rows if links[i] in known]
    found = [ranked.confidence for ranked in Retriever(articles, ranker).rank(answerable, 1)]
    return float(np.quantile(found, 1 - settings.answered_share))


def _write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    manifest: Manifest,
    ranker: RankModel,
    file: AnswersFile,
) -> None:
    write_model_folder(model, tokenizer, manifest, folder)
    ranker.save(folder)
    write_settings(folder, file)


def held_out_questions(past: Sequence[PastQuestion], articles: Sequence[Article]) -> list[HeldOutQuestion]:
    """The past questions that no training learns from, with redacted answers; those without a noted article get one."""
    links = article_links([one._replace(answer=redacted_answer(one)) for one in past], articles)
    return [
        HeldOutQuestion(one.text, one.customer, redacted_answer(one), link)
        for one, link in zip(past, links, strict=True)
        if split_of(answer_prompt.redacted(one.text, one.customer)) == "test"
    ]


class AnswerExample(NamedTuple):
    """Token ids of a prompt, its answer and the end token; the answer begins at `answer_at`."""

    tokens: Tokens
    answer_at: int


def slot_tokenizer(
    texts: Sequence[str], vocab_size: int, writers: Sequence[str | None] | None = None, min_writers: int = 1
) -> Tokenizer:
    """A byte-level BPE trained on the texts without their facts, with the slot tokens as special tokens.

    Words at the start of sentences stay. Without them the model would spell such words in pieces, and misspell them.
    A word needs `min_writers` different `writers` of the texts; the shop's is None.
    """
    wrote = known_writers(writers, len(texts))
    cut = [
        (piece, writer)
        for text, writer in zip(texts, wrote, strict=True)
        for piece in split_at_slots(text, [(a.start, a.end, "") for a in atoms(text) if not a.opens])
        if piece
    ]
    size = max(vocab_size - len(tokens_of_slots()), 300)
    pieces, of_piece = [piece for piece, _ in cut], [writer for _, writer in cut]
    return with_slots(train_bpe(pieces, size, writers=of_piece, min_writers=min_writers))


def with_slots(tokenizer: Tokenizer) -> Tokenizer:
    """Add the slot tokens that a tokenizer lacks, in place."""
    tokenizer.add_special_tokens([token for token in tokens_of_slots() if tokenizer.token_to_id(token) is None])
    return tokenizer


def answer_examples(
    pairs: Sequence[AnswerPair],
    tokenizer: SlotTokenizer,
    words: Sequence[str],
    end_token: int,
    max_answer_tokens: int,
    common: Collection[str] | None = None,
) -> list[AnswerExample | None]:
    """An example for each pair; None where the prompt supports nothing of the answer, or the answer is too long."""
    ordinary = frozenset(words)
    encoded = answer_prompt.encode_many([pair.prompt for pair in pairs], tokenizer)
    targets = [
        learnable_target(pair.answer, slots, ordinary, common) for pair, (_, slots) in zip(pairs, encoded, strict=True)
    ]
    answers = tokenizer.encode_many([pieces or [] for pieces in targets])
    return [
        AnswerExample(np.array([*ids, *answer, end_token], dtype=np.int32), len(ids))
        if pieces and len(answer) < max_answer_tokens
        else None
        for (ids, _), pieces, answer in zip(encoded, targets, answers, strict=True)
    ]


class AnswerTuning:
    """Fine-tunes on the answer's tokens given the prompt; validates by the mean log-likelihood of a token."""

    def __init__(
        self,
        model: PreTrainedModel,
        train: Sequence[AnswerExample],
        validation: Sequence[AnswerExample],
        settings: TrainingSettings,
    ) -> None:
        self.model, self.train, self.validation, self.settings = model, train, validation, settings
        self.lengths = np.array([len(example.tokens) for example in train], dtype=np.int64)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return len(length_batches(self.lengths, self.settings.batch_tokens, self.settings.seed, 0))

    def task(self) -> TrainingTask[NDArray[np.int64]]:
        """The task for lm.train.training_loop.fit."""

        def batches(epoch: int) -> list[NDArray[np.int64]]:
            return length_batches(self.lengths, self.settings.batch_tokens, self.settings.seed, epoch)

        return TrainingTask(
            self.model, batches, lambda batch: self._loss([self.train[i] for i in batch]), self._validate, "fit"
        )

    def _loss(self, batch: Sequence[AnswerExample]) -> tuple[torch.Tensor, float]:
        where = choose_device()
        tokens = pad([example.tokens for example in batch], where)  # (B, T)
        place = torch.arange(1, tokens.shape[1], device=where)
        first = torch.tensor([example.answer_at for example in batch], device=where)[:, None]
        last = torch.tensor([len(example.tokens) for example in batch], device=where)[:, None]
        is_answer = (place >= first) & (place < last)  # (B, T - 1)
        states = hidden_states(self.model, tokens[:, :-1])[is_answer]  # (L, n_embd)
        labels = tokens[:, 1:][is_answer]
        each = torch.arange(len(labels), device=where)
        weights = torch.ones(len(labels), device=where)
        return cross_entropy_sum(states, output_rows(self.model), each, labels, weights), float(len(labels))

    def _validate(self) -> dict[str, float]:
        lengths = np.array([len(example.tokens) for example in self.validation], dtype=np.int64)
        total = weight = 0.0
        for batch in length_batches(lengths, self.settings.batch_tokens, 0, 0):
            loss, count = self._loss([self.validation[i] for i in batch])
            total, weight = total + float(loss), weight + count
        return {"fit": -total / max(weight, 1.0)}
