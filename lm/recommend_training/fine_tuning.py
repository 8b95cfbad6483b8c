"""Fine-tuning on next purchases in both codings: loss, validation and lists."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lm.checkpoint.manifest import Manifest
from lm.engine.device import choose_device
from lm.metrics import metrics
from lm.recommend.co_purchase import Ints, purchases_in_prompt
from lm.recommend.hybrid import Hybrid
from lm.recommend.plain_titles import telling_titles
from lm.recommend_training.count_purchases import Bought, bought_items, count_hybrid, recounted, with_weights_of
from lm.recommend_training.counting_folds import counting_folds
from lm.recommend_training.fit_candidates import FitRows
from lm.recommend_training.fit_hybrid import Customers, fit_hybrid, most_customers
from lm.recommend_training.further_customers import FurtherCustomers, part_of_epoch
from lm.recommend_training.held_out import HeldOut
from lm.recommend_training.item_embeddings import ItemRows
from lm.recommend_training.mixture_weights import FEW
from lm.recommend_training.sampled_softmax import SampledSoftmax
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import (
    CustomerEvents,
    PurchaseExample,
    PurchaseTargets,
    item_examples,
    newest_events,
    prediction_targets,
    purchase_targets,
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
from lm.train.private_steps import PrivateSteps
from lm.train.training_loop import TrainingTask, length_batches, pad

#: Length of the lists that are judged.
K = 10
#: Fewest steps of an epoch, unless a step would then have fewer examples than the second number.
EPOCH_STEPS = 128
STEP_EXAMPLES = 16
#: Most scores of products that a validation computes: with a million products, those of 1,073 customers.
VALIDATION_SCORES = 1 << 30
#: Most scores that are in memory at once while lists are made.
SCORES_AT_ONCE = 1 << 25


class ItemTokenTuning:
    """Fine-tunes a model with one token for each item: a softmax over the items wherever a purchase is predicted."""

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        items: Mapping[str, str],
        settings: RecommendTrainSettings,
        known: int | None = None,
    ) -> None:
        """The first `known` items of the model have complete embeddings (default: all); the others are new."""
        self.model, self.encoder, self.settings = model, encoder, settings
        self.first = encoder.manifest.first_item_token
        self.item_ids = encoder.manifest.item_ids
        self.token_of = {item: encoder.item_tokens[item] for item in items}
        told = telling_titles(items)
        self.rows = ItemRows(model, encoder, told if settings.titled else {})
        self.rows.begin(len(self.item_ids) if known is None else known)
        self.titles = {item: told.get(item) for item in self.item_ids}
        self.hybrid = self.counting = Hybrid()
        self.competitors: torch.Tensor | None = None

    def finish(self) -> Manifest:
        """Make the model an ordinary one and return its manifest. No other method may be called after it."""
        self.rows.end()
        return self.hybrid.with_weights(self.encoder.manifest)

    def fit_hybrid(
        self,
        customers: Sequence[CustomerEvents],
        validation: Sequence[HeldOut],
        further: FurtherCustomers | None = None,
    ) -> None:
        """Count the purchases of `customers` and `further` ones, and fit the hybrid's weights on `validation`.

        Where it is empty, the weights stay.
        """
        bought = self._bought(customers)
        settings = self.settings
        parts = {"co_purchase": settings.neighbours, "cold_items": settings.newcomers}
        counted = count_hybrid(bought, self.titles, **parts, further=further)
        if not validation:
            self.hybrid = with_weights_of(counted, self.hybrid)
            return
        held = validation[:: -(-len(validation) // most_customers(len(validation), len(self.item_ids)))]
        prompts = self._prompts(held)
        customers_held = Customers(
            [purchases_in_prompt(tokens.tolist(), self.first) for tokens in prompts],
            [np.sort(self._codes(one.items)) for one in held],
            [self._codes(one.purchased) if settings.exclude_purchased else self._codes([]) for one in held],
        )
        folds: list[FitRows] = []
        if len(held) < FEW and settings.neighbours and settings.protocol == "time-split":
            folds = counting_folds(bought, self.item_ids, new_only=settings.exclude_purchased, seed=settings.seed)
        self.hybrid, self.counting = fit_hybrid(counted, self._logits(prompts), customers_held, settings.seed, folds)

    def recount(self, customers: Sequence[CustomerEvents], further: FurtherCustomers | None) -> None:
        """Count the purchases of `customers` and `further` ones, with the weights as they are."""
        self.hybrid = recounted(self.hybrid, self._bought(customers), self.item_ids, further)

    def _bought(self, customers: Sequence[CustomerEvents]) -> list[Bought]:
        timed = self.settings.protocol == "time-split"
        return bought_items(customers, self.token_of, self.first, timed=timed)

    def task(
        self,
        customers: Sequence[CustomerEvents],
        validation: Sequence[HeldOut],
        further: FurtherCustomers | None = None,
    ) -> TrainingTask[list[PurchaseExample]]:
        """The training task: each epoch draws new nights of `customers`; NDCG@10 on `validation` decides when to stop.

        Without `validation` there is no early stopping. With many items a sample of its customers is judged, by the
        full ranking of all items; the figure `customers` then says how many. With `further` customers an epoch reads
        one part of all.
        """
        settings = self.settings
        learned = self._learned(customers)
        bought = np.array([token - self.first for one in learned for token in one.tokens], dtype=np.int64)
        counts = np.bincount(bought, minlength=len(self.item_ids))
        if further is not None:
            others = further.counts({item: code for code, item in enumerate(self.item_ids)})
            counts = counts + others.purchases[0].astype(np.int64)
        sampling = SampledSoftmax.of(counts, unbought=not settings.titled)
        self.competitors = self._competitors(counts)
        private = _private_steps(settings, len(learned))
        part_of = part_of_epoch(further, settings.seed)

        def batches(epoch: int) -> list[list[PurchaseExample]]:
            part = part_of(epoch)
            rng = np.random.default_rng((settings.seed, epoch))
            bounds = settings.max_tokens, self.encoder.manifest.history_events
            among = self._learned(further.part(part)) if further and part else learned
            drawn = item_examples(among, self.encoder, self.token_of, *bounds, rng)
            if private is not None:
                return private.batches(drawn)
            return _batches(drawn, settings, epoch, most=max(STEP_EXAMPLES, len(drawn) // EPOCH_STEPS))

        def loss(batch: list[PurchaseExample]) -> tuple[torch.Tensor, float]:
            return self._loss(batch, sampling)

        judged = validation[:: -(-len(validation) // max(1, VALIDATION_SCORES // len(self.item_ids))) or 1]

        def validate() -> dict[str, float]:
            sampled = {"customers": float(len(judged))} if len(judged) < len(validation) else {}
            return _ranking(self.recommend(judged, K), judged) | sampled

        return TrainingTask(self.model, batches, loss, validate if validation else None, f"ndcg@{K}", private)

    def _learned(self, customers: Sequence[CustomerEvents]) -> list[PurchaseTargets]:
        """What the customers' purchases teach, without customers who teach nothing."""
        new_only = self.settings.exclude_purchased
        found = (purchase_targets(one, self.token_of, new_only=new_only) for one in customers)
        return [one for one in found if one is not None]

    def _competitors(self, counts: Ints) -> torch.Tensor | None:
        """The codes of the items in the softmax, None for all: an unbought item is left out where titles describe it.

        It is new, not unwanted. In the softmax its title's words would become less likely for every customer.
        """
        seen = np.flatnonzero(counts)
        if not self.settings.titled or len(seen) == len(self.item_ids):
            return None
        return torch.from_numpy(seen).to(choose_device())

    def _loss(self, batch: list[PurchaseExample], sampling: SampledSoftmax | None) -> tuple[torch.Tensor, float]:
        examples = ExampleBatch.of(batch, self.first)
        candidates, bias, labels = self.competitors, None, examples.labels
        if sampling is not None:
            candidates, bias = sampling.draw(labels)
        if candidates is not None:
            labels = torch.searchsorted(candidates, labels)
        states = self.rows.hidden_states(examples.tokens).flatten(0, 1)[examples.used]  # (P, n_embd)
        rows = self.rows.table(output_rows(self.model), candidates)
        loss = cross_entropy_sum(states, rows, examples.at, labels, examples.weights, bias)
        return loss, float(examples.weights.sum())

    def recommend(self, held: Sequence[HeldOut], k: int) -> list[list[str]]:
        """The k most likely items for each held-out customer, as a night would list them."""
        sold = self._codes(self.token_of)
        cold = sold[self.hybrid.is_cold(sold)]
        cold_vectors = self.hybrid.cold_vectors([self.titles[self.item_ids[code]] or "" for code in cold])
        column = np.arange(len(self.item_ids))  # of each item's log-probability
        column[cold] = len(column) + np.arange(len(cold))
        sellable = torch.full((len(column) + len(cold),), -torch.inf, device=choose_device())
        sellable[column[sold]] = 0
        item_of = [*self.item_ids, *(self.item_ids[code] for code in cold)]
        lists: list[list[str]] = [[] for _ in held]
        prompts = self._prompts(held)
        for batch, logits in self._logits(prompts):
            purchases = [purchases_in_prompt(prompts[place].tolist(), self.first) for place in batch]
            scores = self.hybrid.log_probs(logits, purchases, cold_vectors) + sellable
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

    def _prompts(self, held: Sequence[HeldOut]) -> list[NDArray[np.int32]]:
        """The tokens of each customer's prompt."""
        read = [_read_at_night(one.events, self.encoder) for one in held]
        prompts = self.encoder.render_many(read, self.settings.max_tokens)
        return [np.array(ids, dtype=np.int32) for ids in self.encoder.encode_many([p.prompt for p in prompts])]

    @torch.inference_mode()
    def _logits(self, tokens: Sequence[NDArray[np.int32]]) -> Iterator[tuple[Ints, torch.Tensor]]:
        """Batches of prompts: their places in `tokens` (B,), and GPT-2's logits (B, items) after each."""
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        rows = self.rows.table(output_rows(self.model))
        for batch in length_batches(lengths, self.settings.batch_tokens, 0, 0):
            padded = pad([tokens[i] for i in batch], choose_device())
            last = torch.from_numpy(lengths[batch] - 1).to(padded.device)
            states = self.rows.hidden_states(padded)[torch.arange(len(batch), device=padded.device), last]
            most = max(1, SCORES_AT_ONCE // len(rows))
            for start in range(0, len(batch), most):
                yield batch[start : start + most], (states[start : start + most] @ rows.T).float()


class TitleTuning:
    """Fine-tunes a model that spells titles after the prompt of a night. An epoch draws one night for each customer."""

    def __init__(
        self, model: PreTrainedModel, encoder: PromptEncoder, items: Mapping[str, str], settings: RecommendTrainSettings
    ) -> None:
        self.model, self.encoder, self.items, self.settings = model, encoder, items, settings
        self.hybrid = self.counting = Hybrid()

    def task(
        self,
        customers: Sequence[CustomerEvents],
        validation: Sequence[HeldOut],
        further: FurtherCustomers | None = None,
    ) -> TrainingTask[list[PurchaseExample]]:
        """The training task on `customers`; the likelihood of the right titles on `validation` says when to stop.

        With `further` customers an epoch reads one part of all.
        """
        nights = self._nights(customers)
        private = _private_steps(self.settings, len(nights))
        part_of = part_of_epoch(further, self.settings.seed)

        def batches(epoch: int) -> list[list[PurchaseExample]]:
            part = part_of(epoch)
            rng = np.random.default_rng((self.settings.seed, epoch))
            among = self._nights(further.part(part)) if further and part else nights
            drawn = [of_customer[rng.integers(len(of_customer))] for of_customer in among]
            pairs = [(events, bought[rng.integers(len(bought))]) for events, bought in drawn]
            if private is not None:
                return private.batches(self.examples(pairs))
            return _batches(self.examples(pairs), self.settings, epoch)

        def loss(batch: list[PurchaseExample]) -> tuple[torch.Tensor, float]:
            examples = ExampleBatch.of(batch, 0)
            states = hidden_states(self.model, examples.tokens).flatten(0, 1)[examples.used]
            rows, weight = output_rows(self.model), float(examples.weights.sum())
            return cross_entropy_sum(states, rows, examples.at, examples.labels, examples.weights), weight

        validated = self.examples([(one.events, min(one.items)) for one in validation])

        def validate() -> dict[str, float]:
            sums = [loss(batch) for batch in _batches(validated, self.settings, 0)]
            return {"log_likelihood": -sum(float(total) for total, _ in sums) / sum(weight for _, weight in sums)}

        return TrainingTask(self.model, batches, loss, validate if validation else None, "log_likelihood", private)

    def finish(self) -> Manifest:
        """Return the manifest; the model is an ordinary one already."""
        return self.encoder.manifest

    def _nights(self, customers: Sequence[CustomerEvents]) -> list[list[tuple[Sequence[Event], tuple[str, ...]]]]:
        """The nights of each customer who bought after one: the events before it, and the items of the next day."""
        return [
            [(customer.events[: target.events], target.items) for target in found if target.weight == 1.0]
            for customer in customers
            if (found := prediction_targets(customer, self.items, new_only=self.settings.exclude_purchased))
        ]

    def fit_hybrid(
        self,
        customers: Sequence[CustomerEvents],
        validation: Sequence[HeldOut],
        further: FurtherCustomers | None = None,
    ) -> None:
        """Do nothing: the hybrid needs scores of all products, which a search over titles does not give."""

    def recount(self, customers: Sequence[CustomerEvents], further: FurtherCustomers | None) -> None:
        """Do nothing: there is no hybrid."""

    def examples(self, nights: Sequence[tuple[Sequence[Event], str]]) -> list[PurchaseExample]:
        """One example for each (events, item)."""
        read = [(_read_at_night(events, self.encoder), item) for events, item in nights]
        return title_examples(read, self.encoder, self.items, self.settings.max_tokens)

    def recommend(self, held: Sequence[HeldOut], k: int) -> list[list[str]]:
        """The k most likely titles for each held-out customer, by the engine of the night."""
        from lm.recommend.catalogue import Catalogue
        from lm.recommend.recommender import Recommender

        catalogue = Catalogue.build(list(self.items), list(self.items.values()), self.encoder)
        with tempfile.TemporaryDirectory() as folder:
            write_model_folder(self.model, self.encoder.tokenizer, self.encoder.manifest, Path(folder) / "model")
            engine = Recommender.load(Path(folder) / "model", catalogue, dtype="float32")
            read = [_read_at_night(one.events, self.encoder) for one in held]
            prompts = self.encoder.render_many(read, self.settings.max_tokens)
            barred = [sorted(one.purchased) if self.settings.exclude_purchased else [] for one in held]
            lists = engine.recommend([prompt.prompt for prompt in prompts], barred, k)
        return [[scored.item_id for scored in best] for best in lists]


def _read_at_night(events: Sequence[Event], encoder: PromptEncoder) -> Sequence[Event]:
    """The events of a customer that a night reads with this model."""
    return newest_events(events, encoder.manifest.history_events)


def _private_steps(settings: RecommendTrainSettings, customers: int) -> PrivateSteps | None:
    """The steps with differential privacy: a customer has one example in an epoch, so one customer is protected."""
    if settings.privacy is None:
        return None
    return PrivateSteps.plan(settings.privacy, customers, settings.max_epochs, "one customer")


def _batches(
    examples: Sequence[PurchaseExample], settings: TrainingSettings, epoch: int, most: int | None = None
) -> list[list[PurchaseExample]]:
    """Examples in groups of similar length, at most `most` in each, drawn anew each epoch."""
    lengths = np.array([len(example.tokens) for example in examples], dtype=np.int64)
    groups = length_batches(lengths, settings.batch_tokens, settings.seed, epoch, most)
    return [[examples[i] for i in group] for group in groups]


class ExampleBatch(NamedTuple):
    """A batch of examples as tensors: the positions that predict, and their labels."""

    tokens: torch.Tensor  # (B, T) padded
    used: torch.Tensor  # (P,) ascending flat positions in (B, T)
    at: torch.Tensor  # (L,) ascending index into `used` of each label
    labels: torch.Tensor  # (L,) token ids less `first`
    weights: torch.Tensor  # (L,)

    @classmethod
    def of(cls, batch: Sequence[PurchaseExample], first: int) -> ExampleBatch:
        """The tensors of a batch whose label tokens begin at `first`."""
        tokens = pad([example.tokens for example in batch], choose_device())
        flat = np.concatenate([row * tokens.shape[1] + example.positions for row, example in enumerate(batch)])
        used, at = np.unique(flat, return_inverse=True)  # positions ascend within an example, so `at` does too
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
