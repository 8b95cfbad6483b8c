"""Embeddings of item tokens: the sum of a part from the title and of a part of the item's own.

An item that is often bought learns its own part. An item that is seldom bought is described by its title, whose words
learn from all items that share them (content and id embeddings: Hou et al., "UniSRec", KDD 2022). The part from the
title is the mean of the embeddings of the title's tokens, so a checkpoint holds nothing but GPT-2's own matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from lm.checkpoint.manifest import Manifest
from lm.text.prompt import PromptEncoder
from lm.train.language_model import embedding_matrices


class ItemRows:
    """The item embeddings of a model in training: `begin` subtracts the titles' parts, `end` adds them again.

    An item without a title in `titles` has only its own part. `scale` gives the part from a title the size of a
    token's embedding.
    """

    def __init__(self, model: PreTrainedModel, encoder: PromptEncoder, titles: Mapping[str, str]) -> None:
        self.model = model
        self.first = encoder.manifest.first_item_token
        plain = PromptEncoder(encoder.tokenizer, Manifest(language=encoder.manifest.language))
        known = [titles.get(item) for item in encoder.manifest.item_ids]
        spelled = iter(plain.answers([title for title in known if title is not None]))
        tokens = [[] if title is None else next(spelled) for title in known]
        device = model.get_input_embeddings().weight.device
        self.lengths = torch.tensor([len(title) for title in tokens], device=device)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.flat = torch.tensor([token for title in tokens for token in title], dtype=torch.int64, device=device)
        self.scale = title_scale(model.get_input_embeddings().weight, [title for title in tokens if title])

    def __len__(self) -> int:
        return len(self.lengths)

    def table(self, matrix: torch.Tensor, codes: torch.Tensor | None = None) -> torch.Tensor:
        """(C, n_embd) complete embeddings of items `codes` (C,), by default of all; `matrix` holds their own parts."""
        own = matrix[self.first : self.first + len(self)]
        return (own if codes is None else own[codes]) + self._titles(matrix, codes)

    def hidden_states(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) tokens, padded on the right -> (B, T, n_embd) states after the last LayerNorm."""
        matrix = self.model.get_input_embeddings().weight
        codes, place = torch.unique(tokens[tokens >= self.first] - self.first, return_inverse=True)
        vectors = nn.functional.embedding(tokens, matrix)
        if len(codes):
            vectors = vectors.index_put((tokens >= self.first,), self.table(matrix, codes)[place])
        return self.model.base_model(inputs_embeds=vectors, use_cache=False).last_hidden_state

    @torch.no_grad()
    def begin(self, known: int) -> None:
        """Leave only the items' own parts in the model; the first `known` items are complete before, the others new."""
        for matrix in embedding_matrices(self.model):
            matrix[self.first : self.first + known] -= self._titles(matrix, None)[:known]

    @torch.no_grad()
    def end(self) -> None:
        """Make the embeddings complete: the model is then an ordinary one."""
        for matrix in embedding_matrices(self.model):
            matrix[self.first : self.first + len(self)] += self._titles(matrix, None)

    def _titles(self, matrix: torch.Tensor, codes: torch.Tensor | None) -> torch.Tensor:
        flat, starts = self.flat, self.starts
        if codes is not None:
            lengths = self.lengths[codes]
            ends = lengths.cumsum(0)
            within = torch.arange(int(lengths.sum()), device=flat.device) - (ends - lengths).repeat_interleave(lengths)
            flat, starts = flat[self.starts[codes].repeat_interleave(lengths) + within], ends - lengths
        return nn.functional.embedding_bag(flat, matrix[: self.first], starts, mode="mean") * self.scale


def title_scale(matrix: torch.Tensor, titles: Sequence[Sequence[int]]) -> float:
    """The factor that gives the mean of a title's embeddings the size of one row of `matrix`.

    Without it the mean is smaller, because random rows cancel out.
    """
    if not titles:
        return 1.0
    with torch.no_grad():
        means = torch.stack([matrix[list(title)].mean(dim=0) for title in titles[:4096]])
        used = matrix[sorted({token for title in titles[:4096] for token in title})]
        return float(used.square().mean().sqrt() / means.square().mean().sqrt().clamp_min(1e-12))


def add_items(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    items: Collection[str],
    before: Manifest,
    *,
    language: Literal["en", "zh"],
    seed: int,
    titled: bool = True,
) -> Manifest:
    """Add a token for every item that the manifest `before` lacks; return the new manifest (item_tokens coding).

    The embedding of a new item is random: its own part, as small as GPT-2's initial weights where the title's part is
    added to it (`titled`). Items of `before` keep token and embedding, even where `items` lacks them: histories still
    name them.
    """
    known = before.item_ids if before.coding == "item_tokens" else []
    new = sorted(set(items) - set(known))
    vocabulary = model.get_input_embeddings().weight.detach()
    first = before.first_item_token if known else max(tokenizer.get_vocab_size(), len(vocabulary))
    generator = torch.Generator().manual_seed(seed)
    spread = model.config.initializer_range if titled else float(vocabulary.std())
    own = torch.randn(len(new), vocabulary.shape[1], generator=generator).to(vocabulary) * spread
    model.resize_token_embeddings(first + len(known) + len(new), mean_resizing=False)
    for matrix in embedding_matrices(model):
        matrix.data[first + len(known) :] = own
    return Manifest(language=language, coding="item_tokens", item_ids=[*known, *new], first_item_token=first)
