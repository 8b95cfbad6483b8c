"""Models of transformers with packed prompts: their own forward pass, bits that no batch changes, lists and texts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lm.checkpoint.manifest import Manifest
from lm.engine import attention, packed_engine
from lm.engine.attention import soft_capped
from lm.engine.batching import FIXED_TILE, RowTiles
from lm.engine.engine import load_engine
from lm.engine.huggingface_engine import HuggingFaceEngine
from lm.engine.kv_tree import ROOT, TokenRuns
from lm.engine.packed_engine import PackedEngine, packed_or_none
from lm.engine.sampling import Sampler, Sampling
from lm.recommend.catalogue import Catalogue
from lm.recommend.recommender import Recommender
from lm.text.prompt import PromptEncoder
from tests.engines import VOCABULARY, reference, some_prompts, token_runs
from tests.models import train_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

WINDOW = 6
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {},
    "gemma": {"num_key_value_heads": 1},
    "gemma2": {"sliding_window": WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": {"logits_scaling": 3.0},
    "gpt_neox": {},
    "gpt2": {"n_embd": 48, "n_head": 4, "n_layer": 2, "activation_function": "mish"},
}


def tiny(family: str, vocabulary: int = VOCABULARY, **changes: Any) -> Any:
    """A small model of a family, with random weights and four query heads, of which two share a key head."""
    shape = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "initializer_range": 0.2}
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=vocabulary, **special, **shape | FAMILIES[family] | changes)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # also norms and biases, which start at one and zero
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def packed(model: Any) -> PackedEngine:
    engine = packed_or_none(model)
    assert engine is not None
    return engine


def eager(model: Any, ids: list[int]) -> torch.Tensor:
    model.set_attn_implementation("eager")
    found = reference(model, ids)
    model.set_attn_implementation(packed_engine.ATTENTION)
    return found


def all_logits(engine: PackedEngine, states: torch.Tensor) -> torch.Tensor:
    return torch.cat([logits.clone() for _, logits in engine.logits(states)])


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_extend_equal_the_models_own_pass(family: str) -> None:
    """Prompts longer and shorter than the window, a tree of answers, and an answer to a cut prompt."""
    model = tiny(family)
    engine = packed(model)
    prompts = some_prompts([41, 40, 9, 1])
    state = engine.prefill(prompts, slots=4)
    for prompt, row in zip(prompts, all_logits(engine, state.states), strict=True):
        torch.testing.assert_close(row, eager(model, prompt)[-1], atol=1e-4, rtol=1e-4)
    state.extend(token_runs((0, ROOT, [5, 6, 7], True), (2, ROOT, [9] * 8, True), (3, ROOT, [3], True)))
    runs = token_runs((0, 2, [8], True), (0, 1, [9, 10], False), (2, 7, [4], False), (2, ROOT, [8, 2], False))
    runs = TokenRuns(*runs[:5], cut=np.array([0, 0, 0, 3]))
    hidden, _ = state.extend(runs)
    paths = [prompts[0] + [5, 6, 7, 8], prompts[0] + [5, 6, 9], prompts[0] + [5, 6, 9, 10], prompts[2] + [9] * 8 + [4]]
    paths += [[*prompts[2][:-3], 8], [*prompts[2][:-3], 8, 2]]
    for path, row in zip(paths, all_logits(engine, hidden), strict=True):
        torch.testing.assert_close(row, eager(model, path)[-1], atol=1e-4, rtol=1e-4)
    expected = eager(model, prompts[1])[-1].log_softmax(0)
    found = engine.log_probs(state.states, np.array([1, 1]), np.array([7, 200]))
    np.testing.assert_allclose(found, expected[[7, 200]], atol=1e-4)


@pytest.mark.parametrize(("threads", "family"), [*((1, family) for family in FAMILIES), (2, "qwen2"), (2, "gemma2")])
def test_rows_have_the_same_bits_in_any_company(threads: int, family: str) -> None:
    """The states and logits of a prompt and its answers are the same alone and among 40 prompts."""
    torch.set_num_threads(threads)
    engine = packed(tiny(family))
    prompts = some_prompts(sorted(np.random.default_rng(1).integers(1, 70, 40).tolist(), reverse=True))

    def answers(batch: list[int]) -> list[tuple[torch.Tensor, ...]]:
        state = engine.prefill([prompts[i] for i in batch], slots=12)
        first = state.states.clone()
        _, last = state.extend(token_runs(*((b, ROOT, [i, 3][: 1 + i % 2], True) for b, i in enumerate(batch))))
        runs = [(b, int(last[b]), [t, i], False) for b, i in enumerate(batch) for t in range(i % 4 + 1)]
        logits = all_logits(engine, state.extend(token_runs(*runs))[0])
        ends = np.cumsum([0] + [2 * (i % 4 + 1) for i in batch])
        return [(row, logits[s:e]) for row, (s, e) in zip(first, pairwise(ends), strict=True)]

    whole = answers(list(range(40)))
    for i in range(0, 40, 5):
        for alone, among in zip(answers([i])[0], whole[i], strict=True):
            assert torch.equal(alone, among)


def test_products_in_tiles_where_rows_depend_on_their_number() -> None:
    x = torch.randn(1, 3 * FIXED_TILE, 8)
    rows = []

    def product(part: torch.Tensor) -> torch.Tensor:
        rows.append(len(part))
        return part * 2

    found = packed_engine._in_tiles(product, RowTiles(FIXED_TILE, FIXED_TILE), x)
    assert torch.equal(found, x * 2)
    assert rows == [FIXED_TILE] * 3


def test_a_soft_cap_is_a_tangent() -> None:
    x = torch.cat([torch.linspace(-200, 200, 999), torch.tensor([-1e5, 1e5])])
    torch.testing.assert_close(soft_capped(x.clone(), 30.0), 30 * torch.tanh(x / 30), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
        ("phi", {}),
    ],
    ids=["a rope that depends on the batch", "a bias of the head"],
)
def test_what_packed_prompts_would_change_is_not_packed(
    family: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "phi", {})
    model = tiny(family, **changes)
    before = model.config._attn_implementation
    assert packed_or_none(model) is None
    assert model.config._attn_implementation == before


def test_a_model_that_differs_from_its_own_pass_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose layers carry a state from row to row."""
    model = tiny("llama")
    shift = model.model.layers[0].mlp.forward
    monkeypatch.setattr(model.model.layers[0].mlp, "forward", lambda x: shift(x).cumsum(1))
    assert packed_or_none(model) is None
    assert reference(model, [1, 2, 3]).isfinite().all()


def test_bfloat16_is_near_float32() -> None:
    prompts = some_prompts([30, 5])
    exact, near = packed(tiny("llama")), packed(tiny("llama").to(torch.bfloat16))
    token = np.array([3, 4])
    expected = exact.log_probs(exact.prefill(prompts, 0).states, np.array([0, 1]), token)
    found = near.log_probs(near.prefill(prompts, 0).states, np.array([0, 1]), token)
    np.testing.assert_allclose(found, expected, atol=0.5)
    assert near.model.model.layers[0].mlp.up_proj.weight is None  # packed, and not held twice


def test_a_model_that_is_not_packed_keeps_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_engine, "_equals_eager", lambda engine: False)
    model = tiny("llama").to(torch.bfloat16)
    expected = reference(model, [1, 2, 3])
    assert packed_or_none(model) is None
    assert torch.equal(reference(model, [1, 2, 3]), expected)


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text"])
def test_titles_and_texts_equal_those_one_by_one(family: str, tmp_path: Path) -> None:
    """Lists and five texts of all prompts at once are those of each prompt alone, and of the plain engine."""
    tokenizer = train_tokenizer()
    tiny(family, tokenizer.get_vocab_size()).save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = PromptEncoder(tokenizer, Manifest(), context_tokens=128)
    titles = [
        f"{a} {b}{c}" for a in ("Red", "Blue", "Soft") for b in ("printer", "oil") for c in ("", ", size M", " 2")
    ]
    catalogue = Catalogue.build([f"i{n}" for n in range(len(titles))], titles, encoder)
    prompts = [
        "Bought: Black ink cartridge\nBought:",
        "x",
        "Bought: Red printer\nSearched: oil\nBought:",
        "",
        "Bought:",
    ]
    engine = load_engine(tmp_path, dtype="float32")
    assert isinstance(engine, PackedEngine)
    plain = HuggingFaceEngine(tiny(family, tokenizer.get_vocab_size()))
    ours, theirs = (Recommender(one, encoder, catalogue) for one in (engine, plain))
    excluded = [["i1"], [], ["i0", "i2"], [], []]
    lists = ours.recommend(prompts, excluded, 5)
    assert lists == [ours.recommend([p], [e], 5)[0] for p, e in zip(prompts, excluded, strict=True)]
    for found, expected in zip(lists, theirs.recommend(prompts, excluded, 5), strict=True):
        assert [one.item_id for one in found] == [one.item_id for one in expected]
        np.testing.assert_allclose([o.score for o in found], [o.score for o in expected], atol=1e-3)
    sampler, by_one = Sampler(engine, encoder), Sampler(plain, encoder)
    options: dict[str, Any] = {"max_new_tokens": 9, "num_return_sequences": 5, "seed": 3}
    texts = sampler.sample(prompts, Sampling(top_k=20), **options)
    assert texts == [sampler.sample([prompt], Sampling(top_k=20), **options)[0] for prompt in prompts]
    assert texts == by_one.sample(prompts, Sampling(top_k=20), **options)


@pytest.mark.parametrize("rule", [(0.3, None, None), (0.3, 5, None), (0.3, 70, 2.0), (0.3, 64, None)], ids=str)
@pytest.mark.parametrize("length", [8, 64, 72, 200])
def test_causal_attention_in_blocks(
    rule: tuple[float, int | None, float | None], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 it is as near to float32 as torch's own; in blocks of prompts and of queries."""
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 4 * 64 * length * 2)
    heads = attention.Heads(4, 2, 16)
    torch.manual_seed(0)
    q, k, v = (torch.randn(5, length, n * 16).bfloat16() for n in (4, 2, 2))
    found = attention.attend_causally(q, k, v, heads, attention.AttentionRule(*rule))
    exact = attention.attend_causally(q.float(), k.float(), v.float(), heads, attention.AttentionRule(*rule))
    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0.02)
