"""Fine-tuning on next purchases in the two codings: their loss, their validation, and their lists."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from lm.checkpoint.manifest import Manifest
from lm.engine.device import choose_device
from lm.metrics import metrics
from lm.recommend.co_purchase import CELLS, Ints, purchases_in
from lm.recommend.held_out import HeldOut
from lm.recommend.hybrid import Beside
from lm.recommend.item_embeddings import ItemRows
from lm.recommend.sampled_softmax import SampledSoftmax
from lm.recommend.settings import RecommendSettings
from lm.recommend.training_examples import (
    BOUGHT,
    Customer,
    Example,
    item_examples,
    purchases_of,
    targets,
    title_examples,
)
from lm.text.prompt import Event, PromptEncoder
from lm.train.language_model import (
    TrainingSettings,
    cross_entropy_sum,
    hidden_states,
    output_rows,
    write_model_folder,
)
from lm.train.training_loop import TrainingTask, length_batches, pad

#: Rank at which lists are judged.
K = 10
#: Customers in a step: few enough for so many steps in an epoch, but no fewer than this.
STEPS = 128
FEWEST = 16


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
        self.titles = {item: items.get(item) for item in self.item_ids}
        self.beside = Beside()
        self.rivals: torch.Tensor | None = None

    def finish(self) -> Manifest:
        """Leave an ordinary model, through this nothing more is learned or recommended; the manifest to write."""
        self.rows.end()
        return self.beside.note(self.encoder.manifest)

    def learn_beside(self, customers: Sequence[Customer], validation: Sequence[HeldOut]) -> None:
        """Count what `customers` bought; `validation`, where there is any, says what that weighs beside GPT-2."""
        bought = [
            [str(event.item_id) for event in one.events if event.kind == BOUGHT and event.item_id in self.token_of]
            for one in customers
        ]
        settings = self.settings
        counted = Beside.counted(bought, self.titles, neighbours=settings.neighbours, newcomers=settings.newcomers)
        if not validation:
            self.beside = counted.weighted_as(self.beside)
            return
        held = validation[:: -(-len(validation) // max(1, CELLS // len(self.item_ids)))]
        rows: list[torch.Tensor] = [torch.empty(0)] * len(held)
        purchases: list[Ints] = [np.empty(0, np.int64)] * len(held)
        for batch, logits, bought_before in self._logits(held):
            for place, row, of in zip(batch, logits, bought_before, strict=True):
                rows[place], purchases[place] = row, of
        wanted = [np.sort(self._codes(one.items)) for one in held]
        barred = [self._codes(one.purchased) if settings.exclude_purchased else self._codes([]) for one in held]
        self.beside = counted.fitted(torch.stack(rows), purchases, wanted, barred, settings.seed)

    def task(self, customers: Sequence[Customer], validation: Sequence[HeldOut]) -> TrainingTask[list[Example]]:
        """Learn from `customers`, other nights of theirs each epoch; NDCG@10 on `validation` says when to stop."""
        settings = self.settings
        found = (purchases_of(one, self.token_of, new_only=settings.exclude_purchased) for one in customers)
        learned = [one for one in found if one is not None]
        bought = np.array([token - self.first for one in learned for token in one.tokens], dtype=np.int64)
        sampling = SampledSoftmax.of(bought, len(self.item_ids), unbought=not settings.titled)
        self.rivals = self._rivals(bought)

        def batches(epoch: int) -> list[list[Example]]:
            rng = np.random.default_rng((settings.seed, epoch))
            bounds = settings.max_tokens, settings.history_events
            drawn = item_examples(learned, self.encoder, self.token_of, *bounds, rng)
            return _batches(drawn, settings, epoch, most=max(FEWEST, len(drawn) // STEPS))

        def loss(batch: list[Example]) -> tuple[torch.Tensor, float]:
            return self._loss(batch, sampling)

        def validate() -> dict[str, float]:
            return _ranking(self.recommend(validation, K), validation)

        return TrainingTask(self.model, batches, loss, validate if validation else None, f"ndcg@{K}")

    def _rivals(self, bought: Ints) -> torch.Tensor | None:
        """The items that a label is to be likelier than; None: all. One that nobody has bought is new, not unwanted:
        as a rival it would be pushed away from every customer, and the words of its title with it.
        """
        seen = np.unique(bought)
        if not self.settings.titled or len(seen) == len(self.item_ids):
            return None
        return torch.from_numpy(seen).to(choose_device())

    def newest(self, held: Sequence[HeldOut]) -> list[Sequence[Event]]:
        """The events of each customer that a night would read."""
        return [one.events[-self.settings.history_events :] for one in held]

    def _loss(self, batch: list[Example], sampling: SampledSoftmax | None) -> tuple[torch.Tensor, float]:
        asked = Asked.of(batch, self.first)
        candidates, bias, labels = self.rivals, None, asked.labels
        if sampling is not None:
            candidates, bias = sampling.draw(labels)
        if candidates is not None:
            labels = torch.searchsorted(candidates, labels)
        states = self.rows.hidden_states(asked.tokens).flatten(0, 1)[asked.used]  # (P, n_embd)
        rows = self.rows.table(output_rows(self.model), candidates)
        return cross_entropy_sum(states, rows, asked.at, labels, asked.weights, bias), float(asked.weights.sum())

    def recommend(self, held: Sequence[HeldOut], k: int) -> list[list[str]]:
        """The k likeliest items for each held-out customer, as the night would list them."""
        sold = self._codes(self.token_of)
        new = sold[self.beside.is_new(sold)]
        rows = self.beside.rows([self.titles[self.item_ids[code]] or "" for code in new])
        column = np.arange(len(self.item_ids))  # of each item's log-probability
        column[new] = len(column) + np.arange(len(new))
        sellable = torch.full((len(column) + len(new),), -torch.inf, device=choose_device())
        sellable[column[sold]] = 0
        item_of = [*self.item_ids, *(self.item_ids[code] for code in new)]
        lists: list[list[str]] = [[] for _ in held]
        for batch, logits, purchases in self._logits(held):
            scores = self.beside.log_probs(logits, purchases, rows) + sellable
            for row, place in enumerate(batch):
                if self.settings.exclude_purchased:
                    scores[row, column[self._codes(held[place].purchased)]] = -torch.inf
            best = scores.topk(min(k, scores.shape[1]), dim=1)
            for place, values, codes in zip(batch, best.values.tolist(), best.indices.tolist(), strict=True):
                pairs = zip(values, codes, strict=True)
                lists[place] = [item_of[code] for value, code in pairs if value > -np.inf]
        return lists

    def _codes(self, items: Iterable[str]) -> Ints:
        return np.array([self.token_of[item] - self.first for item in items if item in self.token_of], dtype=np.int64)

    @torch.inference_mode()
    def _logits(self, held: Sequence[HeldOut]) -> Iterator[tuple[Ints, torch.Tensor, list[Ints]]]:
        """Places in `held` (B,), GPT-2's logits after their prompts (B, items), and the purchases in the prompts."""
        prompts = self.encoder.render_many(self.newest(held), self.settings.max_tokens)
        tokens = [np.array(ids, dtype=np.int32) for ids in self.encoder.encode_many([p.prompt for p in prompts])]
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        rows = self.rows.table(output_rows(self.model))
        for batch in length_batches(lengths, self.settings.batch_tokens, 0, 0):
            padded = pad([tokens[i] for i in batch], choose_device())
            last = torch.from_numpy(lengths[batch] - 1).to(padded.device)
            states = self.rows.hidden_states(padded)[torch.arange(len(batch), device=padded.device), last]
            yield batch, (states @ rows.T).float(), [purchases_in(tokens[i].tolist(), self.first) for i in batch]


class Titles:
    """The title in the model's own tokens after the prompt of a night; each epoch draws one night per customer."""

    def __init__(
        self, model: PreTrainedModel, encoder: PromptEncoder, items: Mapping[str, str], settings: RecommendSettings
    ) -> None:
        self.model, self.encoder, self.items, self.settings = model, encoder, items, settings
        self.beside = Beside()

    def task(self, customers: Sequence[Customer], validation: Sequence[HeldOut]) -> TrainingTask[list[Example]]:
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

        return TrainingTask(self.model, batches, loss, validate if validation else None, "log_likelihood")

    def finish(self) -> Manifest:
        """The model is an ordinary one all along; the manifest to write."""
        return self.encoder.manifest

    def learn_beside(self, customers: Sequence[Customer], validation: Sequence[HeldOut]) -> None:
        """A search over titles does not score all products, so nothing can be added."""

    def examples(self, nights: Sequence[tuple[Sequence[Event], str]]) -> list[Example]:
        """Each night's prompt and answer."""
        return title_examples(nights, self.encoder, self.items, self.settings.max_tokens)

    def recommend(self, held: Sequence[HeldOut], k: int) -> list[list[str]]:
        """The k likeliest titles for each held-out customer, by the engine that serves the night."""
        from lm.recommend.catalogue import Catalogue
        from lm.recommend.recommender import Recommender

        catalogue = Catalogue.build(list(self.items), list(self.items.values()), self.encoder)
        with tempfile.TemporaryDirectory() as folder:
            write_model_folder(self.model, self.encoder.tokenizer, self.encoder.manifest, Path(folder) / "model")
            engine = Recommender.load(Path(folder) / "model", catalogue, dtype="float32")
            prompts = self.encoder.render_many([one.events for one in held], self.settings.max_tokens)
            barred = [sorted(one.purchased) if self.settings.exclude_purchased else [] for one in held]
            lists = engine.recommend([prompt.prompt for prompt in prompts], barred, k)
        return [[scored.item_id for scored in best] for best in lists]


def _batches(
    examples: Sequence[Example], settings: TrainingSettings, epoch: int, most: int | None = None
) -> list[list[Example]]:
    """Examples grouped by like length, at most `most` together, drawn anew each epoch."""
    lengths = np.array([len(example.tokens) for example in examples], dtype=np.int64)
    groups = length_batches(lengths, settings.batch_tokens, settings.seed, epoch, most)
    return [[examples[i] for i in group] for group in groups]


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
        tokens = pad([example.tokens for example in batch], choose_device())
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
