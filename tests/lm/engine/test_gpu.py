"""Engines and sampling on a GPU equal those of a CPU. What needs no GPU of it is tested everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lm.engine.device import BatchLimits, batch_limits
from lm.engine.device_sampling import draw_on_device
from lm.engine.sampling import Sampler, Sampling, next_tokens
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.lm.engine.test_packed_engine import tiny
from tests.models import save_causal, train_tokenizer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
TITLES = ["Black ink cartridge", "Red cotton T-shirt, size M", "Blue cotton T-shirt, size L", "Argan oil shampoo"]
PROMPTS = ["Customer history\nBought: Inkjet printer with scanner\nBought:", "x", "Customer history\nBought:"]


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("top_k", [0, 1, 50, 5000])
def test_draws_on_the_device_are_those_of_the_cpu(top_k: int, top_p: float) -> None:
    generator = np.random.default_rng(0)
    logits = torch.from_numpy(generator.normal(size=(200, 700)).astype(np.float32) * 3)
    logits[:, 1::2] = logits[:, ::2]  # every logit twice: ties at each cut
    uniform = generator.random(200)
    expected = next_tokens(logits, [Sampling(top_k=top_k, top_p=top_p)] * 200, uniform)
    found = draw_on_device(logits, np.full(200, top_k), [top_p] * 200, uniform)
    assert (found == expected).mean() >= 0.99  # rounding moves a draw at an edge between two tokens
    mixed = [Sampling(top_k=top_k, top_p=top_p), Sampling(), Sampling(temperature=0)] * 2
    k = np.array([1 if rule.temperature == 0 else rule.top_k for rule in mixed])
    both = draw_on_device(logits[:6], k, [rule.top_p for rule in mixed], uniform[:6] * np.array([1, 1, 0] * 2))
    assert both.tolist() == next_tokens(logits[:6], mixed, uniform[:6]).tolist()


def test_no_draw_passes_the_last_token_with_a_weight() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]])
    assert draw_on_device(logits, np.zeros(1, np.int64), [1.0], np.array([1 - 1e-17])).tolist() == [1]


def test_batches_of_a_gpu_follow_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, gib = torch.device("cuda", 1), 1 << 30
    for free, tokens in ((90 * gib, 30_720), (900 * gib, 1 << 16), (gib // 4, 1024)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2 * free))
        assert batch_limits(gpu) == BatchLimits(tokens, free // 3)
    assert batch_limits(torch.device("cpu")) == BatchLimits(8192, gib)


@needs_gpu
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gemma2"])
def test_lists_and_texts_of_a_gpu_are_those_of_a_cpu(family: str, tmp_path: Path) -> None:
    if family == "gpt2":
        save_causal(tmp_path, spread=0.1)
    else:
        tokenizer = train_tokenizer()
        tiny(family, tokenizer.get_vocab_size()).save_pretrained(tmp_path)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = PromptEncoder.load(tmp_path)
    catalogue = Catalogue.build([f"i{n}" for n in range(len(TITLES))], TITLES, encoder)
    options: dict[str, Any] = {"max_new_tokens": 9, "num_return_sequences": 3, "seed": 3}
    lists, texts = [], []
    for device in ("cpu", "cuda"):
        model = Recommender.load(tmp_path, catalogue, dtype="float32", device=device)
        lists.append(model.recommend(PROMPTS, [[], ["i1"], []], 3))
        texts.append(Sampler(model.engine, encoder).sample(PROMPTS, Sampling(top_k=20, top_p=0.9), **options))
    for ours, theirs in zip(*lists, strict=True):
        assert [one.item_id for one in ours] == [one.item_id for one in theirs]
        np.testing.assert_allclose([one.score for one in ours], [one.score for one in theirs], atol=1e-3)
    assert texts[0] == texts[1]
