"""What the engine's benchmarks run on: GPT-2 124M with random weights, its BPE, titles, reviews, prompts of any length.

Real data comes from the folder given as `--data`; what is absent there is made up on the spot and said so.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lm.checkpoint.manifest import Manifest, write_manifest
from lm.text.prompt import PromptEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 50257
TITLES = 12_000
FILLER = " the"  # a token of its own in any BPE that has learnt English


def titles(data: Path | None) -> list[str]:
    """12,000 product titles: those of Amazon Beauty, or the sample shop's."""
    file = data / "beauty/titles.csv" if data else None
    if file and file.exists():
        with file.open(encoding="utf-8", newline="") as rows:
            named = [row["title"] for row in csv.DictReader(rows) if row["title"]]
        return named[:TITLES]
    from jobs.sample.catalogue import build_catalogue

    _say("no beauty/titles.csv: titles are those of the sample shop")
    return build_catalogue(TITLES, 365, 0).titles.to_pylist()


def reviews(data: Path | None, count: int) -> list[str]:
    """`count` review texts in an order without system: of the device reviews, or the sample shop's phrases."""
    file = data / "device-reviews/1429_1.csv.gz" if data else None
    if file and file.exists():
        with gzip.open(file, "rt", encoding="utf-8", newline="") as rows:
            texts = [row["reviews.text"] for row in csv.DictReader(rows) if row["reviews.text"]]
    else:
        from jobs.sample.phrases_en import ENGLISH

        _say("no device-reviews: texts are the sample shop's phrases, one to twelve of them")
        phrases = sorted({text for text in _strings(ENGLISH) if " " in text and "{" not in text})
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(phrases, rng.integers(1, 13))) for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in itertools.islice(itertools.cycle(order), count)]


def save_causal(folder: Path, data: Path | None, item_ids: Sequence[str] = ()) -> Path:
    """GPT-2 124M with random weights; with `item_ids` it has a token for each of them."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=VOCABULARY + len(item_ids))
    if item_ids:
        coded = {"coding": "item_tokens", "first_item_token": VOCABULARY, "item_ids": list(item_ids)}
        _save(GPT2LMHeadModel(config), folder, data, Manifest.model_validate({"task": "recommend", **coded}))
    else:
        _save(GPT2LMHeadModel(config), folder, data, Manifest(task="recommend"))
    return folder


def save_classifier(folder: Path, data: Path | None) -> Path:
    """GPT-2 124M with a three-way head and random weights."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(num_labels=3, pad_token_id=VOCABULARY - 1)
    _save(GPT2ForSequenceClassification(config), folder, data, Manifest(task="sentiment"))
    return folder


def prompt(encoder: PromptEncoder, tokens: int, names: Sequence[str], seed: int) -> str:
    """A history of purchases, and one search that makes it exactly so many tokens long."""
    rng = np.random.default_rng(seed)
    lines, used = [encoder.header], encoder.smallest_budget
    ask = f"{encoder.template.searched}{encoder.template.space}"
    least = len(encoder.encode(f"{ask}gift\n"))
    while True:
        line = f"{encoder.template.bought} {names[rng.integers(len(names))]}\n"
        length = len(encoder.encode(line))
        if used + length + least > tokens:
            break
        lines.append(line)
        used += length
    for fillers in range(tokens):
        text = "".join([*lines, f"{ask}gift{FILLER * fillers}\n", encoder.cue])
        if len(encoder.encode(text)) == tokens:
            return text
    raise ValueError(f"{FILLER!r} is not one token of this tokenizer")


def _save(model: PreTrainedModel, folder: Path, data: Path | None, manifest: Manifest) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    write_manifest(folder, manifest)
    save_tokenizer(folder, data)


def save_tokenizer(folder: Path, data: Path | None) -> Path:
    """What a prompt encoder needs: a vocabulary and the sizes of GPT-2, no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY, "n_positions": 1024}))
    bpe = data / "gpt2-bpe" if data else None
    if bpe and (bpe / "vocab.bpe").exists():
        with gzip.open(bpe / "encoder.json.gz") as packed, (folder / "vocab.json").open("wb") as vocabulary:
            shutil.copyfileobj(packed, vocabulary)
        shutil.copy(bpe / "vocab.bpe", folder / "merges.txt")
        return folder
    from tests.models import train_tokenizer

    _say("no gpt2-bpe: the tokenizer is trained on the titles, 8,000 tokens of the model's 50,257")
    lines = [f"{name}\ngift the the" for name in titles(data)]
    train_tokenizer(lines, 8000).save(str(folder / "tokenizer.json"))
    return folder


def _strings(value: object) -> Iterable[str]:
    """Every string in nested dicts, lists and tuples."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(_strings(part) for part in value.values())
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(_strings(part) for part in value)


def _say(line: str) -> None:
    from tests.bench.measure import console

    console.print(f"[yellow]{line}[/yellow]", highlight=False)
