"""The k most likely next products of each customer, among the sellable products that are not excluded.

In titles coding a product's score is the log-probability of its title after the prompt. In item_tokens coding it is
the product's log-probability under the hybrid (lm.recommend.hybrid), among all products that the checkpoint knows and
the sellable ones that it does not know. Rules of the shop (lm.recommend.list_rules) may deny products, add weights to
scores, and arrange lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lm.checkpoint.checkpoint import CheckpointError
from lm.engine.batching import rows_within_budget
from lm.engine.device import batch_limits
from lm.engine.engine import Engine, load_engine
from lm.engine.kv_tree import Floats, Ints
from lm.recommend.beam_search import Search
from lm.recommend.catalogue import Catalogue
from lm.recommend.co_purchase import purchases_in_prompt
from lm.recommend.flat_lists import Names, flat_lists, is_flat, names_below
from lm.recommend.hybrid import Hybrid
from lm.recommend.list_rules import Binding, Cap, Resolved, RuleTable
from lm.recommend.place_weights import PlaceWeights
from lm.recommend.plain_titles import title_or_nothing
from lm.recommend.rankings import KeptWeights, TitleRankings, TokenRankings
from lm.recommend.ruled_lists import Ruled, ruled_lists
from lm.recommend.same_titles import SAME_TITLE, SameTitles
from lm.recommend.twins import Twins
from lm.text.prompt import PromptEncoder

EXHAUSTIVE_ROWS = 4096
"""Tries with at most so many inner nodes are searched until every list is the proven best.

With 180 titles and random weights the proof took 1.7 times the time of the beam search, which found no list exactly.
"""
UNLIMITED = 1 << 40
CAPPED = 3
"""A list under a cap is chosen among so many times as many products; where these do not suffice, among more."""
WORKER_MEMORY = 2 << 30
"""Bytes of memory that a worker should stay within."""
SCORES_PART = 4
"""The scores of all products and their copies take at most a fourth of it; the rest is for everything else."""
COPIES = 5
"""Copies of the scores that are alive at once."""
PROOF_ROWS = 128
"""Most token rows that the proof of one customer may compute in larger tries; a prompt has up to 256."""


class ScoredItem(NamedTuple):
    """One product of a list.

    `score` is its natural log-probability plus `weight`, what rules add. `rules` are those that weighted or moved it.
    """

    item_id: str
    score: float
    rules: tuple[str, ...] = ()
    weight: float = 0.0


class Recommender:
    """Makes top-k lists over one catalogue with one model. Not thread-safe."""

    def __init__(
        self,
        engine: Engine,
        encoder: PromptEncoder,
        catalogue: Catalogue,
        *,
        hybrid: Hybrid | None = None,
        rules: RuleTable | None = None,
        same_titles: SameTitles | None = None,
        beams: int | None = None,
        batch_tokens: int | None = None,
        worker_memory: int | None = None,
    ) -> None:
        if catalogue.coding != encoder.manifest.coding:
            raise CheckpointError(
                f"the catalogue is for {catalogue.coding} and the model for {encoder.manifest.coding}: "
                "run the night again, it builds the catalogue for its model"
            )
        self.engine, self.encoder, self.catalogue = engine, encoder, catalogue
        self.hybrid, self.rules = hybrid or Hybrid(), rules or RuleTable.empty(catalogue)
        self.same_titles = same_titles
        self.limits = batch_limits(engine.device)
        self.beams, self.batch_tokens = beams, batch_tokens or self.limits.tokens
        trie = catalogue.trie
        known, first = len(encoder.manifest.item_ids), encoder.manifest.first_item_token
        code = np.where(catalogue.item_token >= 0, catalogue.item_token.astype(np.int64) - first, -1)
        is_cold = self.hybrid.is_cold(code) if catalogue.coding == "item_tokens" else code >= 0
        cold = np.flatnonzero(is_cold)
        row_bytes = COPIES * 4 * (known + len(cold) + 1)
        self._rows_at_once = max(1, (worker_memory or WORKER_MEMORY) // SCORES_PART // row_bytes)
        named = zip(catalogue.item_ids.take(cold), catalogue.titles.take(cold), strict=True)
        self._cold = self.hybrid.cold_vectors([title_or_nothing(item, title) for item, title in named])
        self._listable_rows: Ints = np.flatnonzero((code >= 0) | is_cold)
        code[cold] = known + np.arange(len(cold))  # their log-probabilities come after those of known items
        self._listable = torch.from_numpy(code[self._listable_rows])
        self._column: Ints = np.full(
            len(catalogue), -1, np.int64
        )  # of each row, its column among the listable rows, or -1
        self._column[self._listable_rows] = np.arange(len(self._listable_rows))
        self._twins = Twins.of(same_titles, self._column)
        self._place: Ints = np.empty(len(trie.items), np.int64)  # of each row, its place in `trie.items`
        self._place[trie.items] = np.arange(len(trie.items))
        inner = int(np.count_nonzero(np.diff(trie.ptr)))
        self._exhaustive = inner <= EXHAUSTIVE_ROWS
        self._trie_weights: KeptWeights = {}
        self._slots = 128  # key-value slots for the titles of one prompt; grows to the most that a batch has needed

    @classmethod
    def load(
        cls,
        model_dir: Path | str,
        catalogue: Catalogue,
        *,
        rules: RuleTable | None = None,
        same_titles: SameTitles | None = None,
        dtype: str = "auto",
        threads: int | None = None,
        device: str = "auto",
        beams: int | None = None,
        batch_tokens: int | None = None,
        worker_memory: int | None = None,
    ) -> Recommender:
        """Open a model directory; its weights stay mapped where their format allows.

        `dtype` is auto, float32 or bfloat16, `threads` defaults to OMP_NUM_THREADS, `beams` to k.
        `worker_memory` in bytes (default WORKER_MEMORY) bounds the customers whose scores are in memory at once.
        Raises CheckpointError when the directory is not usable or not of the catalogue's coding.
        """
        path = Path(model_dir)
        engine = load_engine(path, dtype=dtype, threads=threads, device=device)
        encoder = PromptEncoder.load(path)
        hybrid = Hybrid.load(path, encoder.manifest)
        options: dict[str, Any] = {"beams": beams, "batch_tokens": batch_tokens, "worker_memory": worker_memory}
        return cls(engine, encoder, catalogue, hybrid=hybrid, rules=rules, same_titles=same_titles, **options)

    def recommend(
        self,
        prompts: Sequence[str],
        excluded: Sequence[Sequence[str]],
        k: int,
        bindings: Sequence[str | None] | None = None,
    ) -> list[list[ScoredItem]]:
        """The best k products of each prompt, best first, ties by item_id; none of its `excluded` item_ids.

        With `same_titles` a list has one product of each title, and none with the title of an excluded product.
        `bindings` are the rules that bind for each prompt, as `lm.recommend.list_rules.Binding` reads them. Lists are
        shorter than k only where fewer products are allowed, or where pins or shares bind and `rules.k` is less. In
        float32 they do not depend on what else is in the call.
        """
        if k < 1:
            raise ValueError(f"k {k}: ask for at least one product")
        if len(prompts) != len(excluded):
            raise ValueError(f"{len(prompts)} prompts and {len(excluded)} lists of excluded products")
        if not len(self.catalogue) or not prompts:
            return [[] for _ in prompts]
        longest = self.engine.context - self.encoder.max_answer_tokens
        encoded = [self.encoder.newest_tokens(ids, longest) for ids in self.encoder.encode_many(prompts)]
        rows = [self._rows(item_ids) for item_ids in excluded]
        lists: list[list[ScoredItem]] = [[] for _ in prompts]
        plain = self._best_tokens if self.catalogue.coding == "item_tokens" else self._best_titles
        bound: dict[int, Resolved] = {}
        if bindings is not None and self.rules.rules:
            bound = {i: self.rules.resolve(Binding.parse(text)) for i, text in enumerate(bindings) if text}

        def best_plain(batch: list[int]) -> list[list[ScoredItem]]:
            return plain([encoded[i] for i in batch], [rows[i] for i in batch], k)

        def best_ruled(batch: list[int]) -> list[list[ScoredItem]]:
            of_batch = [rows[i] for i in batch]
            return self._best_ruled([encoded[i] for i in batch], of_batch, [bound[i] for i in batch], k)

        parts: list[tuple[list[int], Callable[[list[int]], list[list[ScoredItem]]]]] = [
            ([i for i in range(len(prompts)) if i not in bound], best_plain),
            (list(bound), best_ruled),
        ]

        def fill(part: list[int], best: Callable[[list[int]], list[list[ScoredItem]]]) -> None:
            order = sorted(part, key=lambda i: -len(encoded[i]))
            while order:
                size = self._batch_size(len(encoded[i]) for i in order)
                batch, order = order[:size], order[size:]
                for i, one in zip(batch, best(batch), strict=True):
                    lists[i] = one

        for part, best in parts:
            fill(part, best)
        if self.same_titles is not None and self.catalogue.coding == "titles":
            again = [i for i, one in enumerate(lists) if self._repeats_a_title(one)]
            once = Cap(SAME_TITLE, self.same_titles.group, most=1)
            for i in again:
                rules = bound.get(i) or self.rules.resolve(Binding(()))
                bound[i] = replace(rules, caps=[*rules.caps, once])
            fill(again, best_ruled)
        return lists

    def _repeats_a_title(self, products: Sequence[ScoredItem]) -> bool:
        assert self.same_titles is not None
        groups = self.same_titles.group[self.catalogue.index(one.item_id for one in products)].tolist()
        return len(groups) > len(set(groups)) + max(groups.count(-1) - 1, 0)

    def _batch_size(self, lengths: Iterable[int]) -> int:
        slots = 0 if self.catalogue.coding == "item_tokens" else self._slots
        return rows_within_budget(lengths, self.batch_tokens, slots, self.limits.cache_bytes // self.engine.row_bytes)

    def _rows(self, item_ids: Sequence[str]) -> Ints:
        rows = self.catalogue.index(item_ids).astype(np.int64)
        rows = rows[rows >= 0]  # excluded products that are no longer sold
        return rows if self.same_titles is None else self.same_titles.with_twins(item_ids, rows)

    def _best_titles(self, prompts: list[list[int]], excluded: list[Ints], k: int) -> list[list[ScoredItem]]:
        k = min(k, len(self.catalogue.trie.items))
        prompt, rows, score = self._search(prompts, excluded, k)
        return self._lists(len(prompts), prompt, rows, score, k)

    def _search(
        self,
        prompts: list[list[int]],
        excluded: list[Ints],
        k: int,
        weights: PlaceWeights | None = None,
        requests: Sequence[int] | None = None,
    ) -> tuple[Ints, Ints, Floats]:
        """Search the best k titles of each prompt, or of each of `requests`, which are numbers of prompts.

        Returns the place among these, the catalogue row and the score of each title found.
        """
        trie = self.catalogue.trie
        if requests is not None:
            prompts, excluded = [prompts[i] for i in requests], [excluded[i] for i in requests]
        prefilled = self.engine.prefill(prompts, self._slots)
        places = [self._place[rows] for rows in excluded]
        if weights is not None:
            places = [weights.not_denied(prompt, one) for prompt, one in enumerate(places)]
        search = Search(self.engine, prefilled, trie, places, k, weights)
        hits = search.run(max(k, self.beams or k), UNLIMITED if self._exhaustive else PROOF_ROWS)
        self._slots = max(self._slots, prefilled.tree.slots)
        prompt = np.repeat(np.arange(len(prompts)), np.diff(hits.ptr))
        return prompt, trie.items[hits.place].astype(np.int64), hits.score

    def _best_tokens(self, prompts: list[list[int]], excluded: list[Ints], k: int) -> list[list[ScoredItem]]:
        k = min(k, len(self._listable))
        lists: list[list[ScoredItem]] = []
        if not k:
            return [[] for _ in prompts]
        for _, scores in self._token_scores(prompts, excluded):
            left_out = self._twins.keep_best(scores)
            at_kth = torch.topk(scores, k).values[:, -1:]
            hit = (scores >= at_kth) & (scores > -torch.inf)
            prompt, place = (index.cpu().numpy() for index in hit.nonzero(as_tuple=True))
            score = scores[hit].cpu().numpy().astype(np.float64)
            rows = self._listable_rows[place]
            lists += self._lists(len(scores), prompt, rows, score, k, left_out={SAME_TITLE: left_out})
        return lists

    def _token_scores(self, prompts: list[list[int]], excluded: list[Ints]) -> Iterator[tuple[int, torch.Tensor]]:
        """As `token_log_probs` after some prompts, with -inf for each prompt's `excluded` rows."""
        states = self.engine.prefill(prompts, 0).states
        first = self.encoder.manifest.first_item_token
        bought = [purchases_in_prompt(prompt, first) for prompt in prompts]
        for start, scores in self.token_log_probs(states, bought):
            for i, rows in enumerate(excluded[start : start + len(scores)]):
                scores[i, self._column[rows][self._column[rows] >= 0]] = -torch.inf
            yield start, scores

    def _best_ruled(
        self, prompts: list[list[int]], excluded: list[Ints], rules: list[Resolved], k: int
    ) -> list[list[ScoredItem]]:
        """As the two functions for prompts without rules, under `rules`."""
        if self.catalogue.coding == "titles":
            rankings = TitleRankings(self.catalogue.trie, self._place, self._trie_weights)
            denied = [
                np.unique(np.concatenate([rows, *(of_rule for _, of_rule in one.denied)]))
                for rows, one in zip(excluded, rules, strict=True)
            ]
            search = partial(self._search, prompts, denied)
            tops = partial(rankings.tops, search, rules)
            return self._scored(len(rules), ruled_lists(tops, rules, k, self.rules))
        lists: list[list[ScoredItem]] = []
        if not len(self._listable):
            return [[] for _ in prompts]
        for start, scores in self._token_scores(prompts, excluded):
            lists += self._ruled_tokens(scores, rules[start : start + len(scores)], k)
        return lists

    def _ruled_tokens(self, scores: torch.Tensor, rules: list[Resolved], k: int) -> list[list[ScoredItem]]:
        """The lists of n requests from their scores (n, listable items)."""
        rankings = TokenRankings(scores, self._listable_rows, self._column, rules)  # changes `scores`
        best_twins = self._twins.keep_best(scores, [one.constraints for one in rules])
        left_out = {**dict(sorted(rankings.left_out.items())), SAME_TITLE: best_twins}  # the same order in any batch
        lists: list[list[ScoredItem] | None] = [None] * len(rules)
        for size, flat in (
            (k, [i for i, one in enumerate(rules) if is_flat(one) and not one.caps]),
            (CAPPED * k, [i for i, one in enumerate(rules) if is_flat(one) and one.caps]),
        ):
            if flat:
                request, row, score = rankings.flat(flat, size)
                listed, names, weight = flat_lists(request, row, [rules[i] for i in flat])
                keep = np.flatnonzero(listed)
                kept = [names[entry] for entry in keep.tolist()], weight[keep]
                of_flat = {name: better[flat] for name, better in left_out.items()}
                found = self._lists(len(flat), request[keep], row[keep], score[keep], k, kept, of_flat)
                ranked = np.bincount(request, minlength=len(flat))
                for i, one, known in zip(flat, found, ranked.tolist(), strict=True):
                    if len(one) == k or known < size:  # otherwise the cap needs more than the best `size`
                        lists[i] = one
        rest = [i for i, one in enumerate(lists) if one is None]
        if rest:
            ruled = ruled_lists(partial(rankings.tops, requests=rest), [rules[i] for i in rest], k, self.rules)
            of_rest = {name: better[rest] for name, better in left_out.items()}
            ruled = ruled._replace(names=names_below(ruled.request, ruled.score, ruled.names, of_rest))
            for i, one in zip(rest, self._scored(len(rest), ruled), strict=True):
                lists[i] = one
        return [one or [] for one in lists]

    def _scored(self, requests: int, ruled: Ruled) -> list[list[ScoredItem]]:
        """The products of arranged lists."""
        item_ids, score, weight = self.catalogue.item_ids.take(ruled.row), ruled.score.tolist(), ruled.weight.tolist()
        items = [ScoredItem(*one) for one in zip(item_ids, score, ruled.names, weight, strict=True)]
        first = np.searchsorted(ruled.request, np.arange(requests + 1)).tolist()
        return [items[start:stop] for start, stop in pairwise(first)]

    def token_log_probs(self, states: torch.Tensor, bought: Sequence[Ints]) -> Iterator[tuple[int, torch.Tensor]]:
        """Log-probabilities of the listable products after states (N, E), for models of item tokens.

        `bought` holds the item codes of each row's purchases, oldest first. Yields (first row, scores (n, listable)).
        """
        manifest = self.encoder.manifest
        for start, logits in self.engine.logits(states, manifest.first_item_token, len(manifest.item_ids)):
            for at in range(0, len(logits), self._rows_at_once):
                some = logits[at : at + self._rows_at_once]
                first = start + at
                log_p = self.hybrid.log_probs(some, bought[first : first + len(some)], self._cold)
                yield first, log_p[:, self._listable.to(log_p.device)]

    def columns(self, item_ids: Sequence[str]) -> Ints:
        """The columns of products in `token_log_probs`. Raises KeyError for a product that cannot be listed."""
        rows = self.catalogue.index(item_ids).astype(np.int64)
        columns: Ints = np.where(rows < 0, -1, self._column[rows])
        if (columns < 0).any():
            raise KeyError("a product is not in the catalogue, or the model cannot list it")
        return columns

    def codes(self, columns: Ints) -> Ints:
        """The code of each column's product in the model; cold products have codes from the number of known ones on."""
        codes: Ints = self._listable.numpy()[columns]
        return codes

    def _lists(
        self,
        prompts: int,
        prompt: Ints,
        row: Ints,
        score: Floats,
        k: int,
        ruled: tuple[Sequence[Names], Floats] | None = None,
        left_out: Mapping[str, Floats] | None = None,
    ) -> list[list[ScoredItem]]:
        """The best k of the found rows of each prompt; ties go to the lower row, which is the lower item_id.

        `ruled` are the names of each row's rules and what they added to its score, `left_out` as in `names_below`.
        """
        order = np.lexsort((row, -score, prompt))
        first = np.searchsorted(prompt[order], np.arange(prompts + 1))
        is_best = np.arange(len(order)) - first[prompt[order]] < k
        order = order[is_best]
        names = [ruled[0][entry] for entry in order.tolist()] if ruled else [()] * len(order)
        weight = ruled[1][order] if ruled else np.zeros(len(order))
        names = names_below(prompt[order], score[order], names, left_out or {})
        return self._scored(prompts, Ruled(prompt[order], row[order], score[order], names, weight))
