"""The engine of causal models of transformers that lm.engine.packed_engine cannot compute: simple and exact."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lm.engine import token_count
from lm.engine.huggingface_model import load_model
from lm.engine.kv_tree import ROOT, Floats, Ints, KVTree, TokenRuns
from lm.engine.packed_engine import UNBOUNDED, PackedEngine, packed_or_none


def load_huggingface_engine(path: Path, dtype: torch.dtype, device: torch.device) -> HuggingFaceEngine | PackedEngine:
    """The engine of a causal model directory: the packed one where its architecture allows it.

    Raises CheckpointError as `load_model`.
    """
    model = load_model(path, "causal", dtype="float32" if dtype == torch.float32 else "bfloat16", device=str(device))
    return packed_or_none(model) or HuggingFaceEngine(model)


class HuggingFaceEngine:
    """Implements lm.engine.engine.Engine; its states are the logits themselves, (N, vocabulary) float32.

    Every prompt is a batch of its own, so that answers do not depend on the batch. The runs that follow a prompt are
    computed together, from the prompt's cache where the architecture has one that can be copied.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        config = model.config.get_text_config()
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self.context = int(getattr(config, "max_position_embeddings", None) or UNBOUNDED)
        width = int(config.hidden_size) * next(model.parameters()).element_size()
        self.device = model.device
        self.row_bytes = 2 * int(config.num_hidden_layers) * width

    def prefill(self, prompts: Sequence[Sequence[int]], slots: int) -> HuggingFacePrefilled:
        """As lm.engine.engine.Engine.prefill."""
        token_count.count_texts(prompts)
        return HuggingFacePrefilled(self, prompts, slots)

    def logits(self, states: Tensor, first: int = 0, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """As lm.engine.engine.Engine.logits."""
        stop = self.vocabulary if count is None else first + count
        if len(states):
            yield 0, states[:, first:stop].contiguous()

    def log_probs(self, states: Tensor, row: Ints, token: Ints) -> Floats:
        """As lm.engine.engine.Engine.log_probs."""
        normalised = states.log_softmax(dim=1)
        return normalised[torch.from_numpy(row), torch.from_numpy(token)].double().numpy()


class HuggingFacePrefilled:
    """Implements lm.engine.engine.Prefilled."""

    @torch.inference_mode()
    def __init__(self, engine: HuggingFaceEngine, prompts: Sequence[Sequence[int]], slots: int) -> None:
        self.model, self.tree = engine.model, KVTree(len(prompts), slots)
        self._prompts = [list(prompt) for prompt in prompts]
        self._paths: dict[tuple[int, int], tuple[int, list[int]]] = {}  # (prompt, slot) -> cut, tokens up to the slot
        self._caches: list[Any] = []
        rows = [torch.empty(0, engine.vocabulary)]
        for prompt in self._prompts:
            ids = torch.tensor([prompt], device=self.model.device)
            out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=slots > 0)
            rows.append(out.logits[:, -1].float().cpu())
            cache = getattr(out, "past_key_values", None)
            self._caches.append(cache if hasattr(cache, "batch_repeat_interleave") else None)
        self.states = torch.cat(rows)

    @torch.inference_mode()
    def extend(self, runs: TokenRuns) -> tuple[Tensor, Ints]:
        """As lm.engine.engine.Prefilled.extend."""
        token_count.count(len(runs.token))
        placement = self.tree.place(runs)
        ends = np.cumsum(runs.length)
        rows = []
        for prompt in np.unique(runs.prompt).tolist():
            members = np.flatnonzero(runs.prompt == prompt).tolist()
            paths: list[tuple[int, list[int]]] = []
            for run in members:
                parent, stop, length = int(runs.parent[run]), int(ends[run]), int(runs.length[run])
                cut = 0 if runs.cut is None else int(runs.cut[run])
                cut, path = (cut, []) if parent == ROOT else self._paths[prompt, parent]
                for row in range(stop - length, stop):
                    path = [*path, int(runs.token[row])]
                    self._paths[prompt, int(placement.slot[row])] = cut, path
                paths.append((cut, path))
            found: dict[int, Tensor] = {}
            for cut in sorted({cut for cut, _ in paths}):
                same = [place for place, (other, _) in enumerate(paths) if other == cut]
                logits = self._path_logits(prompt, cut, [paths[place][1] for place in same])
                for place, path_logits in zip(same, logits, strict=True):
                    stop, length = len(paths[place][1]), int(runs.length[members[place]])
                    found[place] = path_logits[stop - length : stop].float().cpu()
            rows += [found[place] for place in range(len(members))]
        return torch.cat(rows), placement.last

    def _path_logits(self, prompt: int, cut: int, paths: list[list[int]]) -> Tensor:
        """Logits after each token of `paths` that follow a prompt without its last `cut` tokens.

        Returns (len(paths), longest path, vocabulary).
        """
        before = self._prompts[prompt][: len(self._prompts[prompt]) - cut]
        cache = None if cut else copy.deepcopy(self._caches[prompt])
        given = [] if cache is not None else before
        longest = max(map(len, paths))
        # The padding is at the end, where causal attention hides it from every position that is read.
        ids = torch.tensor([given + path + [0] * (longest - len(path)) for path in paths], device=self.model.device)
        options: dict[str, Any] = {"use_cache": False}
        if cache is not None:
            cache.batch_repeat_interleave(len(paths))
            options = {"past_key_values": cache, "use_cache": True}
        mask = torch.ones(len(paths), len(before) + longest, dtype=torch.long, device=self.model.device)
        return self.model(input_ids=ids, attention_mask=mask, **options).logits[:, len(given) :]


class HuggingFaceClassifier:
    """Implements lm.sentiment.classifier.Classifier for any transformers sequence classifier, one text at a time."""

    def __init__(self, path: Path, dtype: torch.dtype, device: torch.device) -> None:
        name: Literal["float32", "bfloat16"] = "float32" if dtype == torch.float32 else "bfloat16"
        self.model = load_model(path, "classifier", dtype=name, device=str(device))
        self.labels = int(self.model.config.num_labels)
        # Otherwise the head reads the last token that is not padding, and skips GPT-2's end token, which pads too.
        self.model.config.get_text_config().pad_token_id = None

    @torch.inference_mode()
    def class_logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """As lm.sentiment.classifier.Classifier.class_logits."""
        token_count.count_texts(texts)
        device = self.model.device
        return torch.cat(
            [self.model(input_ids=torch.tensor([list(ids)], device=device)).logits for ids in texts]
        ).float()
