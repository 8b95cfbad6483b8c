"""Train the sentiment classifier: byte-level BPE, pre-training on all reviews, fine-tuning on the rated ones.

The result is a plain `GPT2ForSequenceClassification` folder; its temperature is calibrated on validation reviews.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lm import checkpoint, metrics
from lm.checkpoint import Manifest
from lm.prompt import PromptEncoder
from lm.redact import redact
from lm.splits import part_of
from lm.tokenizer import for_classifier, train_bpe
from lm.training import Report, Task, fit, length_batches, pad
from lm.training_files import TrainingError, fingerprint, replace_folder, work_folder
from lm.training_model import Settings, Tokens, device, hidden_states, pretraining, schedule, start_model, write_folder

LABELS = ("negative", "neutral", "positive")
UNRATED = -1
_FEWEST = 50


@dataclass(frozen=True, kw_only=True)
class SentimentSettings(Settings):
    """The classifier's training; `language` is only noted in the manifest: reviews have no template."""

    language: Literal["en", "zh"] = "en"


def train_sentiment(
    texts: Sequence[str],
    labels: Sequence[int],
    settings: SentimentSettings,
    out: Path,
    *,
    report: Report | None = None,
    window: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Train on `texts` with labels 0 negative, 1 neutral, 2 positive, or UNRATED (pre-training only).

    Writes `out` when finished; until then an older `out` stays. `window` is noted in the manifest. Returns the
    metrics of the held-out test reviews beside those of the majority class.
    Raises TrainingError where there is too little to learn from.
    """
    rated = _Rated.split(texts, np.asarray(labels, dtype=np.int64))
    start = None if settings.init is None else checkpoint.resolve(settings.init)
    seen = [text for text, part in zip(texts, rated.parts, strict=True) if part != "test"]
    tokenizer = train_bpe(map(redact, seen), settings.vocab_size) if start is None else checkpoint.load_tokenizer(start)
    tokenizer = for_classifier(tokenizer)
    model = start_model(settings, tokenizer, "classifier", positions=settings.max_tokens, labels=LABELS)
    manifest = Manifest(task="sentiment", language=settings.language, labels=list(LABELS))
    encoder = PromptEncoder(tokenizer, manifest, context_tokens=model.config.max_position_embeddings)
    encoded = encoder.encode_reviews(texts, settings.max_tokens)
    documents = [np.array(tokens, dtype=np.int32) for tokens, _ in encoded]
    known = [document for document, part in zip(documents, rated.parts, strict=True) if part != "test"]
    begun_from = {"from": start and checkpoint.fingerprint(start)}
    of = fingerprint(asdict(settings) | begun_from, [*map(bytes, documents), rated.labels.tobytes()])
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, of) as work:
        fit(pretraining(model, known, settings), schedule("pretrain", settings, settings.pretrain_epochs), work, report)
        task = _Classification(model, documents, rated, settings)
        outcome = fit(task.task(), schedule("finetune", settings), work, report)
        model.eval()
        temperature = calibrate(task.logits(rated.rows("validation")), rated.labels[rated.rows("validation")])
        rows = rated.rows("test")
        p = softmax(task.logits(rows) / temperature)
        figures = classification_figures(p, rated.labels[rows], settings.seed)
        notes = {
            "settings": asdict(settings),
            "window": window or {},
            "epochs": outcome.best_epoch + 1,
            "lines": outcome.lines,
            "shortened": sum(shortened for _, shortened in encoded),
        }
        new = out.with_name(out.name + ".new")
        final = manifest.model_copy(update={"temperature": temperature, "training": notes, "metrics": figures})
        write_folder(model, tokenizer, final, new)
        replace_folder(new, out)
    return figures


@dataclass(frozen=True)
class _Rated:
    labels: NDArray[np.int64]  # (texts,), UNRATED where there is none
    parts: list[str]  # (texts,)

    @classmethod
    def split(cls, texts: Sequence[str], labels: NDArray[np.int64]) -> _Rated:
        rated = cls(labels, [part_of(text) for text in texts])
        counts = {part: len(rated.rows(part)) for part in ("train", "validation", "test")}
        if sum(counts.values()) < _FEWEST or not all(counts.values()):
            raise TrainingError(
                f"{sum(counts.values())} rated reviews are too few to learn sentiment from: at least {_FEWEST} "
                "with different texts are needed; give more days, or set models.sentiment to a trained checkpoint"
            )
        if len(np.unique(labels[rated.rows("train")])) < 2:
            raise TrainingError(
                "all rated reviews have the same sentiment: check sentiment.negative_stars and positive_stars"
            )
        return rated

    def rows(self, part: str) -> NDArray[np.int64]:
        return np.flatnonzero((np.array(self.parts) == part) & (self.labels != UNRATED))


class _Classification:
    """Cross-entropy at the last token of a review; rare classes weigh by the inverse root of their share."""

    def __init__(
        self, model: PreTrainedModel, documents: Sequence[Tokens], rated: _Rated, settings: SentimentSettings
    ) -> None:
        self.model, self.documents, self.rated, self.settings = model, documents, rated, settings
        self.lengths = np.array([len(document) for document in documents], dtype=np.int64)
        labels = rated.labels[rated.rows("train")]
        weights = 1 / np.sqrt(np.maximum(np.bincount(labels, minlength=len(LABELS)), 1))
        self.weights = torch.tensor(weights / weights[labels].mean(), dtype=torch.float32, device=device())

    def task(self) -> Task[NDArray[np.int64]]:
        rows = self.rated.rows("train")

        def batches(epoch: int) -> list[NDArray[np.int64]]:
            of = length_batches(self.lengths[rows], self.settings.batch_tokens, self.settings.seed, epoch)
            return [rows[batch] for batch in of]

        return Task(self.model, batches, self.loss, self.validate, "macro_f1")

    def scores(self, batch: NDArray[np.int64]) -> torch.Tensor:
        """(B, classes) logits, read at each review's last token as Hugging Face's forward does."""
        tokens = pad([self.documents[i] for i in batch], device())
        last = torch.from_numpy(self.lengths[batch] - 1).to(tokens.device)
        states = hidden_states(self.model, tokens)[torch.arange(len(batch), device=tokens.device), last]  # (B, n_embd)
        return self.model.score(states)

    def loss(self, batch: NDArray[np.int64]) -> tuple[torch.Tensor, float]:
        labels = torch.from_numpy(self.rated.labels[batch]).to(device())
        logits = self.scores(batch).float()
        return F.cross_entropy(logits, labels, weight=self.weights, reduction="sum"), float(self.weights[labels].sum())

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows, classes) in the order of `rows`."""
        found = np.zeros((len(rows), len(LABELS)))
        with torch.inference_mode():
            for batch in length_batches(self.lengths[rows], self.settings.batch_tokens, 0, 0):
                found[batch] = self.scores(rows[batch]).double().cpu().numpy()
        return found

    def validate(self) -> dict[str, float]:
        rows = self.rated.rows("validation")
        labels, logits = self.rated.labels[rows], self.logits(rows)
        predicted = logits.argmax(axis=1)
        return {
            "macro_f1": metrics.macro_f1(labels, predicted, len(LABELS)),
            "accuracy": metrics.accuracy(labels, predicted),
            "validation_loss": negative_log_likelihood(logits, labels),
        }


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, classes) logits -> probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def negative_log_likelihood(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean -ln of the label's probability."""
    of_label = softmax(logits)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, 1e-12)).mean())


def calibrate(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature in [0.1, 10] whose softmax(logits / temperature) fits `labels` best (Guo et al., ICML 2017).

    The likelihood is concave in 1 / temperature, so narrowing a bracket finds its one maximum.
    """
    low, high = -np.log(10), np.log(10)
    for _ in range(60):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if negative_log_likelihood(logits / np.exp(left), labels) < negative_log_likelihood(
            logits / np.exp(right), labels
        ):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def classification_figures(p: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> dict[str, float]:
    """Held-out figures with 95% intervals, and the majority class's."""
    predicted, majority = p.argmax(axis=1), np.full_like(labels, np.bincount(labels).argmax())

    def f1(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
        return metrics.macro_f1(a, b, len(LABELS))

    figures = {
        "accuracy": metrics.accuracy(labels, predicted),
        "macro_f1": f1(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy(labels, predicted, len(LABELS)),
        "expected_calibration_error": metrics.expected_calibration_error(p, labels),
        "majority_accuracy": metrics.accuracy(labels, majority),
        "majority_macro_f1": f1(labels, majority),
        "reviews": float(len(labels)),
    }
    for name, statistic in (("accuracy", metrics.accuracy), ("macro_f1", f1)):
        low, high = metrics.bootstrap_interval(statistic, labels, predicted, seed=seed)
        figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures
