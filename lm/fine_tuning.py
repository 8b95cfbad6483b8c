"""Fine-tuning on next purchases in the two codings: their loss, their validation, and their lists."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from lm import metrics
from lm.examples import FOLLOWING, Customer, Example, item_examples, purchases_of, targets, title_examples
from lm.held_out import HeldOut
from lm.item_rows import ItemRows
from lm.prompt import TITLE_TOKENS, Event, PromptEncoder
from lm.training import Task, length_batches, pad
from lm.training_model import (
    Settings,
    cross_entropy_sum,
    device,
    hidden_states,
    output_rows,
    write_folder,
)

#: Above so many items the softmax is over the batch's own items and a sample of the others.
SAMPLED_ABOVE = 200_000
SAMPLE = 16_384
#: Rank at which lists are judged.
K = 10
#: Customers in a step: few enough for so many steps in an epoch, but no fewer than this.
STEPS = 128
FEWEST = 16


@dataclass(frozen=True, kw_only=True)
class RecommendSettings(Settings):
    """The recommender's training; customers whose last purchases are held out judge when to stop, and the result."""

    coding: Literal["item_tokens", "titles"] = "item_tokens"
    language: Literal["en", "zh"] = "en"
    exclude_purchased: bool = True
    protocol: Literal["time-split", "leave-one-out"] = "time-split"
    held_out_share: float = 0.2
    held_out_customers: int = 5_000  # at most
    history_events: int = 50  # newest events of a customer that a prompt may use
    refit: bool = False
    titled: bool = True  # an item's row is its title's and its own

    @property
    def room(self) -> int:
        """Positions that training needs beyond the longest prompt: for the answer, or for the purchases after it."""
        return TITLE_TOKENS if self.coding == "titles" else FOLLOWING


class ItemTokens:
    """One token an item; a softmax over the items alone wherever a purchase is predicted."""

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        items: Mapping[str, str],
        settings: RecommendSettings,
        known: int | None = None,
    ) -> None:
        """`known` is how many of the model's items have whole rows (default: all); the others are new."""
        self.model, self.encoder, self.settings = model, encoder, settings
        self.first = encoder.manifest.first_item_token
        self.item_ids = encoder.manifest.item_ids
        self.token_of = {item: encoder.item_tokens[item] for item in items}
        self.rows = ItemRows(model, encoder, items if settings.titled else {})
        self.rows.begin(len(self.item_ids) if known is None else known)

    def finish(self) -> None:
        """Leave an ordinary model: nothing more is learned or recommended through this."""
        self.rows.end()

    def task(self, customers: Sequence[Customer], validation: Sequence[HeldOut]) -> Task[list[Example]]:
        """Learn from `customers`, other nights of theirs each epoch; NDCG@10 on `validation` says when to stop."""
        settings = self.settings
        found = (purchases_of(one, self.token_of, new_only=settings.exclude_purchased) for one in customers)
        learned = [one for one in found if one is not None]
        sampling = _Sampling.of([token - self.first for one in learned for token in one.tokens], len(self.item_ids))

        def batches(epoch: int) -> list[list[Example]]:
            rng = np.random.default_rng((settings.seed, epoch))
            bounds = settings.max_tokens, settings.history_events
            drawn = item_examples(learned, self.encoder, self.token_of, *bounds, rng)
            return _batches(drawn, settings, epoch, most=max(FEWEST, len(drawn) // STEPS))

        def loss(batch: list[Example]) -> tuple[torch.Tensor, float]:
            return self._loss(batch, sampling)

        def validate() -> dict[str, float]:
            return _ranking(self.recommend(validation, K), validation)

        return Task(self.model, batches, loss, validate if validation else None, f"ndcg@{K}")

    def newest(self, held: Sequence[HeldOut]) -> list[Sequence[Event]]:
        """The events of each customer that a night would read."""
        return [one.events[-self.settings.history_events :] for one in held]

    def _loss(self, batch: list[Example], sampling: _Sampling | None) -> tuple[torch.Tensor, float]:
        asked = Asked.of(batch, self.first)
        candidates = bias = None
        labels = asked.labels
        if sampling is not None:
            candidates, bias = sampling.draw(labels)
            labels = torch.searchsorted(candidates, labels)
        states = self.rows.hidden_states(asked.tokens).flatten(0, 1)[asked.used]  # (P, n_embd)
        rows = self.rows.table(output_rows(self.model), candidates)
        return cross_entropy_sum(states, rows, asked.at, labels, asked.weights, bias), float(asked.weights.sum())

    def recommend(self, held: Sequence[HeldOut], k: int) -> list[list[str]]:
        """The k likeliest items for each held-out customer, as the night would list them."""
        prompts = self.encoder.render_many(self.newest(held), self.settings.max_tokens)
        tokens = [np.array(ids, dtype=np.int32) for ids in self.encoder.encode_many([p.prompt for p in prompts])]
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        sellable = torch.full((len(self.item_ids),), -torch.inf, device=device())
        sellable[torch.tensor([token - self.first for token in self.token_of.values()])] = 0
        lists: list[list[str]] = [[] for _ in held]
        with torch.inference_mode():
            rows = self.rows.table(output_rows(self.model))
            for batch in length_batches(lengths, self.settings.batch_tokens, 0, 0):
                padded = pad([tokens[i] for i in batch], device())
                last = torch.from_numpy(lengths[batch] - 1).to(padded.device)
                each = torch.arange(len(batch), device=padded.device)
                states = self.rows.hidden_states(padded)[each, last]
                scores = (states @ rows.T).float() + sellable  # (B, items)
                for row, place in enumerate(batch):
                    if self.settings.exclude_purchased:
                        barred = [self.token_of[i] - self.first for i in held[place].purchased if i in self.token_of]
                        scores[row, torch.tensor(barred, dtype=torch.int64, device=scores.device)] = -torch.inf
                best = scores.topk(min(k, scores.shape[1]), dim=1)
                for place, values, codes in zip(batch, best.values.tolist(), best.indices.tolist(), strict=True):
                    pairs = zip(values, codes, strict=True)
                    lists[place] = [self.item_ids[code] for value, code in pairs if value > -np.inf]
        return lists


class Titles:
    """The title in the model's own tokens after the prompt of a night; each epoch draws one night per customer."""

    def __init__(
        self, model: PreTrainedModel, encoder: PromptEncoder, items: Mapping[str, str], settings: RecommendSettings
    ) -> None:
        self.model, self.encoder, self.items, self.settings = model, encoder, items, settings

    def task(self, customers: Sequence[Customer], validation: Sequence[HeldOut]) -> Task[list[Example]]:
        """Learn from `customers`; the likelihood of the right titles on `validation` says when to stop."""
        nights = [
            [(customer.events[: target.events], target.items) for target in found if target.weight == 1.0]
            for customer in customers
            if (found := targets(customer, self.items, new_only=self.settings.exclude_purchased))
        ]

        def batches(epoch: int) -> list[list[Example]]:
            rng = np.random.default_rng((self.settings.seed, epoch))
            drawn = [of[rng.integers(len(of))] for of in nights]
            return _batches(self.examples([(e, i[rng.integers(len(i))]) for e, i in drawn]), self.settings, epoch)

        def loss(batch: list[Example]) -> tuple[torch.Tensor, float]:
            asked = Asked.of(batch, 0)
            states = hidden_states(self.model, asked.tokens).flatten(0, 1)[asked.used]
            rows, weight = output_rows(self.model), float(asked.weights.sum())
            return cross_entropy_sum(states, rows, asked.at, asked.labels, asked.weights), weight

        right = self.examples([(one.events, min(one.items)) for one in validation])

        def validate() -> dict[str, float]:
            sums = [loss(batch) for batch in _batches(right, self.settings, 0)]
            return {"log_likelihood": -sum(float(total) for total, _ in sums) / sum(weight for _, weight in sums)}

        return Task(self.model, batches, loss, validate if validation else None, "log_likelihood")

    def finish(self) -> None:
        """The model is an ordinary one all along."""

    def examples(self, nights: Sequence[tuple[Sequence[Event], str]]) -> list[Example]:
        """Each night's prompt and answer."""
        return title_examples(nights, self.encoder, self.items, self.settings.max_tokens)

    def recommend(self, held: Sequence[HeldOut], k: int) -> list[list[str]]:
        """The k likeliest titles for each held-out customer, by the engine that serves the night."""
        from lm.catalogue import Catalogue
        from lm.generate import Recommender

        catalogue = Catalogue.build(list(self.items), list(self.items.values()), self.encoder)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(self.model, self.encoder.tokenizer, self.encoder.manifest, Path(folder) / "model")
            engine = Recommender.load(Path(folder) / "model", catalogue, dtype="float32")
            prompts = self.encoder.render_many([one.events for one in held], self.settings.max_tokens)
            barred = [sorted(one.purchased) if self.settings.exclude_purchased else [] for one in held]
            lists = engine.recommend([prompt.prompt for prompt in prompts], barred, k)
        return [[scored.item_id for scored in best] for best in lists]


def _batches(
    examples: Sequence[Example], settings: Settings, epoch: int, most: int | None = None
) -> list[list[Example]]:
    """Examples grouped by like length, at most `most` together, drawn anew each epoch."""
    lengths = np.array([len(example.tokens) for example in examples], dtype=np.int64)
    groups = length_batches(lengths, settings.batch_tokens, settings.seed, epoch, most)
    return [[examples[i] for i in group] for group in groups]


@dataclass(frozen=True)
class _Sampling:
    """Items drawn in place of the whole softmax, by the 3/4 power of how often they are bought."""

    cumulative: torch.Tensor  # (items,) of the drawing probability
    probability: torch.Tensor  # (items,)

    @classmethod
    def of(cls, bought: Sequence[int], items: int) -> _Sampling | None:
        if items <= SAMPLED_ABOVE:
            return None
        counts = 1.0 + np.bincount(np.array(bought, dtype=np.int64), minlength=items)
        probability = torch.from_numpy(counts**0.75 / (counts**0.75).sum())
        return cls(probability.cumsum(0).to(device()), probability.to(device()))

    def draw(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Candidates (C,), rising, among them every label, and the logits' correction (C,) by -log expected draws.

        The labels of the batch are always in; with the others corrected, the sampled normalizer has the full
        one's expectation (Bengio & Senécal, "Adaptive Importance Sampling", 2008).
        """
        points = torch.rand(SAMPLE, dtype=torch.float64, device=labels.device) * self.cumulative[-1]
        drawn, times = torch.searchsorted(self.cumulative, points).unique(return_counts=True)
        sure = labels.unique()
        other = ~torch.isin(drawn, sure)
        drawn, times = drawn[other], times[other]
        correction = (times / (SAMPLE * self.probability[drawn])).log()
        candidates, order = torch.cat([sure, drawn]).sort()
        return candidates, torch.cat([torch.zeros_like(sure, dtype=torch.float32), correction.float()])[order]


class Asked(NamedTuple):
    """A batch of examples as tensors: the positions that are asked, and what is right there."""

    tokens: torch.Tensor  # (B, T) padded
    used: torch.Tensor  # (P,) positions among B * T, rising
    at: torch.Tensor  # (L,) of each label, its place among `used`, rising
    labels: torch.Tensor  # (L,) counted from `first`
    weights: torch.Tensor  # (L,)

    @classmethod
    def of(cls, batch: Sequence[Example], first: int) -> Asked:
        """The tensors of a batch whose labels are tokens from `first` on."""
        tokens = pad([example.tokens for example in batch], device())
        flat = np.concatenate([row * tokens.shape[1] + example.positions for row, example in enumerate(batch)])
        used, at = np.unique(flat, return_inverse=True)  # positions rise within an example and so does `at`
        labels = np.concatenate([example.labels for example in batch]).astype(np.int64) - first
        weights = np.concatenate([example.weights for example in batch])
        where = tokens.device
        rest = (torch.from_numpy(array).to(where) for array in (used, at, labels, weights))
        return cls(tokens, *rest)


def _ranking(lists: Sequence[Sequence[str]], held: Sequence[HeldOut]) -> dict[str, float]:
    relevant = [one.items for one in held]
    return {
        f"recall@{K}": float(metrics.recall_at_k(lists, relevant, K).mean()),
        f"ndcg@{K}": float(metrics.ndcg_at_k(lists, relevant, K).mean()),
    }
