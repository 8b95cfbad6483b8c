"""Train the sentiment classifier: byte-level BPE, pre-training on all reviews, fine-tuning on the rated ones.

The result is a plain `GPT2ForSequenceClassification` folder with a linear model of n-grams (`lm.sentiment.ngrams`) and
a manifest. The weights of both and the calibration are fitted on validation reviews (`lm.sentiment.sentiment_head`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import Manifest
from lm.checkpoint.tokenizer import for_classifier, train_bpe
from lm.engine.device import choose_device
from lm.metrics import metrics
from lm.redaction.redact import redact
from lm.sentiment.calibration import negative_log_likelihood, softmax
from lm.sentiment.fit_head import fit_head
from lm.sentiment.labels import LABELS
from lm.sentiment.rated_reviews import Rated
from lm.text.prompt import PromptEncoder
from lm.train.language_model import (
    Tokens,
    TrainingSettings,
    hidden_states,
    pretraining,
    stage_schedule,
    start_model,
    write_model_folder,
)
from lm.train.private_steps import PrivateSteps, refuse_unprotected_stages
from lm.train.training_loop import (
    ESTIMATE_SECONDS,
    ProgressCallback,
    TrainingProgress,
    TrainingTask,
    fit,
    length_batches,
    pad,
)
from lm.train.training_state import replace_folder, training_key, work_folder


@dataclass(frozen=True, kw_only=True)
class SentimentSettings(TrainingSettings):
    """The classifier's training; `language` is only noted in the manifest: reviews have no template."""

    language: Literal["en", "zh"] = "en"
    ngrams: bool = True
    lexicon: bool = True
    token_dropout: float = 0.2  # share of a review's tokens that a training step does not see
    label: Literal["validated", "likeliest"] = "validated"  # of the figures; the model keeps its label weights
    min_steps: int = 150  # few reviews are passed more often than max_epochs


def train_sentiment(
    texts: Sequence[str],
    labels: Sequence[int],
    settings: SentimentSettings,
    out: Path,
    *,
    categories: Sequence[str] | None = None,
    writers: Sequence[str] | None = None,
    report: ProgressCallback | None = None,
    window: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Train on `texts` with labels that are indices into LABELS, or UNRATED (pre-training only).

    `categories` are what each text is about, "" if unknown; `writers` are the customers who wrote them, by
    default another one each. `window` is noted in the manifest. An older `out` stays
    until the training has finished. Returns `classification_figures` of the held-out test reviews.
    Raises TrainingError where there is too little to learn from.
    """
    refuse_unprotected_stages(settings.privacy, {"pretrain_epochs": settings.pretrain_epochs > 0})
    rated = Rated.split(texts, np.asarray(labels, dtype=np.int64))
    start = None if settings.init is None else checkpoint.resolve(settings.init)
    known = rated.parts.rows("known")
    if start is None:
        tokenizer = train_bpe(
            (redact(texts[i]) for i in known),
            settings.vocab_size,
            folded=True,
            writers=writers and [writers[i] for i in known],
            min_writers=settings.min_customers,
        )
    else:
        tokenizer = checkpoint.load_tokenizer(start)
    tokenizer = for_classifier(tokenizer)
    model = start_model(settings, tokenizer, "classifier", positions=settings.max_tokens, labels=LABELS)
    manifest = Manifest(task="sentiment", language=settings.language, labels=list(LABELS))
    encoder = PromptEncoder(tokenizer, manifest, context_tokens=model.config.max_position_embeddings)
    encoded = encoder.encode_reviews(texts, settings.max_tokens)
    documents = [np.array(tokens, dtype=np.int32) for tokens, _ in encoded]
    begun_from = {"from": start and model_fingerprint(start)}
    of = training_key(asdict(settings) | begun_from, [*map(bytes, documents), rated.labels.tobytes()])
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, of) as work:
        reading = pretraining(model, [documents[i] for i in known], settings)
        fit(reading, stage_schedule("pretrain", settings, settings.pretrain_epochs), work, report)
        task = _Classification(model, documents, rated, settings)
        epochs = task.private.epochs if task.private else max(settings.max_epochs, -(-settings.min_steps // task.steps))
        outcome = fit(task.task(), stage_schedule("finetune", settings, epochs), work, report)
        model.eval()
        head = fit_head(
            texts,
            rated,
            task.logits(rated.rows("validation")),
            categories=categories,
            writers=writers,
            min_customers=settings.min_customers,
            ngrams=settings.ngrams,
            lexicon=settings.lexicon,
            seed=settings.seed,
            report=_counted("n-grams", report),
        )
        rows = rated.rows("test")
        p = head.probabilities(
            task.logits(rows), [texts[i] for i in rows], categories and [categories[i] for i in rows]
        )
        predicted = head.choose(p, likeliest=settings.label == "likeliest")
        figures = classification_figures(p, rated.labels[rows], predicted, settings.seed)
        notes = {
            "settings": asdict(settings),
            "window": window or {},
            "epochs": outcome.best_epoch + 1,
            "lines": outcome.lines,
            "shortened": sum(shortened for _, shortened in encoded),
        }
        if task.private is not None:
            notes["privacy"] = task.private.notes(_not_covered(settings))
        new = work / "model"
        final = manifest.model_copy(update=head.manifest_values() | {"training": notes, "metrics": figures})
        write_model_folder(model, tokenizer, final, new)
        if head.ngrams is not None:
            head.ngrams.save(new)
        replace_folder(new, out)
    return figures


def _counted(stage: str, report: ProgressCallback | None) -> Callable[[int, int], None]:
    """A callback that reports how many of a stage's equally long parts are done."""
    begun = time.monotonic()

    def told(done: int, of: int) -> None:
        seconds = time.monotonic() - begun
        is_known = done and seconds >= ESTIMATE_SECONDS
        left = seconds / done * (of - done) if is_known else math.nan
        if report is not None:
            report(TrainingProgress(stage, 0, 1, done, of, math.nan, left, {}))

    return told


def _not_covered(settings: SentimentSettings) -> list[str]:
    """What learns from reviews without noise, beside GPT-2."""
    parts = {
        "the words of the tokenizer": settings.init is None,
        "the shares of the labels": True,
        "n-grams": settings.ngrams,
        "the weights of the mixture and the calibration": True,
        "the figures": True,
    }
    return [part for part, is_there in parts.items() if is_there]


class _Classification:
    """The fine-tuning task: cross-entropy at the last token, classes weighted by the inverse root of their share."""

    def __init__(
        self,
        model: PreTrainedModel,
        documents: Sequence[Tokens],
        rated: Rated,
        settings: SentimentSettings,
    ) -> None:
        self.model, self.documents, self.rated, self.settings = model, documents, rated, settings
        self.lengths = np.array([len(document) for document in documents], dtype=np.int64)
        labels = rated.labels[rated.rows("train")]
        weights = 1 / np.sqrt(np.maximum(np.bincount(labels, minlength=len(LABELS)), 1))
        self.weights = torch.tensor(weights / weights[labels].mean(), dtype=torch.float32, device=choose_device())
        self.private: PrivateSteps | None = None
        if settings.privacy is not None:
            epochs, least = settings.max_epochs, settings.min_steps
            self.private = PrivateSteps.plan(settings.privacy, len(labels), epochs, "one review", min_steps=least)

    def task(self) -> TrainingTask[NDArray[np.int64]]:
        return TrainingTask(self.model, self.batches, self.loss, self.validate, "macro_f1", self.private)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The reviews of each step of an epoch."""
        rows = self.rated.rows("train")
        if self.private is not None:
            return [np.array(step, dtype=np.int64) for step in self.private.batches(rows.tolist())]
        of = length_batches(self.lengths[rows], self.settings.batch_tokens, self.settings.seed, epoch)
        return [rows[batch] for batch in of]

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self.batches(0))

    def scores(self, documents: Sequence[Tokens]) -> torch.Tensor:
        """(B, classes) logits at each review's last token, as in Hugging Face's forward."""
        tokens = pad(documents, choose_device())
        last = torch.tensor([len(document) - 1 for document in documents], device=tokens.device)
        rows = torch.arange(len(documents), device=tokens.device)
        return self.model.score(hidden_states(self.model, tokens)[rows, last])

    def loss(self, batch: NDArray[np.int64]) -> tuple[torch.Tensor, float]:
        labels = torch.from_numpy(self.rated.labels[batch]).to(choose_device())
        logits = self.scores([self._thinned(self.documents[i]) for i in batch]).float()
        return F.cross_entropy(logits, labels, weight=self.weights, reduction="sum"), float(self.weights[labels].sum())

    def _thinned(self, document: Tokens) -> Tokens:
        """Drop tokens at random (word dropout: Iyyer et al., ACL 2015), but never the last one."""
        kept = torch.rand(len(document)) >= self.settings.token_dropout  # a resumed training restores torch's generator
        kept[-1] = True
        return document[kept.numpy()]

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows, classes) logits, in the order of `rows`."""
        found = np.zeros((len(rows), len(LABELS)))
        with torch.inference_mode():
            for batch in length_batches(self.lengths[rows], self.settings.batch_tokens, 0, 0):
                found[batch] = self.scores([self.documents[i] for i in rows[batch]]).double().cpu().numpy()
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
    p: NDArray[np.float64], labels: NDArray[np.int64], predicted: NDArray[np.int64], seed: int = 0
) -> dict[str, float]:
    """Held-out figures of the labels `predicted` and the probabilities `p` (texts, labels), and the majority class's.

    Accuracy and macro-F1 have 95% intervals. The calibration error is that of the likeliest label; the figures also
    state how large it would be by chance.
    """
    majority = np.full_like(labels, np.bincount(labels).argmax())

    def f1(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
        return metrics.macro_f1(a, b, len(LABELS))

    figures = {
        "accuracy": metrics.accuracy(labels, predicted),
        "macro_f1": f1(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy(labels, predicted, len(LABELS)),
        **metrics.calibration_figures(p, labels, seed),
        "majority_accuracy": metrics.accuracy(labels, majority),
        "majority_macro_f1": f1(labels, majority),
        "reviews": float(len(labels)),
    }
    for name, statistic in (("accuracy", metrics.accuracy), ("macro_f1", f1)):
        low, high = metrics.bootstrap_interval(statistic, labels, predicted, seed=seed)
        figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures
