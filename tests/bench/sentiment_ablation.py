"""Ablation of the sentiment model: what each of its parts is worth, fitted from kept logits.

    python -m tests.bench.sentiment_ablation --data ../shared/data --keep FOLDER \
        [--sets zh sst2] [--seeds 0 1 2] [--rows N] [--json FILE]

The five sets are those of `tests.bench.reviews`, read by the product's own mappings and split by its own rule. Large
sets are cut to the reviews with the smallest hashes (`ROWS`). `--rows` cuts every set further: a small shop, judged by
the test reviews of the whole set. GPT-2 trains as `regulars train` trains it. Its logits on validation and test reviews
are kept in FOLDER, like those of the n-gram models, and are used again when they are there; every row of the table is
fitted from them. A difference is the row less the full model, on the same test reviews, with its paired bootstrap 95%
interval.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from jobs.config.config import Config, load
from jobs.inputs.reader import read_inputs
from jobs.sample import write_sample
from jobs.spark.session import create_session
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store
from jobs.training import training_data
from lm.checkpoint.manifest import Manifest
from lm.checkpoint.tokenizer import for_classifier, train_bpe
from lm.metrics import metrics
from lm.redaction.redact import redact
from lm.sentiment import calibration, sentiment_baselines, sentiment_head
from lm.sentiment.fit_head import fit_head
from lm.sentiment.fit_ngrams import fit_ngrams
from lm.sentiment.labels import LABELS, UNRATED
from lm.sentiment.rated_reviews import Rated
from lm.sentiment.train_sentiment import SentimentSettings, _Classification
from lm.text.prompt import PromptEncoder
from lm.train.language_model import pretraining, stage_schedule, start_model
from lm.train.training_loop import fit
from tests.bench.reviews import COMMANDS, DAYS, later_reviews

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The most reviews that train, validate and test a set; a hash of their text leaves out the others.
ROWS = {"zh": 15_000, "sst2": 20_000, "devices": 15_000}
SETS = [*COMMANDS, "sample"]


@dataclass(frozen=True)
class Stack:
    """One row of the table: which parts are there."""

    gpt2: bool = True
    ngrams: bool = True
    lexicon: bool = True
    categories: bool = True
    lapses: bool = True
    rare_labels: bool = True
    folds: bool = True


FULL = Stack()
STACKS = {
    "full model": FULL,
    "GPT-2 alone": replace(FULL, ngrams=False, lexicon=False),
    "n-grams alone": replace(FULL, gpt2=False, lexicon=False),
    "without GPT-2": replace(FULL, gpt2=False),
    "without the lexicon": replace(FULL, lexicon=False),
    "without categories": replace(FULL, categories=False),
    "without lapses": replace(FULL, lapses=False),
    "likeliest label": replace(FULL, rare_labels=False),
    "calibrated by one fold": replace(FULL, folds=False),
}


def by_hash(texts: pd.Series, most: int) -> pd.Index:
    """The index of the `most` texts with the smallest hashes."""
    digests = texts.map(lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    return digests.sort_values(kind="stable").index[:most].sort_values()


def config_of(name: str, data: Path, keep: Path) -> Config:
    """The product's settings of a set, from the YAML beside this file or the sample's own."""
    if name == "sample":
        return load(keep / "shop/regulars.yaml")
    (keep / "data").unlink(missing_ok=True)
    (keep / "data").symlink_to(data.resolve())
    file = keep / f"reviews_{name}.yaml"
    file.write_text((Path(__file__).parent / file.name).read_text(encoding="utf-8"), encoding="utf-8")
    return load(file)


def read_set(name: str, data: Path, keep: Path) -> pd.DataFrame:
    """Reviews of a set: text, label, category, `is_judged` (of later days), `planted` (words contradict the stars)."""
    file = keep / f"{name}.parquet"
    if file.exists():
        return pd.read_parquet(file)
    if name == "sample":
        last = write_sample(keep / "shop", seed=0).run_date
        until = last - timedelta(days=DAYS)
    else:
        until = date.fromisoformat(COMMANDS[name][0])
    config = config_of(name, data, keep)
    spark = create_session("ablation", timezone=config.timezone, conf={"spark.master": "local[1]"})
    with scratch_folder(spark, Store(config.store), "ablation") as work:
        used = read_inputs(spark, config, until, work, training_data.tables_of_reviews(config.inputs)).used
        stars = config.sentiment
        found = training_data.collect_reviews(used, stars.negative_stars, stars.positive_stars)
    spark.stop()
    known = pd.DataFrame({"text": found.texts, "label": found.labels, "category": found.categories})
    if name in ROWS:
        known = known.loc[by_hash(known["text"], ROWS[name])]
    later = pd.DataFrame({"text": [], "label": [], "category": [], "planted": []})
    if name == "sample":
        later = later_reviews(keep / "shop", until, last, config)
    if name == "sst2":
        test = pd.read_csv(data / "sst2/test.tsv.gz", sep="\t", quoting=3)
        later = pd.DataFrame({"text": test["sentence"], "label": 2 * test["label"].astype(int), "category": ""})
    rows = pd.concat([known.assign(is_judged=False), later.assign(is_judged=True)], ignore_index=True)
    rows["planted"] = rows["planted"].eq(True) if "planted" in rows else False
    rows.astype({"label": int}).to_parquet(file)
    return pd.read_parquet(file)


def small_shop(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """`most` reviews, drawn by hash, and the whole set's test reviews to judge."""
    if not rows["is_judged"].any():
        test = Rated.split(rows["text"].tolist(), rows["label"].to_numpy(np.int64)).rows("test")
        rows = pd.concat([rows, rows.iloc[test].assign(is_judged=True)], ignore_index=True)
    known = rows[~rows["is_judged"]]
    return pd.concat([known.loc[by_hash(known["text"], most)], rows[rows["is_judged"]]], ignore_index=True)


class Said(NamedTuple):
    """What a row of the table says of the test reviews."""

    p: Floats  # (test, labels) probabilities of the observed label
    of_text: Floats  # (test, labels) probabilities of what each text says
    label: Ints  # (test,)


class Material:
    """A set's reviews, their parts, and the test reviews."""

    def __init__(self, name: str, data: Path, keep: Path, most: int | None) -> None:
        rows = read_set(name, data, keep)
        self.name, self.keep = name if most is None else f"{name}_{most}", keep
        if most is not None:
            rows = small_shop(rows, most)
        known = rows[~rows["is_judged"]]
        self.rated = Rated.split(known["text"].tolist(), known["label"].to_numpy(np.int64))
        self.known = len(known)
        self.texts, self.labels = rows["text"].tolist(), rows["label"].to_numpy(np.int64)
        self.categories, self.planted = rows["category"].tolist(), rows["planted"].to_numpy(bool)
        later = np.flatnonzero(rows["is_judged"].to_numpy(bool) & (self.labels != UNRATED))
        self.test = later if len(later) else self.rated.rows("test")

    def gpt2(self, settings: SentimentSettings) -> tuple[Floats, Floats]:
        """GPT-2's logits on the validation and the test reviews; trains where they are not kept."""
        file = self.keep / f"{self.name}_{settings.seed}_gpt2.npz"
        if not file.exists():
            validation, test = self._train(settings)
            np.savez(file, validation=validation, test=test)
        kept = np.load(file)
        return kept["validation"], kept["test"]

    def _train(self, settings: SentimentSettings) -> tuple[Floats, Floats]:
        known = self.rated.parts.rows("known")
        tokenizer = for_classifier(train_bpe((redact(self.texts[i]) for i in known), settings.vocab_size, folded=True))
        model = start_model(settings, tokenizer, "classifier", positions=settings.max_tokens, labels=LABELS)
        manifest = Manifest(task="sentiment", language=settings.language, labels=list(LABELS))
        encoder = PromptEncoder(tokenizer, manifest, context_tokens=model.config.max_position_embeddings)
        encoded = encoder.encode_reviews(self.texts, settings.max_tokens)
        documents = [np.array(tokens, dtype=np.int32) for tokens, _ in encoded]
        work = self.keep / f"{self.name}_{settings.seed}_work"
        work.mkdir(exist_ok=True)
        reading = pretraining(model, [documents[i] for i in known], settings)
        fit(reading, stage_schedule("pretrain", settings, settings.pretrain_epochs), work)
        task = _Classification(model, documents, self.rated, settings)
        epochs = max(settings.max_epochs, -(-settings.min_steps // task.steps))
        fit(task.task(), stage_schedule("finetune", settings, epochs), work)
        model.eval()
        return task.logits(self.rated.rows("validation")), task.logits(self.test)

    def of(self, rows: Ints) -> tuple[list[str], list[str]]:
        """Texts and categories."""
        return [self.texts[i] for i in rows], [self.categories[i] for i in rows]

    def said(self, stack: Stack, settings: SentimentSettings, use_lexicon: bool) -> Said:
        """Fit the parts of a stack on validation reviews and judge the test reviews."""
        validation, test = self.gpt2(settings)
        if not stack.gpt2:
            validation, test = np.zeros_like(validation), np.zeros_like(test)
        texts, about = self.of(self.test)
        folds = self.rated.folds() if stack.folds else [0]
        with (
            mock.patch.object(sentiment_head, "Ngrams", KeptNgrams(self)),
            mock.patch.object(Rated, "folds", return_value=folds),
            mock.patch.object(calibration, "_MOST_NOISE", calibration._MOST_NOISE if stack.lapses else 0.0),
        ):
            head = fit_head(
                self.texts[: self.known],
                self.rated,
                validation,
                categories=self.categories[: self.known] if stack.categories else None,
                ngrams=stack.ngrams,
                lexicon=stack.lexicon and use_lexicon,
            )
        of_text = head.of_text(test, texts, about if stack.categories else None)
        p = head.mixture.observed(of_text)
        return Said(p, of_text, head.choose(p, likeliest=not stack.rare_labels))


class KeptNgrams:
    """Stands in for the class `Ngrams`: keeps the logits of every model that is fitted."""

    def __init__(self, material: Material) -> None:
        self.material = material

    def fit(self, texts: Sequence[str], labels: Ints, count: int, categories: Sequence[str] | None) -> KeptLogits:
        """Fit a model, unless the logits are kept that are asked for."""
        of = hashlib.sha256(json.dumps([sorted(texts), categories is None]).encode("utf-8", "surrogatepass"))
        folder = self.material.keep / f"{self.material.name}_ngrams_{of.hexdigest()[:12]}"
        return KeptLogits(folder, lambda: fit_ngrams(texts, labels, count, categories))


class KeptLogits:
    """Stands in for a fitted `Ngrams`."""

    def __init__(self, folder: Path, fitted: Any) -> None:
        self.folder, self.fitted = folder, fitted
        folder.mkdir(exist_ok=True)

    def logits(self, texts: Sequence[str], categories: Sequence[str] | None = None) -> Floats:
        """As `Ngrams.logits`."""
        of = hashlib.sha256(json.dumps([texts, categories]).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        file = self.folder / f"{of}.npy"
        if not file.exists():
            np.save(file, self.fitted().logits(texts, categories))
        kept: Floats = np.load(file)
        return kept


def rivals(material: Material) -> dict[str, Said]:
    """TF-IDF + logistic regression from the same reviews, and VADER where most texts have no Chinese."""
    none = np.zeros((0, 3))
    learned = material.rated.rows("known")
    judged, _ = material.of(material.test)
    texts, _ = material.of(learned)
    p = sentiment_baselines.tfidf_logistic_regression(texts, material.labels[learned], judged, len(LABELS))
    found = {"TF-IDF + logistic regression": Said(p, none, p.argmax(axis=1))}
    if not material.name.startswith("zh"):
        found["VADER"] = Said(none, none, sentiment_baselines.vader(judged))
    return found


def macro_f1(labels: Ints, predicted: Ints) -> float:
    """Macro-F1 over the labels that occur."""
    return metrics.macro_f1(labels, predicted, len(LABELS))


def calibration_error(labels: Ints, p: Floats) -> float:
    """The expected calibration error of the likeliest label."""
    return metrics.expected_calibration_error(p, labels)


def figures(said: Said, full: Said, material: Material, confidence: float) -> dict[str, float]:
    """A row's figures, and each less that of the full model with its paired interval."""
    labels = material.labels[material.test]
    found: dict[str, float] = {"reviews": len(labels)}
    compared: dict[str, tuple[Any, Any, Any]] = {
        "accuracy": (metrics.accuracy, said.label, full.label),
        "macro_f1": (macro_f1, said.label, full.label),
    }
    if len(said.p):
        compared["calibration_error"] = (calibration_error, said.p, full.p)
    for name, (statistic, own, other) in compared.items():
        low, high = metrics.bootstrap_interval(
            lambda truth, a, b, of=statistic: of(truth, a) - of(truth, b), labels, own, other
        )
        value = statistic(labels, own)
        found |= {name: value, f"{name}_less": value - statistic(labels, other)}
        found |= {f"{name}_low": low, f"{name}_high": high}
    if material.planted.any() and len(said.of_text):
        planted = material.planted[material.test]
        against = (labels == 0) & (said.of_text[:, 2] >= confidence)
        against |= (labels == 2) & (said.of_text[:, 0] >= confidence)
        hits = int((against & planted).sum())
        found |= {"precision": hits / max(int(against.sum()), 1), "recall": hits / int(planted.sum())}
    return found


def line(row: dict[str, Any]) -> str:
    """A row as Markdown."""
    cells = [f"{row['set']} {row['seed']}", row["stack"]]
    for key in ("accuracy", "macro_f1", "calibration_error"):
        if key not in row:
            cells.append("")
            continue
        less = f"{row[key + '_less']:+.4f} ({row[key + '_low']:+.4f} to {row[key + '_high']:+.4f})"
        cells.append(f"{row[key]:.4f}, {less}")
    if "recall" in row:
        cells.append(f"{row['precision']:.3f}, {row['recall']:.3f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run the sets and seeds, printing each row as it is fitted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with reviews-zh, device-reviews, …")
    parser.add_argument("--keep", type=Path, required=True, help="folder for logits, used again where they are there")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="cut each set to so many reviews; the whole set's test judges")
    parser.add_argument("--json", type=Path, help="also add each row to this file, one JSON object a line")
    options = parser.parse_args()
    if not (options.data / "reviews-zh").exists():
        sys.exit(f"{options.data}/reviews-zh is absent: this benchmark needs the review sets")
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    print("| set, seed | parts | accuracy | macro-F1 | calibration error | disagrees: precision, recall |")
    print("|---|---|---|---|---|---|")
    for name in options.sets:
        material = Material(name, options.data, options.keep, options.rows)
        config = config_of(name, options.data, options.keep)
        for seed in options.seeds:
            settings = SentimentSettings(
                **config.train.sentiment.model_dump(), seed=seed, language=config.recommend.language
            )
            said = {
                row: material.said(stack, settings, config.train.sentiment.lexicon) for row, stack in STACKS.items()
            }
            said |= rivals(material)
            for row, of in said.items():
                found = figures(of, said["full model"], material, config.sentiment.disagree_confidence)
                print(line(whole := {"set": material.name, "seed": seed, "stack": row, **found}), flush=True)
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(whole) + "\n")


if __name__ == "__main__":
    main()
