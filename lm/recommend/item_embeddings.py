"""The rows of the items' tokens: each the sum of what its title says and of a part of its own.

An item that was bought often learns its own part; one that was bought seldom, or never, is what the words of its title
have learned from the items that share them (content embeddings beside ids: Hou et al., "UniSRec", KDD 2022). The
title's part is the mean of the rows of the title's tokens, so a checkpoint holds nothing but GPT-2's own matrix.
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
    """The rows of a model's items while it is trained: `begin` takes the titles' part off, `end` adds it again.

    Items without a title in `titles` are all their own. `scale` makes the titles' part as large as a token's row.
    """

    def __init__(self, model: PreTrainedModel, encoder: PromptEncoder, titles: Mapping[str, str]) -> None:
        self.model = model
        self.first = encoder.manifest.first_item_token
        plain = PromptEncoder(encoder.tokenizer, Manifest(language=encoder.manifest.language))
        known = [titles.get(item) for item in encoder.manifest.item_ids]
        spelled = iter(plain.answers([title for title in known if title is not None]))
        tokens = [[] if title is None else next(spelled) for title in known]
        device = model.get_input_embeddings().weight.device
        self.lengths = torch.tensor([len(of) for of in tokens], device=device)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.flat = torch.tensor([token for of in tokens for token in of], dtype=torch.int64, device=device)
        self.scale = title_scale(model.get_input_embeddings().weight, [of for of in tokens if of])

    def __len__(self) -> int:
        return len(self.lengths)

    def table(self, matrix: torch.Tensor, codes: torch.Tensor | None = None) -> torch.Tensor:
        """(C, n_embd): the whole rows of items `codes` (C,), by default of all; `matrix` holds the parts."""
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
        """Leave the items' own parts in the model, to be trained through `table`; all but the first `known` are new."""
        for matrix in embedding_matrices(self.model):
            matrix[self.first : self.first + known] -= self._titles(matrix, None)[:known]

    @torch.no_grad()
    def end(self) -> None:
        """Make the rows whole: from here on the model is an ordinary one."""
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
    """What makes the mean of a title's rows as large as one row of `matrix`: random rows cancel each other out."""
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
    """Give every item that `before` lacks a token in item_tokens coding; the new manifest.

    In the model then stands the item's own part, which tells apart items of like titles: as small as weights begin
    where a title's part will be added to it. Items that `before` knows keep their token and row, even those that
    `items` lacks: histories still name them.
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
