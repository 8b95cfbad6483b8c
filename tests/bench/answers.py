"""Answers to customers' questions on the Bitext support set, beside BM25, past answers and a similarity threshold.

    pip install --editable ".[bench]"
    python -m tests.bench.answers --data FOLDER [--model DIR] [--sentences] [--quick] [--json]

An article of each intent is one response, taken out of everything else; its title is the intent's name. The rest is
what staff answered in the past, 8 : 1 : 1 by the question's words; the last tenth, held out, is asked here. An order
number in a question counts as the customer's own. `--model` keeps the model, and goes on with a training that was cut.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.config.settings import AnswerSettings, PrivacySettings
from jobs.config.train_settings import TrainSettings
from jobs.tables.answers import decoding
from jobs.training.train_answers import training_settings
from lm.answers import answer_prompt
from lm.answers.answer_check import unsupported
from lm.answers.answer_figures import ranked_by_bm25, top_hits
from lm.answers.answer_prompt import Article, CustomerFacts, Order
from lm.answers.answer_writer import AnswerWriter
from lm.answers.asker import Asker, save_articles
from lm.answers.common_sentences import common_sentences, sentence_keys
from lm.answers.retrieval import BM25
from lm.answers.train_answers import PastQuestion, train_answers
from lm.checkpoint.manifest import MANIFEST_FILE
from lm.engine.sampling import Sampling
from lm.text.splits import split_of
from tests.bench.measure import console, report

OFF_TOPIC = 500
ANSWERED = 0.95
#: The night's own defaults.
NIGHT = AnswerSettings()
HOW = decoding(NIGHT)
Floats = NDArray[np.float64]


class Support(NamedTuple):
    """The set as a shop's tables: articles, past questions, and held-out ones with the intent of each."""

    articles: list[Article]
    past: list[PastQuestion]
    asked: list[PastQuestion]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with support-bitext and sst2")
    parser.add_argument("--model", type=Path, help="folder to keep the trained model in")
    parser.add_argument("--questions", type=int, help="ask so many of the held-out questions; default all")
    parser.add_argument(
        "--sentences", action="store_true", help="the share of staff's sentences that is learned; no training"
    )
    parser.add_argument("--quick", action="store_true", help="little training, few questions: shows that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    support, off_topic = support_of(options.data, options.quick), sentences(options.data)
    if options.sentences:
        shares = learned_sentences(support)
        rows = {name: {"share": f"{share:.1%}"} for name, share in shares.items()}
        return report("What is learned of staff's answers", rows, shares, options.json)
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or Path(scratch) / "model"
        if not (model / MANIFEST_FILE).exists():
            settings = training_settings(TrainSettings(), NIGHT, PrivacySettings().min_customers)
            settings = replace(settings, max_epochs=1, min_steps=0) if options.quick else settings
            train_answers(support.past, support.articles, settings, model, report=told())
        save_articles(support.articles, Path(scratch) / "articles.json")
        asker, writer = Asker.load(model, Path(scratch) / "articles.json"), AnswerWriter.load(model)
        figures = retrieval(asker, support) | refusals(asker, support, off_topic)
        support = support._replace(asked=support.asked[: options.questions])
        written, prompts, seconds = answer(asker, writer, support.asked)
        figures |= (
            {"answered_questions": float(len(written))}
            | quality(asker, support, written)
            | invented(writer, prompts, written)
        )
        figures |= speed(writer, prompts, seconds)
    training = json.loads((model / MANIFEST_FILE).read_text())["training"] if options.model else {}
    figures["training_seconds"] = sum(line["seconds"] for line in training.get("lines", []))
    report("Answers on the Bitext support set", rows_of(figures), figures, options.json)


def learned_sentences(support: Support) -> dict[str, float]:
    """The shares of sentences and of answers that are learned, as far as they depend on who received them."""
    answers = [one.answer for one in support.past]
    customers = [str(number) for number in range(len(answers))]  # the set does not say who asked
    bodies = [article.body for article in support.articles]
    common = common_sentences(answers, customers, bodies, PrivacySettings().min_customers)
    keys = [list(sentence_keys(answer)) for answer in answers]
    learned = [[key in common for key in of_answer] for of_answer in keys]
    return {
        "sentences that five customers received or an article has": float(
            np.mean(list(itertools.chain.from_iterable(learned)))
        ),
        "answers with such a sentence": float(np.mean([any(of_answer) for of_answer in learned])),
    }


def support_of(data: Path, quick: bool) -> Support:
    """Read the set; `quick` takes a tenth of it."""
    file = data / "support-bitext" / "train.csv.gz"
    if not file.exists():
        raise SystemExit(f"{file} is not there: give the folder with the real data sets as --data")
    table = pd.read_csv(file, dtype=str)
    chosen = table.instruction.map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    is_article = table.index.isin(chosen.groupby(table.intent).idxmin())
    articles = [
        Article(row.intent, row.intent.replace("_", " ").capitalize(), row.response)
        for row in table[is_article].itertuples()
    ]
    rows = [past_question(row) for row in table[~is_article].itertuples()]
    if quick:
        rows = rows[::10]
    held_out = [row for row in rows if split_of(answer_prompt.redacted(row.text, row.customer)) == "test"]
    return Support(articles, rows, held_out)


def past_question(row: Any) -> PastQuestion:
    number = re.search(r"\d{7,}", row.instruction) if row.entity_type == "order_id" else None
    own = CustomerFacts((Order(number[0], "2026-01-01", ()),)) if number else CustomerFacts()
    return PastQuestion(row.instruction, own, row.response, row.intent)


def sentences(data: Path) -> list[str]:
    """Sentences about films: nothing that a shop's help could answer."""
    lines = pd.read_csv(data / "sst2" / "dev.tsv.gz", sep="\t", header=None)[0].str.strip()
    return lines.sample(OFF_TOPIC, random_state=0).tolist()


def told() -> Callable[[Any], None]:
    last = [0.0]

    def tell(now: Any) -> None:
        if time.monotonic() - last[0] > 15:
            last[0] = time.monotonic()
            console.print(f"[dim]epoch {now.epoch + 1}/{now.epochs} {now.step}/{now.steps} loss {now.loss:.3f}[/dim]")

    return tell


def retrieval(asker: Asker, support: Support) -> dict[str, float]:
    """The right article first or among three, beside plain BM25 over the same articles."""
    questions = [answer_prompt.redacted(one.text, one.customer) for one in support.asked]
    right = [one.article_id or "" for one in support.asked]
    ours = top_hits([ranked.article_ids for ranked in asker.retriever.rank(questions, 3)], right)
    plain = top_hits(ranked_by_bm25(asker.retriever, questions), right)
    figures = {"questions": float(len(questions))}
    for name, one in (("", ours), ("bm25_", plain)):
        figures |= with_interval(f"{name}top_1", one.top_1.astype(float))
        figures |= with_interval(f"{name}top_3", one.top_3.astype(float))
    return figures


def refusals(asker: Asker, support: Support, off_topic: Sequence[str]) -> dict[str, float]:
    """Of the refused the share that is off topic where 95% of the on-topic questions are answered; and as shipped."""
    on = [answer_prompt.redacted(one.text, one.customer) for one in support.asked]
    off = [answer_prompt.redacted(text, CustomerFacts()) for text in off_topic]
    ours = [np.array([r.confidence for r in asker.retriever.rank(texts, 1)]) for texts in (on, off)]
    bm25 = BM25([f"{a.title}\n{a.body}" for a in asker.retriever.articles.values()])
    nearest = BM25([one.text for one in support.past if split_of(one.text) != "test"])
    figures = refused_at(*ours, float(np.quantile(ours[0], 1 - ANSWERED)), "")
    figures |= refused_at(*ours, asker.min_confidence, "shipped_")
    for name, index in (("bm25_article_", bm25), ("bm25_past_question_", nearest)):
        scores = [index.scores(texts).max(axis=1) for texts in (on, off)]
        figures |= refused_at(*scores, float(np.quantile(scores[0], 1 - ANSWERED)), name)
    is_right = np.array([
        r.article_ids[0] == one.article_id for r, one in zip(asker.retriever.rank(on, 1), support.asked, strict=True)
    ])  # fmt: skip
    # Confidence against truth where both kinds of question come: a refusal of an off-topic one is right.
    p, y = np.concatenate(ours), np.concatenate([is_right, np.zeros(len(off))])
    bins = np.minimum((p * 10).astype(int), 9)
    error = sum(abs(p[bins == b].mean() - y[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    return figures | {"expected_calibration_error": float(error)}


def refused_at(on: Floats, off: Floats, least: float, name: str) -> dict[str, float]:
    refused_on, refused_off = float((on < least).sum()), float((off < least).sum())
    return {
        f"{name}refusal_precision": refused_off / max(refused_on + refused_off, 1.0),
        f"{name}off_topic_refused": refused_off / len(off),
        f"{name}on_topic_answered": 1 - refused_on / len(on),
    }


def answer(asker: Asker, writer: AnswerWriter, asked: Sequence[PastQuestion]) -> tuple[list[str], list[str], float]:
    """Answer every question as the night does, refusing none; texts, prompts and seconds."""
    texts, customers = [one.text for one in asked], [one.customer for one in asked]
    asker.ask(texts[:8], customers[:8], budget=NIGHT.prompt_tokens, links=NIGHT.articles, min_confidence=0.0)
    begun = time.perf_counter()
    prompts = [
        a.prompt or ""
        for a in asker.ask(texts, customers, budget=NIGHT.prompt_tokens, links=NIGHT.articles, min_confidence=0.0)
    ]
    written = [one.text or "" for one in writer.write(prompts, **HOW)]
    return written, prompts, time.perf_counter() - begun


def quality(asker: Asker, support: Support, written: Sequence[str]) -> dict[str, float]:
    """ROUGE-L F (rouge-score) and chrF (sacrebleu) of each contender with what staff answered; paired differences."""
    answers = [one.answer for one in support.asked]
    questions = [answer_prompt.redacted(one.text, one.customer) for one in support.asked]
    past = [one for one in support.past if split_of(answer_prompt.redacted(one.text, one.customer)) != "test"]
    nearest = BM25([one.text for one in past]).scores([one.text for one in support.asked]).argmax(axis=1)
    contenders = {
        "": list(written),
        "top_article_": [asker.retriever.articles[r.article_ids[0]].body for r in asker.retriever.rank(questions, 1)],
        "nearest_answer_": [past[i].answer for i in nearest],
    }
    figures: dict[str, float] = {}
    scores = {name: (rouge_l(texts, answers), chrf(texts, answers)) for name, texts in contenders.items()}
    for name, (rouge, ch) in scores.items():
        figures |= with_interval(f"{name}rouge_l", rouge) | with_interval(f"{name}chrf", ch)
        if name:
            figures |= with_interval(f"over_{name}rouge_l", scores[""][0] - rouge)
            figures |= with_interval(f"over_{name}chrf", scores[""][1] - ch)
    return figures


def rouge_l(texts: Sequence[str], answers: Sequence[str]) -> Floats:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"])
    return np.array([scorer.score(a, t)["rougeL"].fmeasure for t, a in zip(texts, answers, strict=True)])


def chrf(texts: Sequence[str], answers: Sequence[str]) -> Floats:
    import sacrebleu

    return np.array([sacrebleu.sentence_chrf(t, [a]).score for t, a in zip(texts, answers, strict=True)])


def invented(writer: AnswerWriter, prompts: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """Answers with a number, date or name that their prompt lacks: published ones, and unconstrained samples."""
    texts = [(text, prompt) for text, prompt in zip(written, prompts, strict=True) if text]
    encoded, free = writer.sample(prompts, **HOW | {"candidates": 1}, constrained=False)
    loose = 0
    for prompt, (_, slots), (sample,) in zip(prompts, encoded, free, strict=True):
        names = [writer.tokenizer.names[token] for token in sample.tokens if token in writer.tokenizer.names]
        of_others = any(name not in slots.texts and name != "<|join|>" for name in names)
        loose += of_others or bool(unsupported(writer.text(sample, slots), prompt, writer.words))
    return {
        "ungrounded": float(sum(bool(unsupported(text, prompt, writer.words)) for text, prompt in texts)),
        "ungrounded_plain_check": float(sum(bool(strange_numbers(text, prompt)) for text, prompt in texts)),
        "unconstrained_ungrounded": loose / len(prompts),
        "without_answer": float(len(prompts) - len(texts)),
    }


def strange_numbers(text: str, prompt: str) -> set[str]:
    """Every run of digits that the prompt has not: a check that shares nothing with lm.answers.grounding."""
    return set(re.findall(r"\d+", text)) - set(re.findall(r"\d+", prompt))


def speed(writer: AnswerWriter, prompts: Sequence[str], seconds: float) -> dict[str, float]:
    """Questions a second of the whole way, and of the engine's plain sampling of as many tokens from these prompts."""
    encoded, sampled = writer.sample(prompts, **HOW)
    tokens = sum(len(sample.tokens) + 1 for samples in sampled for sample in samples)
    begun = time.perf_counter()
    plain = writer.sampler.sample(
        [ids for ids, _ in encoded],
        Sampling(temperature=HOW["temperature"], top_p=HOW["top_p"]),
        max_new_tokens=int(HOW["max_new_tokens"]),
        num_return_sequences=int(HOW["candidates"]),
    )
    took = time.perf_counter() - begun
    rate = sum(len(sample.tokens) + 1 for samples in plain for sample in samples) / took
    return {
        "questions_per_second": len(prompts) / seconds,
        "sampled_tokens_per_second": tokens / seconds,
        "engine_tokens_per_second": rate,
        "of_the_engine": tokens / seconds / rate,
    }


def with_interval(name: str, values: Floats) -> dict[str, float]:
    """The mean and its 95% bootstrap interval over questions."""
    drawn = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return {name: float(values.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}


def rows_of(f: dict[str, float]) -> dict[str, dict[str, str]]:
    """The table of tests/bench/README.md."""

    def shown(name: str, digits: int = 3) -> str:
        interval = f" ({f[name + '_low']:.{digits}f}–{f[name + '_high']:.{digits}f})" if name + "_low" in f else ""
        return f"{f[name]:.{digits}f}{interval}"

    def beside(name: str, others: Sequence[str], digits: int = 3) -> dict[str, str]:
        return {"ours": shown(name, digits), "compared to": "; ".join(shown(other, digits) for other in others)}

    return {
        "right article first / plain BM25": beside("top_1", ["bm25_top_1"]),
        "right article in three / plain BM25": beside("top_3", ["bm25_top_3"]),
        "ROUGE-L / top article; nearest past answer": beside(
            "rouge_l", ["top_article_rouge_l", "nearest_answer_rouge_l"]
        ),
        "chrF / top article; nearest past answer": beside("chrf", ["top_article_chrf", "nearest_answer_chrf"], 1),
        "precision of refusals / BM25 thresholds": beside(
            "refusal_precision", ["bm25_article_refusal_precision", "bm25_past_question_refusal_precision"]
        ),
        "answers with invented facts / unconstrained": {
            "ours": f"{f['ungrounded']:.0f} of {f['answered_questions']:.0f}",
            "compared to": f"{f['unconstrained_ungrounded']:.1%}",
        },
        "questions/s, of the engine's rate": {
            "ours": f"{f['questions_per_second']:.1f}",
            "compared to": f"{f['of_the_engine']:.0%}",
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
