"""Why a product is in a list: the parts of its score, and the weight of each event of the prompt.

The weight of an event is the product's log-probability less the one without the event's line: an occlusion, "leave one
out" (Zeiler and Fergus 2014; Li, Monroe and Jurafsky 2016). It is exact, because the shortened prompt goes through the
model again. The tokens before the first missing line are shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch

from lm.engine.batching import rows_within_budget
from lm.engine.engine import Prefilled
from lm.engine.kv_tree import ROOT, Floats, Ints, TokenRuns
from lm.recommend.co_purchase import purchases_in_prompt
from lm.recommend.hybrid import Parts
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder

PASS_ROWS = 64
"""About the most rows of one prompt in one pass: the slots of a pass, which its rows may all attend to."""
NEWEST_PURCHASES = 50
"""The newest purchases of a prompt that a night weighs: each goes through the model again with all after it."""


class _Prompt:
    """The tokens of a prompt, line by line; its events are the lines between header and cue."""

    def __init__(self, encoder: PromptEncoder, prompt: str) -> None:
        self.lines = encoder.encode_lines(prompt)
        self.events = event_lines(encoder, prompt)
        self.tokens = list(chain.from_iterable(self.lines))
        self._start = np.cumsum([0, *map(len, self.lines)])

    def without(self, events: Iterable[int]) -> tuple[int, list[int]]:
        """(cut, tokens): the prompt without some events is the prompt less its last `cut` tokens, and `tokens`.

        `tokens` is never empty: it begins with the token before the first missing line.
        """
        missing = {self.events[event] for event in events}
        shared = int(self._start[min(missing)]) - 1
        rest = chain.from_iterable(
            tokens for line, tokens in enumerate(self.lines) if line > min(missing) and line not in missing
        )
        return len(self.tokens) - shared, [self.tokens[shared], *rest]


def event_lines(encoder: PromptEncoder, prompt: str) -> range:
    """The numbers of the lines of a rendered prompt that are events, oldest first."""
    lines = prompt.count("\n") + bool(prompt and not prompt.endswith("\n"))
    header = int(prompt.startswith(encoder.header))
    cue = int(bool(encoder.cue) and prompt.endswith(encoder.cue))
    return range(header, lines - cue)


def event_texts(encoder: PromptEncoder, prompt: str) -> list[str]:
    """The lines of a rendered prompt that are events, oldest first."""
    lines = prompt.split("\n")
    return [lines[line] for line in event_lines(encoder, prompt)]


def without_events(encoder: PromptEncoder, prompt: str, events: Iterable[int]) -> str:
    """The prompt of a customer who never had these events, given by their places in the prompt."""
    numbers = event_lines(encoder, prompt)
    missing = {numbers[event] for event in events}
    # Only newlines end a line here, as for the encoder; str.splitlines knows other ends.
    return "\n".join(line for number, line in enumerate(prompt.split("\n")) if number not in missing)


class Reasoner:
    """Computes reasons with the engine of a recommender. Not thread-safe."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.engine, self.encoder = recommender.engine, recommender.encoder
        self._coded = recommender.catalogue.coding == "item_tokens"

    def event_weights(
        self, prompts: Sequence[str], items: Sequence[Sequence[str]], newest: int | None = None
    ) -> list[Floats]:
        """The weights of the events of each rendered prompt for its `items`, item_ids of the catalogue.

        Returns for each prompt (items, events), the oldest event first. With `newest`, older purchases than so many at
        the end of a prompt in item_tokens coding are not weighed: NaN. Raises KeyError for an item that is not in the
        catalogue.
        """
        counts = [len(event_lines(self.encoder, prompt)) for prompt in prompts]
        older = [self._older(prompt, count, newest) for prompt, count in zip(prompts, counts, strict=True)]
        weighed = [
            [event for event in range(count) if event not in left_out] if wanted else []
            for count, left_out, wanted in zip(counts, older, items, strict=True)
        ]
        leave_out = [[(event,) for event in events] for events in weighed]
        found = []
        for scores, count, events in zip(self.scores_without(prompts, items, leave_out), counts, weighed, strict=True):
            weights = np.full((scores.shape[1], count), np.nan)
            weights[:, events] = (scores[0] - scores[1:]).T
            found.append(weights)
        return found

    def _older(self, prompt: str, events: int, newest: int | None) -> range:
        """The places of the purchases that are older than the `newest` ones of a prompt of so many events."""
        if newest is None or events <= newest or not self._coded:
            return range(0)
        first = self.encoder.manifest.first_item_token
        purchases = len(purchases_in_prompt(self.encoder.encode(prompt), first))  # the last lines, one token each
        return range(events - purchases, events - newest)

    def scores_without(
        self,
        prompts: Sequence[str],
        items: Sequence[Sequence[str]],
        left_out: Sequence[Sequence[Sequence[int]]],
    ) -> list[Floats]:
        """Log-probabilities of items with the whole prompt, and with each of several sets of events left out.

        `left_out[p]` holds the sets of prompt p, each the places of events, oldest first from 0. Returns for each
        prompt (1 + sets, items), the whole prompt first.
        """
        found: list[Floats] = [np.empty((0, 0))] * len(prompts)
        split = [_Prompt(self.encoder, prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda p: -len(split[p].tokens))
        slots = 2 * PASS_ROWS
        while order:
            lengths = (len(split[p].tokens) for p in order)
            most = self.recommender.limits.cache_bytes // self.engine.row_bytes
            size = rows_within_budget(lengths, self.recommender.batch_tokens, slots, most)
            batch, order = order[:size], order[size:]
            scores = self._batch([split[p] for p in batch], [items[p] for p in batch], [left_out[p] for p in batch])
            for p, one in zip(batch, scores, strict=True):
                found[p] = one
        return found

    def _batch(
        self, prompts: list[_Prompt], items: list[Sequence[str]], left_out: list[Sequence[Sequence[int]]]
    ) -> list[Floats]:
        """`scores_without` of one batch."""
        scores = [np.full((1 + len(sets), len(wanted)), np.nan) for sets, wanted in zip(left_out, items, strict=True)]
        prefilled = self.engine.prefill([prompt.tokens for prompt in prompts], PASS_ROWS)
        whole = [prompt.tokens for prompt in prompts]
        every, root = np.arange(len(prompts)), np.full(len(prompts), ROOT)
        for p, one in enumerate(self._item_scores(prefilled, prefilled.states, every, root, whole, items)):
            scores[p][0] = one
        todo = [
            [(place, *prompts[p].without(events)) for place, events in enumerate(left_out[p])]
            for p in range(len(prompts))
        ]
        while any(todo):
            runs: list[tuple[int, int, int, list[int]]] = []  # prompt, set, cut, tokens
            for p, waiting in enumerate(todo):
                used = 0
                while waiting and (not used or used + len(waiting[0][2]) <= PASS_ROWS):
                    place, cut, tokens = waiting.pop(0)
                    runs.append((p, place, cut, tokens))
                    used += len(tokens)
            owner, cuts = (np.array([run[i] for run in runs], np.int64) for i in (0, 2))
            length = np.array([len(run[3]) for run in runs], np.int64)
            token = np.array(list(chain.from_iterable(run[3] for run in runs)), np.int64)
            keep = np.full(len(runs), not self._coded)  # titles follow the state
            states, slot = prefilled.extend(TokenRuns(owner, owner * 0 + ROOT, length, token, keep, cuts))
            ends = states[torch.from_numpy(np.cumsum(length) - 1).to(states.device)]
            before = [whole[p][: len(whole[p]) - cut] + tokens for p, _, cut, tokens in runs]
            found = self._item_scores(prefilled, ends, owner, slot, before, [items[run[0]] for run in runs])
            for (p, place, *_), one in zip(runs, found, strict=True):
                scores[p][1 + place] = one
            prefilled.tree.forget()
        return scores

    def _item_scores(
        self,
        prefilled: Prefilled,
        states: torch.Tensor,
        owner: Ints,
        slot: Ints,
        before: list[list[int]],
        wanted: list[Sequence[str]],
    ) -> list[Floats]:
        """Log-probabilities after M states (M, E) of the `wanted` items of each.

        `owner` is the prompt of each state, `slot` its row in the tree, and `before` the tokens up to it.
        """
        if self._coded:
            first = self.encoder.manifest.first_item_token
            return self._token_scores(states, [purchases_in_prompt(tokens, first) for tokens in before], wanted)
        flat = self._title_scores(prefilled, states, owner, slot, wanted)
        return np.split(flat, np.cumsum([len(ids) for ids in wanted])[:-1])

    def _token_scores(self, states: torch.Tensor, bought: list[Ints], wanted: list[Sequence[str]]) -> list[Floats]:
        found: list[Floats] = []
        for start, log_p in self.recommender.token_log_probs(states, bought):
            for row, scores in enumerate(log_p):
                columns = torch.from_numpy(self.recommender.columns(wanted[start + row]))
                found.append(scores[columns.to(scores.device)].cpu().numpy().astype(np.float64))
        return found

    def _title_scores(
        self, prefilled: Prefilled, states: torch.Tensor, owner: Ints, slot: Ints, wanted: list[Sequence[str]]
    ) -> Floats:
        catalogue = self.recommender.catalogue
        answers = [
            self.encoder.answers(catalogue.titles.take(catalogue.index(ids).astype(np.int64))) if ids else []
            for ids in wanted
        ]
        state = np.repeat(np.arange(len(wanted)), list(map(len, answers)))
        flat = list(chain.from_iterable(answers))
        found = self.engine.log_probs(states, state, np.array([ids[0] for ids in flat], np.int64))
        longer = [i for i, ids in enumerate(flat) if len(ids) > 1]
        while longer:
            now, used = [], np.zeros(len(prefilled.tree.used), np.int64)
            for i in longer:  # as many titles of a prompt as one pass has room for
                p = owner[state[i]]
                if not used[p] or used[p] + len(flat[i]) <= PASS_ROWS:
                    used[p] += len(flat[i])
                    now.append(i)
            longer = sorted(set(longer) - set(now))
            length = np.array([len(flat[i]) - 1 for i in now], np.int64)
            token = np.array(list(chain.from_iterable(flat[i][:-1] for i in now)), np.int64)
            of = state[now]
            runs = TokenRuns(owner[of], slot[of], length, token, np.zeros(len(now), np.bool_))
            after, _ = prefilled.extend(runs)
            following = np.array(list(chain.from_iterable(flat[i][1:] for i in now)), np.int64)
            logp = self.engine.log_probs(after, np.arange(len(following)), following)
            found[now] += np.add.reduceat(logp, np.cumsum(length) - length)
        return found

    def parts(
        self, prompts: Sequence[str], items: Sequence[Sequence[str]], scores: Sequence[Floats]
    ) -> list[list[Parts]]:
        """The summands of the `scores` of the items of each prompt, which the recommender gave them."""
        if not self._coded:
            return [[Parts(score) for score in of_prompt.tolist()] for of_prompt in scores]
        first = self.encoder.manifest.first_item_token
        bought = [purchases_in_prompt(tokens, first) for tokens in self.encoder.encode_many(prompts)]
        codes = [self.recommender.codes(self.recommender.columns(ids)) for ids in items]
        return self.recommender.hybrid.parts(scores, codes, bought)
