"""Train the sentiment classifier: byte-level BPE, pre-training on all reviews, fine-tuning on the rated ones.

The result is a plain `GPT2ForSequenceClassification` folder, and beside it the n-grams' head that its logits are added
to (`lm.ngrams`). What they weigh, and what makes them calibrated probabilities, is fitted on validation reviews.
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
from lm.calibration import Mixture, fit_mixture, label_weights, negative_log_likelihood, softmax
from lm.checkpoint import Manifest
from lm.fingerprint import model_fingerprint
from lm.ngrams import MOST_ROWS, Ngrams
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
#: Inverse L2 penalties of the n-grams' head; validation chooses.
_STRENGTHS = (1.0, 5.0, 25.0)


@dataclass(frozen=True, kw_only=True)
class SentimentSettings(Settings):
    """The classifier's training; `language` is only noted in the manifest: reviews have no template."""

    language: Literal["en", "zh"] = "en"
    ngrams: bool = True


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
    begun_from = {"from": start and model_fingerprint(start)}
    of = fingerprint(asdict(settings) | begun_from, [*map(bytes, documents), rated.labels.tobytes()])
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, of) as work:
        fit(pretraining(model, known, settings), schedule("pretrain", settings, settings.pretrain_epochs), work, report)
        task = _Classification(model, documents, rated, settings)
        outcome = fit(task.task(), schedule("finetune", settings), work, report)
        model.eval()
        head = _Head.fit(texts, rated, task.logits(rated.rows("validation")), settings)
        rows = rated.rows("test")
        p = head.mixture.probabilities(task.logits(rows), head.ngram_logits([texts[i] for i in rows]))
        figures = classification_figures(p, rated.labels[rows], settings.seed, head.label_weights)
        notes = {
            "settings": asdict(settings),
            "window": window or {},
            "epochs": outcome.best_epoch + 1,
            "lines": outcome.lines,
            "shortened": sum(shortened for _, shortened in encoded),
        }
        new = out.with_name(out.name + ".new")
        final = manifest.model_copy(update=head.manifest_values() | {"training": notes, "metrics": figures})
        write_folder(model, tokenizer, final, new)
        if head.ngrams is not None:
            head.ngrams.save(new)
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


@dataclass(frozen=True)
class _Head:
    """What stands on GPT-2's logits: n-grams, the mixture of both, and what decides the label."""

    ngrams: Ngrams | None
    mixture: Mixture
    label_weights: NDArray[np.float64]  # (labels,)

    @classmethod
    def fit(
        cls, texts: Sequence[str], rated: _Rated, gpt2: NDArray[np.float64], settings: SentimentSettings
    ) -> _Head:
        """The n-grams learn from training reviews; all else from validation reviews, of which `gpt2` are the logits."""
        train, validation = rated.rows("train"), rated.rows("validation")
        labels, judged = rated.labels[validation], [texts[i] for i in validation]
        some = np.random.default_rng(settings.seed).permutation(train)[:MOST_ROWS]
        choices: list[tuple[float, Ngrams | None, Mixture, NDArray[np.float64]]] = []
        fitted: Sequence[Ngrams | None] = [None]
        if settings.ngrams:
            fitted = Ngrams.fit([texts[i] for i in some], rated.labels[some], len(LABELS), strengths=_STRENGTHS)
        for ngrams in fitted:
            logits = None if ngrams is None else ngrams.logits(judged)
            mixture = fit_mixture(labels, gpt2, logits)
            p = mixture.probabilities(gpt2, logits)
            choices.append((negative_log_likelihood(p, labels), ngrams, mixture, p))
        _, ngrams, mixture, p = min(choices, key=lambda choice: choice[0])
        shares = np.bincount(rated.labels[train], minlength=len(LABELS)) / len(train)
        return cls(ngrams, mixture, label_weights(p, labels, shares))

    def ngram_logits(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        return None if self.ngrams is None else self.ngrams.logits(texts)

    def manifest_values(self) -> dict[str, Any]:
        return {
            "temperature": self.mixture.temperature,
            "ngram_weight": self.mixture.ngram_weight,
            "offsets": self.mixture.offsets.tolist(),
            "label_weights": self.label_weights.tolist(),
        }


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
            "validation_loss": negative_log_likelihood(softmax(logits), labels),
        }


def classification_figures(
    p: NDArray[np.float64],
    labels: NDArray[np.int64],
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Held-out figures with 95% intervals, and the majority class's; `weights` multiply `p` before a label is chosen.

    The calibration error is that of the likeliest label.
    """
    predicted = (p if weights is None else p * weights).argmax(axis=1)
    majority = np.full_like(labels, np.bincount(labels).argmax())

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
