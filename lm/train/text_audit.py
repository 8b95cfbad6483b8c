"""What a trained model says of texts: the loss of each, and free samples; for any model with token embeddings.

A classifier that was pre-trained on texts still predicts the next token by its input embeddings. Whoever has its
folder can ask it so, thus the audit does too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import Cache, PreTrainedModel

from lm.checkpoint.checkpoint import END_OF_TEXT, load_tokenizer
from lm.engine.huggingface_model import ModelKind, load_model
from lm.engine.sampling import Sampling, next_tokens
from lm.train.canaries import FREE_SAMPLES, Canary, CanaryResult, candidates, completes, exposure
from lm.train.language_model import Tokens, hidden_states, output_rows
from lm.train.training_loop import length_batches, pad

_BATCH_TOKENS = 4096
#: Most documents in a batch: each has its own copy of the keys and values of what all begin with.
_BATCH_ROWS = 128
#: Most tokens of a free sample.
_SAMPLE_TOKENS = 40


def as_tokens(ids: Sequence[int]) -> Tokens:
    """Token ids as an array (T,)."""
    return np.array(ids, dtype=np.int32)


class TextModel:
    """A model folder and its tokenizer. Only tokens of text can be drawn, no products' tokens."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
        model.config.pad_token_id = None  # else Hugging Face warns of padding without a mask, which is correct here
        self.model, self.tokenizer = model, tokenizer
        self.longest = int(model.config.max_position_embeddings)
        self.text_tokens = min(tokenizer.get_vocab_size(), len(output_rows(model)))

    @classmethod
    def load(cls, path: Path, kind: ModelKind) -> TextModel:
        """Open a model folder. Raises CheckpointError."""
        return cls(load_model(path, kind), load_tokenizer(path))

    def encode(self, text: str) -> Tokens:
        """The token ids of a text without special tokens, as far as the model's positions reach."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return as_tokens(ids[: self.longest])

    def losses(self, documents: Sequence[Tokens], starts: Sequence[int] | None = None) -> NDArray[np.float64]:
        """(N,) summed cross-entropy in nats of each document's tokens from its start on, by default the second one.

        A document is cut at the model's positions. The tokens with which all documents begin are read once.
        """
        documents = [document[: self.longest] for document in documents]
        starts = [1] * len(documents) if starts is None else starts
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        found = np.zeros(len(documents))
        shared = max(0, min([_shared_tokens(documents), *(start - 1 for start in starts)]))
        with torch.inference_mode():
            begun = self._read(documents[0][:shared]) if shared else None
            for batch in length_batches(np.maximum(lengths - shared, 0), _BATCH_TOKENS, 0, 0, _BATCH_ROWS):
                tokens = pad([documents[i][shared:] for i in batch], self.model.device)  # (B, T)
                if tokens.shape[1] < 2:
                    continue
                logits = self._states(tokens[:, :-1], begun) @ output_rows(self.model)[: self.text_tokens].T
                labels = tokens[:, 1:].clamp(max=self.text_tokens - 1)
                each = torch.nn.functional.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none")
                place = shared + torch.arange(1, tokens.shape[1])
                first = torch.tensor([starts[i] for i in batch])[:, None]
                counted = (place >= first) & (place < torch.from_numpy(lengths[batch])[:, None])
                found[batch] = (each.cpu() * counted).sum(dim=1).double().numpy()
        return found

    def mean_losses(self, documents: Sequence[Tokens], starts: Sequence[int] | None = None) -> NDArray[np.float64]:
        """(N,) cross-entropy in nats of a token, by document; documents without a token to predict have 0."""
        begins = np.array([1] * len(documents) if starts is None else starts)
        counts = np.array([min(len(document), self.longest) for document in documents]) - begins
        return self.losses(documents, begins.tolist()) / np.maximum(counts, 1)

    def samples(self, prompt: Tokens, seed: int) -> list[str]:
        """FREE_SAMPLES continuations of a prompt at temperature 1; the first takes the likeliest token each time."""
        tokens = torch.from_numpy(prompt.astype(np.int64)).repeat(FREE_SAMPLES, 1).to(self.model.device)
        unread, cache = tokens, None
        rules = [Sampling(temperature=0.0), *[Sampling()] * (FREE_SAMPLES - 1)]
        rng = np.random.default_rng(seed)
        end = self.tokenizer.token_to_id(END_OF_TEXT)
        with torch.inference_mode():
            for _ in range(min(_SAMPLE_TOKENS, self.longest - len(prompt))):
                read = self.model.base_model(input_ids=unread, past_key_values=cache, use_cache=True)
                logits = read.last_hidden_state[:, -1] @ output_rows(self.model)[: self.text_tokens].T
                drawn = next_tokens(logits.float(), rules, rng.random(FREE_SAMPLES))
                unread, cache = torch.from_numpy(drawn)[:, None].to(tokens.device), read.past_key_values
                tokens = torch.cat([tokens, unread], dim=1)
        texts = []
        for row in tokens[:, len(prompt) :].tolist():
            until = row.index(end) if end in row else len(row)
            texts.append(self.tokenizer.decode(row[:until]))
        return texts

    def _read(self, prompt: Tokens) -> Cache:
        """The keys and values of a prompt (T,)."""
        tokens = torch.from_numpy(prompt.astype(np.int64))[None].to(self.model.device)
        cache: Cache = self.model.base_model(input_ids=tokens, use_cache=True).past_key_values
        return cache

    def _states(self, tokens: torch.Tensor, begun: Cache | None) -> torch.Tensor:
        """(B, T, n_embd) states of tokens (B, T), padded on the right, which go on from the prompt of `begun`."""
        if begun is None:
            return hidden_states(self.model, tokens)
        cache = copy.deepcopy(begun)
        cache.batch_repeat_interleave(len(tokens))
        states: torch.Tensor = self.model.base_model(input_ids=tokens, past_key_values=cache).last_hidden_state
        return states


def _shared_tokens(documents: Sequence[Tokens]) -> int:
    """The number of tokens with which all documents begin."""
    shortest = min(map(len, documents), default=0)
    if not shortest or len(documents) < 2:
        return 0
    first = np.stack([document[:shortest] for document in documents])
    differs = (first != first[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest


def judge_canaries(
    model: TextModel,
    canaries: Sequence[Canary],
    before: Callable[[Canary], Tokens],
    label: str,
    product_texts: Mapping[Canary, Sequence[str]],
    seed: int,
) -> list[CanaryResult]:
    """Measure the exposure and the completions of each canary.

    `before` gives the tokens before the line of the canary, and `label` what precedes the canary's text in that line,
    such as "Searched: ". `product_texts` are the texts that the product shows to a customer who wrote the prefix.
    """
    results = []
    for number, canary in enumerate(canaries):
        context = before(canary)
        prompt = np.concatenate([context, model.encode(label + canary.prefix)]).astype(np.int32)
        texts = [np.concatenate([context, model.encode(label + text)]) for text in candidates(canary, seed)]
        losses = model.losses(texts, [len(prompt)] * len(texts))
        results.append(
            CanaryResult(
                canary.kind,
                canary.form,
                canary.repeats,
                exposure(losses),
                product=completes(canary.secret, product_texts.get(canary, ())),
                free=completes(canary.secret, model.samples(prompt, seed + number)),
            )
        )
    return results
