"""Sentiment of reviews: calibrated probabilities from a GPT-2 with a classification head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm.checkpoint.checkpoint import CheckpointError, read_config
from lm.engine.batching import pack
from lm.engine.device import choose_device, choose_dtype, keep_freed_memory, use_threads
from lm.sentiment.ngrams import Ngrams
from lm.sentiment.sentiment_head import SentimentHead
from lm.text.prompt import PromptEncoder

BATCH_TOKENS = 8192


class Classifier(Protocol):
    """A language model with a head that reads the state after a text."""

    labels: int

    def class_logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Logits (n, labels) float32 of texts given as token ids, none of them empty."""


class GPT2Classifier:
    """Implements Classifier by lm.engine.gpt2."""

    def __init__(self, path: Path, dtype: torch.dtype, device: torch.device) -> None:
        from lm.engine.gpt2_engine import GPT2Engine
        from lm.engine.weights import load_gpt2

        self._engine = GPT2Engine(load_gpt2(path, head="score.weight", dtype=dtype, device=device))
        self.labels = self._engine.vocabulary

    def class_logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """As Classifier.class_logits."""
        states = self._engine.prefill(texts, slots=0).states
        return torch.cat([logits.clone() for _, logits in self._engine.logits(states)])


class Judged(NamedTuple):
    """What the model says of n texts."""

    p: NDArray[np.float64]  # (n, labels) calibrated probabilities of the label that each is given
    of_text: NDArray[np.float64]  # (n, labels) of what it says, were no text given a label that contradicts it
    label: NDArray[np.int64]  # (n,) place in the manifest's labels
    shortened: NDArray[np.bool_]  # (n,) whether GPT-2 read only head and tail; n-grams are of the whole text


class SentimentClassifier:
    """Labels texts by one model; for one thread at a time."""

    def __init__(
        self,
        classifier: Classifier,
        encoder: PromptEncoder,
        *,
        ngrams: Ngrams | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        if classifier.labels != len(encoder.manifest.labels):
            raise CheckpointError(
                f"the model has {classifier.labels} outputs and its manifest {len(encoder.manifest.labels)} labels: "
                "train it with `regulars train --task sentiment`"
            )
        self.classifier, self.encoder, self.batch_tokens = classifier, encoder, batch_tokens
        self.head = SentimentHead.of(encoder.manifest, ngrams)

    @classmethod
    def load(
        cls,
        model_dir: Path | str,
        *,
        dtype: str = "auto",
        threads: int | None = None,
        device: str = "auto",
        batch_tokens: int = BATCH_TOKENS,
    ) -> SentimentClassifier:
        """Open a directory with a sequence classifier; options as those of lm.recommend.recommender.Recommender.load.

        Raises CheckpointError when it is not usable or was not fine-tuned to classify.
        """
        from lm.engine.weights import is_plain_gpt2

        path = Path(model_dir)
        keep_freed_memory()
        use_threads(threads)
        place = choose_device(device)
        number = choose_dtype(dtype, place)
        classifier: Classifier
        if is_plain_gpt2(read_config(path)):
            classifier = GPT2Classifier(path, number, place)
        else:
            from lm.engine.huggingface_engine import HuggingFaceClassifier

            classifier = HuggingFaceClassifier(path, number, place)
        return cls(classifier, PromptEncoder.load(path), ngrams=Ngrams.load(path), batch_tokens=batch_tokens)

    def classify(
        self, texts: Sequence[str], max_tokens: int, categories: Sequence[str] | None = None
    ) -> NDArray[np.float64]:
        """(n, labels) calibrated probabilities of each text, in the order of the manifest's labels."""
        return self.judge(texts, max_tokens, categories).p

    def judge(self, texts: Sequence[str], max_tokens: int, categories: Sequence[str] | None = None) -> Judged:
        """Judge each text, given the category that it is about ("" if unknown).

        GPT-2 reads only the two ends of a text longer than `max_tokens`. In float32 the result of a text does not
        depend on the other texts.
        """
        encoded = self.encoder.encode_reviews(texts, max_tokens)
        logits = np.empty((len(texts), self.classifier.labels), np.float64)
        for batch in pack([len(ids) for ids, _ in encoded], self.batch_tokens):
            logits[batch] = self.classifier.class_logits([encoded[i][0] for i in batch]).cpu().numpy()
        of_text = self.head.of_text(logits, texts, categories)
        p = self.head.mixture.observed(of_text)
        shortened = np.array([cut for _, cut in encoded], dtype=np.bool_)
        return Judged(p, of_text, self.head.choose(p), shortened)
