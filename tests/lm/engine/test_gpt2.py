"""lm.engine.gpt2 and its engine equal Hugging Face's GPT-2, and their results do not depend on the batch."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GPT2LMHeadModel,
)
from transformers.activations import ACT2FN

from lm.engine import device, gpt2, gpt2_engine, vocabulary_head
from lm.engine.batching import FIXED_TILE, RowTiles, choose_tiles, pack, round_up, rows_within_budget
from lm.engine.engine import load_engine
from lm.engine.gpt2_engine import GPT2Engine
from lm.engine.kv_tree import ROOT, KVTree
from tests.engines import SIZES, huggingface, our_gpt2, reference, some_prompts, token_runs
from tests.models import save_causal

pytestmark = pytest.mark.usefixtures("one_thread")


def all_logits(engine: GPT2Engine, states: torch.Tensor) -> torch.Tensor:
    return torch.cat([logits.clone() for _, logits in engine.logits(states)])


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{s['n_embd']}x{s['n_layer']}x{s['n_head']}")
def test_prefill_and_extend_equal_huggingface(sizes: dict[str, object]) -> None:
    model = huggingface(**sizes)
    engine = GPT2Engine(our_gpt2(model))
    prompts = some_prompts([41, 40, 33, 8, 7, 1])
    state = engine.prefill(prompts, slots=16)
    logits = all_logits(engine, state.states)
    for prompt, row in zip(prompts, logits, strict=True):
        torch.testing.assert_close(row, reference(model, prompt)[-1], atol=1e-5, rtol=1e-5)

    # A tree of answers: 0: a(b c), a-d; 2: one token; 5: two runs from the prompt. Slot 0 is a, 1 b, 2 c.
    hidden, last = state.extend(
        token_runs((0, ROOT, [5, 6, 7], True), (2, ROOT, [9], True), (5, ROOT, [1, 2], False), (5, ROOT, [3], True))
    )
    assert last.tolist() == [2, 0, 2, 0]
    paths = [(0, [5]), (0, [5, 6]), (0, [5, 6, 7]), (2, [9]), (5, [1]), (5, [1, 2]), (5, [3])]
    check_paths(model, engine, prompts, paths, hidden)
    hidden, last = state.extend(
        token_runs(
            (0, 0, [8], True), (0, 2, [9, 10], False), (0, 1, [11], False), (2, 0, [4, 4], True), (5, 0, [12], True)
        )
    )
    paths = [(0, [5, 8]), (0, [5, 6, 7, 9]), (0, [5, 6, 7, 9, 10]), (0, [5, 6, 11])]
    paths += [(2, [9, 4]), (2, [9, 4, 4]), (5, [3, 12])]
    check_paths(model, engine, prompts, paths, hidden)


def check_paths(
    model: GPT2LMHeadModel,
    engine: GPT2Engine,
    prompts: list[list[int]],
    paths: list[tuple[int, list[int]]],
    hidden: torch.Tensor,
) -> None:
    logits = all_logits(engine, hidden)
    assert len(logits) == len(paths)
    for (prompt, path), row in zip(paths, logits, strict=True):
        torch.testing.assert_close(row, reference(model, prompts[prompt] + path)[-1], atol=1e-5, rtol=1e-5)


def test_log_probs_are_those_of_the_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    model = huggingface()
    engine = GPT2Engine(our_gpt2(model))
    monkeypatch.setattr(
        vocabulary_head, "STATES_PER_TILE", 16
    )  # several tiles of states and several chunks of the vocabulary
    monkeypatch.setattr(engine.head, "_chunk", 50)
    prompts = some_prompts([5] * 40)
    state = engine.prefill(prompts, slots=0)
    row, token = np.array([0, 0, 3, 17, 39]), np.array([1, 200, 7, 9, 210])
    found = engine.log_probs(state.states, row, token)
    expected = [reference(model, prompts[r])[-1].log_softmax(0)[t].item() for r, t in zip(row, token, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_logits_of_a_slice_of_the_vocabulary() -> None:
    engine = GPT2Engine(our_gpt2(huggingface()))
    states = engine.prefill(some_prompts([5, 4]), slots=0).states
    whole = all_logits(engine, states)
    engine.head._chunk = 20
    ((start, part),) = engine.logits(states, 30, 50)
    assert start == 0
    torch.testing.assert_close(part, whole[:, 30:80])


def test_large_vocabularies_are_multiplied_by_fewer_states_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GPT2Engine(our_gpt2(huggingface()))
    states = engine.prefill(some_prompts([5, 4]), slots=0).states.repeat(50, 1)
    whole = all_logits(engine, states)
    monkeypatch.setattr(vocabulary_head, "MOST_LOGITS", 40 * engine.vocabulary)
    monkeypatch.setattr(vocabulary_head, "LOGITS_AT_ONCE", 1)
    parts = [logits.clone() for _, logits in engine.logits(states)]
    assert {len(part) for part in parts} == {32, 4}
    torch.testing.assert_close(torch.cat(parts), whole)


def test_logits_of_more_states_than_one_tile() -> None:
    engine = GPT2Engine(our_gpt2(huggingface()))
    states = engine.prefill(some_prompts([5, 4]), slots=0).states
    many = states.repeat(vocabulary_head.STATES_PER_TILE, 1)
    torch.testing.assert_close(
        all_logits(engine, many), all_logits(engine, states).repeat(vocabulary_head.STATES_PER_TILE, 1)
    )


@pytest.mark.parametrize(("threads", "tried", "most_logits"), [(1, 64, None), (2, 3, None), (1, 4, 5000)])
def test_rows_have_the_same_bits_in_any_company(
    threads: int, tried: int, most_logits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States, answers and logits of a prompt are the same alone, among 8 and among 65 prompts."""
    torch.set_num_threads(threads)
    if most_logits is not None:  # the tiles of a large vocabulary have fewer rows
        monkeypatch.setattr(vocabulary_head, "MOST_LOGITS", most_logits)
        monkeypatch.setattr(vocabulary_head, "LOGITS_AT_ONCE", most_logits)
    engine = GPT2Engine(our_gpt2(huggingface(n_embd=64, n_head=4)))
    prompts = some_prompts([int(n) for n in np.random.default_rng(1).integers(1, 70, 65)])

    def answers(batch: list[int]) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        batch = sorted(batch, key=lambda i: -len(prompts[i]))
        state = engine.prefill([prompts[i] for i in batch], slots=12)
        first = state.states.clone()
        runs = [(b, ROOT, [i, 2 * i, 3][: 1 + i % 3], True) for b, i in enumerate(batch)]
        _, last = state.extend(token_runs(*runs))
        runs = [(b, int(last[b]), [t, i], False) for b, i in enumerate(batch) for t in range(i % 4 + 1)]
        hidden, _ = state.extend(token_runs(*runs))
        logits = all_logits(engine, hidden)
        ends = np.cumsum([0] + [2 * (i % 4 + 1) for i in batch])
        return {i: (first[b], logits[s:e]) for b, (i, (s, e)) in enumerate(zip(batch, pairwise(ends), strict=True))}

    whole = answers(list(range(65)))
    for size in (1, 8):
        for start in range(0, tried, size):
            for i, (state, logits) in answers(list(range(start, start + size))).items():
                assert torch.equal(state, whole[i][0])
                assert torch.equal(logits, whole[i][1])


def test_fixed_tiles_where_rows_depend_on_their_number() -> None:
    def by_rows(x: torch.Tensor) -> torch.Tensor:
        return x.sum(1) * (1 + 1e-6 * len(x))

    assert choose_tiles([(by_rows, 8)], 512) == RowTiles(FIXED_TILE, FIXED_TILE)
    assert choose_tiles([(lambda x: x.sum(1), 8)], 512).tile == 512

    model = huggingface()
    engine = GPT2Engine(our_gpt2(model), RowTiles(FIXED_TILE, FIXED_TILE))
    prompts = some_prompts([50, 50, 50, 9])
    state = engine.prefill(prompts, slots=4)
    hidden, _ = state.extend(token_runs((1, ROOT, [5, 6], True)))
    check_paths(model, engine, prompts, [(1, [5]), (1, [5, 6])], hidden)


def test_bfloat16_is_near_float32(tmp_path: Path) -> None:
    path = save_causal(tmp_path / "m", spread=0.1)
    prompts = [[1, 2, 3, 4], [5]]
    exact, near = (load_engine(path, dtype=dtype) for dtype in ("float32", "bfloat16"))
    token = np.array([3, 4])
    expected = exact.log_probs(exact.prefill(prompts, 0).states, np.array([0, 1]), token)
    state = near.prefill(prompts, 4)
    assert state.states.dtype == torch.bfloat16
    np.testing.assert_allclose(near.log_probs(state.states, np.array([0, 1]), token), expected, atol=0.1)
    assert state.extend(token_runs((0, ROOT, [7, 8], True)))[0].shape == (2, 32)


def test_a_tree_reuses_slots_and_makes_more() -> None:
    tree = KVTree(2, 3)
    assert tree.slots == 32
    tree.place(token_runs((1, ROOT, [1] * 30, True)))
    assert tree.place(token_runs((1, 29, [1], False))).slot.tolist() == [30]
    assert tree.place(token_runs((1, 29, [2], False))).slot.tolist() == [30]  # not kept, so used again
    placement = tree.place(token_runs((1, 4, [1, 2, 3], True)))
    assert tree.slots == 64
    assert [np.flatnonzero(row).tolist() for row in placement.sees] == [
        [0, 1, 2, 3, 4, 30],
        [0, 1, 2, 3, 4, 30, 31],
        [0, 1, 2, 3, 4, 30, 31, 32],
    ]
    assert placement.depth.tolist() == [5, 6, 7]


def test_more_slots_than_reserved() -> None:
    model = huggingface()
    engine = GPT2Engine(our_gpt2(model))
    prompts = some_prompts([20, 20, 5])
    state = engine.prefill(prompts, slots=1)
    for step in range(40):
        parent = step - 1 if step else ROOT
        hidden, _ = state.extend(token_runs(*((p, parent, [step + p], True) for p in range(3))))
        if step % 13 == 0:
            check_paths(model, engine, prompts, [(p, [s + p for s in range(step + 1)]) for p in range(3)], hidden)
    with pytest.raises(ValueError, match="0 slots"):
        engine.prefill(prompts, slots=0).extend(token_runs((0, ROOT, [1], True)))


@pytest.mark.parametrize("name", sorted(gpt2.ACTIVATIONS))
def test_activations_are_huggingfaces(name: str) -> None:
    x = torch.cat([torch.linspace(-9, 9, 1001), torch.tensor([-1e4, -60.0, 60.0, 1e4])])
    expected = ACT2FN[name](x.double()).float()
    torch.testing.assert_close(gpt2.ACTIVATIONS[name](x.clone(), torch.empty_like(x)), expected, atol=1e-6, rtol=1e-6)


def test_devices_formats_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = device.choose_device("cpu")
    assert device.choose_dtype("float32", cpu) == torch.float32
    assert device.choose_dtype("bfloat16", cpu) == torch.bfloat16
    for amx, avx512 in product((True, False), repeat=2):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: avx512)
        assert device.choose_dtype("auto", cpu) == (torch.bfloat16 if amx or avx512 else torch.float32)
    with pytest.raises(ValueError, match="dtype float8"):
        device.choose_dtype("float8", cpu)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert device.use_threads() == torch.get_num_threads() == 2
    assert device.use_threads(1) == torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert device.use_threads() == 1  # as it was
    with pytest.raises(ValueError, match="threads 0"):
        device.use_threads(0)


def test_pack_bounds_tokens_and_sorts_by_length() -> None:
    lengths = [3, 100, 17, 8, 900, 1]
    batches = pack(lengths, budget=128)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or sum(round_up(lengths[i], 8) for i in batch) <= 128
    assert batches[0] == [4]  # a row over the budget is a batch of its own
    assert pack([], 10) == []
    assert rows_within_budget([16, 16, 9, 9], budget=48) == 3
    assert rows_within_budget([16, 16, 9, 9], budget=48, extra=10, budget_with_extra=55) == 2
    assert rows_within_budget([16] * 5, budget=99, extra=10, budget_with_extra=80) == 3


@pytest.mark.parametrize("activation", sorted(gpt2.ACTIVATIONS))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_the_hidden_layer_is_the_product_and_its_activation(
    activation: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = our_gpt2(huggingface(activation_function=activation).to(dtype))
    block = model.blocks[0]
    h = torch.randn(24, model.n_embd, generator=torch.Generator().manual_seed(0)).to(dtype)
    room = [torch.empty(24, model.inner, dtype=dtype) for _ in range(2)]
    with torch.inference_mode():
        found = gpt2.hidden_layer(model, block, h, *room).float()
        expected = ACT2FN[activation](h.float() @ block.c_fc_weight.float() + block.c_fc_bias.float())
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_packed_weights_compute_what_mapped_ones_do(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 passes of few rows use copies in oneDNN's order; without a pass of answers there is no copy."""
    engine = GPT2Engine(our_gpt2(huggingface(activation_function=activation).to(torch.bfloat16)))
    runs, found = token_runs((0, ROOT, [5, 6], True), (1, ROOT, [9], False)), []
    for most in (0, 1024):
        monkeypatch.setattr(gpt2_engine, "MOST_PACKED_ROWS", most)
        state = engine.prefill(some_prompts([9, 5]), slots=4)
        assert engine._packed is None
        found.append(state.extend(runs)[0].clone())
    assert engine._packed is not None or not gpt2.fuses_bfloat16()
    torch.testing.assert_close(found[0], found[1], atol=0.05, rtol=0.05)
