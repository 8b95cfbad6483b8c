"""Sentiment probabilities: Hugging Face's own, calibrated, and the same in any company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import Manifest, write_manifest
from lm.sentiment.classifier import SentimentClassifier
from tests.models import save_causal, save_classifier

TEXTS = [
    "smells lovely, my hair is soft",
    "awful, it broke after a day",
    "",
    "x",
    "味道很好",
    "it is soft. " * 100,
    "awful\n\nand again awful",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@torch.inference_mode()
def huggingface(path: Path, ids: list[int], temperature: float) -> np.ndarray:
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    model.config.pad_token_id = None  # the end token, where we read, would pass for padding
    return (model(torch.tensor([ids])).logits[0].double() / temperature).softmax(0).numpy()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_probabilities_are_huggingfaces(temperature: float, tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "m", temperature=temperature, n_embd=48, n_head=3)
    model = SentimentClassifier.load(path, dtype="float32")
    found = model.classify(TEXTS, max_tokens=64)
    assert found.shape == (len(TEXTS), 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for text, row in zip(TEXTS, found, strict=True):
        ids, _ = model.encoder.encode_reviews([text], 64)[0]
        np.testing.assert_allclose(row, huggingface(path, ids, temperature), atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.05  # the texts do differ


def test_probabilities_have_the_same_bits_in_any_company(tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "m")
    rng = np.random.default_rng(0)
    words = ["soft", "lovely", "awful", "broke", "hair", "day", "after", "my", "smells", "味道很好"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 60))) for _ in range(64)]
    model = SentimentClassifier.load(path, dtype="float32")
    whole = model.classify(texts, 128)
    order = rng.permutation(64)
    assert (model.classify([texts[i] for i in order], 128) == whole[order]).all()
    assert (np.concatenate([model.classify([text], 128) for text in texts]) == whole).all()
    tight = SentimentClassifier.load(path, dtype="float32", batch_tokens=100)
    assert (tight.classify(texts, 128) == whole).all()


def test_no_texts_and_longest_texts(tmp_path: Path) -> None:
    model = SentimentClassifier.load(save_classifier(tmp_path / "m", n_positions=64), dtype="float32")
    assert model.classify([], 256).shape == (0, 3)
    assert model.classify(["awful " * 100_000, "ok"], 4096).shape == (2, 3)  # more than the model's positions


def test_other_architectures(tmp_path: Path) -> None:
    plain = save_classifier(tmp_path / "plain")
    torch.manual_seed(0)
    path = tmp_path / "neo"
    size = {"vocab_size": 400, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "initializer_range": 0.2}
    layers = {"attention_types": [[["global", "local"], 1]], "num_labels": 3, "pad_token_id": 0}
    config = AutoConfig.for_model("gpt_neo", **size, **layers)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(path)
    for file in ("tokenizer.json", "regulars.json"):
        (path / file).write_bytes((plain / file).read_bytes())
    model = SentimentClassifier.load(path, dtype="float32")
    for text, row in zip(TEXTS, model.classify(TEXTS, 64), strict=True):
        ids, _ = model.encoder.encode_reviews([text], 64)[0]
        np.testing.assert_allclose(row, huggingface(path, ids, 1.0), atol=1e-5)


def test_directories_that_cannot_classify_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train --task sentiment"):
        SentimentClassifier.load(save_causal(tmp_path / "causal"))
    path = save_classifier(tmp_path / "m")
    write_manifest(path, Manifest(task="sentiment", labels=["bad", "good"]))
    with pytest.raises(CheckpointError, match="3 outputs and its manifest 2 labels"):
        SentimentClassifier.load(path)
