"""Sampling follows Hugging Face's distributions, stops where it must, and does not depend on the batch."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2LMHeadModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lm.engine.sampling import Sample, Sampler, Sampling, keep_top_p, next_tokens, penalise
from tests.models import save_causal

PROMPTS = [
    "Customer history\nBought: Inkjet printer with scanner\n",
    "Customer history\nSearched: ink for my printer\nBought: Black ink cartridge\nBought:",
    "x",
    "",
    "顾客记录\n购买：",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("sampling") / "m", spread=0.15)


@pytest.fixture
def sampler(path: Path) -> Sampler:
    return Sampler.load(path, dtype="float32")


def huggingface_probabilities(logits: torch.Tensor, rule: Sampling) -> np.ndarray:
    ids = torch.zeros(1, 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(rule.temperature)(ids, logits[None])
    if rule.top_k:
        scores = TopKLogitsWarper(rule.top_k)(ids, scores)
    if rule.top_p < 1:
        scores = TopPLogitsWarper(rule.top_p)(ids, scores)
    return scores.double().softmax(1)[0].numpy()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 2000),
    st.floats(0.1, 3.0),
    st.sampled_from([0, 1, 5, 40, 70, 5000]),
    st.sampled_from([1.0, 0.99, 0.9, 0.3]),
    st.integers(0, 1000),
)
def test_draws_follow_huggingfaces_distribution(
    vocabulary: int, temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    """An even grid of uniform numbers must land on each token in proportion to its probability."""
    rule = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)) * 2
    expected = huggingface_probabilities(logits, rule)
    grid = (np.arange(400) + 0.5) / 400
    drawn = next_tokens(logits.repeat(400, 1), [rule] * 400, grid)
    assert (expected[drawn] > 0).all()
    found = np.bincount(drawn, minlength=vocabulary) / 400
    assert np.abs(found - expected).max() <= 1.5 / 400


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.floats(0.01, 0.999), st.sampled_from([0.0, 0.01, 1.0, 6.0]), st.integers(0, 1000))
def test_top_p_keeps_the_fewest_tokens_with_that_share(vocabulary: int, top_p: float, spread: float, seed: int) -> None:
    """Flat and sharp distributions, against a plain sort; of equal tokens those with the lower id stay."""
    logits = np.random.default_rng(seed).normal(size=vocabulary).round(1) * spread
    p = torch.tensor(logits).softmax(0).float().numpy()
    order = np.argsort(-p, kind="stable")
    share = p[order].cumsum(dtype=np.float64)
    expected = np.zeros_like(p)
    wanted = top_p * share[-1]
    assume(np.abs(share - wanted).min() > 1e-9)  # a share met exactly is decided by rounding
    kept = order[share - p[order] < wanted]
    expected[kept] = p[kept]
    keep_top_p(p, top_p)
    assert (p == expected).all()


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.75, 2), (0.76, 3), (1.0, 3)])
def test_a_share_that_is_met_exactly_is_enough(top_p: float, kept: int) -> None:
    p = np.array([0.25, 0.5, 0.25], dtype=np.float32)
    keep_top_p(p, top_p)
    assert np.count_nonzero(p) == kept
    assert p[1] == 0.5


def test_extreme_numbers_never_draw_an_impossible_token() -> None:
    logits = torch.full((4, 300), -torch.inf)
    logits[:, [3, 150, 299]] = torch.tensor([1.0, 2.0, 0.5])
    uniform = np.array([0.0, 0.5, np.nextafter(1.0, 0.0), 0.999])
    for rule in (Sampling(), Sampling(top_k=2), Sampling(top_p=0.5), Sampling(temperature=0)):
        assert set(next_tokens(logits, [rule] * 4, uniform).tolist()) <= {3, 150, 299}
    assert next_tokens(logits, [Sampling(temperature=0)] * 4, uniform).tolist() == [150] * 4
    logits[:, 299] = 2.0  # a tie
    assert next_tokens(logits, [Sampling(temperature=0)] * 4, uniform).tolist() == [150] * 4


def test_repetition_penalty_is_huggingfaces() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    seen = [3, 7, 7, 49, 120]  # an item token beyond the texts' vocabulary is no text
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[3, 7, 7, 49]]), logits[None].clone())[0]
    penalise(logits, seen, 1.7)
    torch.testing.assert_close(logits, expected)


def test_greedy_text_is_huggingfaces(path: Path, sampler: Sampler) -> None:
    model = GPT2LMHeadModel.from_pretrained(path).eval()
    encoder = sampler.encoder
    for penalty in (1.0, 1.4):
        rule = Sampling(temperature=0, repetition_penalty=penalty)
        found = sampler.sample(PROMPTS, rule, max_new_tokens=20)
        for prompt, (one,) in zip(PROMPTS, found, strict=True):
            ids = torch.tensor([encoder.encode(prompt) or [encoder.end_token]])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=20,
                repetition_penalty=penalty,
                eos_token_id=encoder.end_token,
                pad_token_id=encoder.end_token,
            )[0, ids.shape[1] :].tolist()
            if encoder.end_token in out:
                out = out[: out.index(encoder.end_token)]
            assert one.tokens == out
            assert one.text == encoder.tokenizer.decode(out)


def test_texts_are_the_same_in_any_company(path: Path, sampler: Sampler) -> None:
    """Batches of 1, 8 and 64, shuffled, under a tight budget of tokens, with rules of their own."""
    rng = np.random.default_rng(0)
    words = ["printer", "ink", "soft", "hair", "Bought:", "size M\n"]
    prompts = [" ".join(rng.choice(words, rng.integers(1, 30))) + f" {n}" for n in range(64)]
    kinds = [Sampling(), Sampling(top_k=9), Sampling(top_p=0.8, temperature=1.5), Sampling(repetition_penalty=1.5)]
    rules = [kinds[n % 4] for n in range(64)]
    options = {"max_new_tokens": 8, "num_return_sequences": 3}
    whole = sampler.sample(prompts, rules, **options)
    assert len({one.text for row in whole for one in row}) > 150  # samples differ from each other
    for n in range(0, 64, 5):
        assert sampler.sample([prompts[n]], rules[n], **options) == [whole[n]]
    order = rng.permutation(64).tolist()
    tight = Sampler(sampler.engine, sampler.encoder, batch_tokens=200)
    shuffled = tight.sample([prompts[n] for n in order], [rules[n] for n in order], **options)
    assert shuffled == [whole[n] for n in order]


def test_seeds(sampler: Sampler) -> None:
    first = sampler.sample(PROMPTS, max_new_tokens=8)
    assert sampler.sample(PROMPTS, max_new_tokens=8) == first
    assert sampler.sample(PROMPTS, max_new_tokens=8, seed=1) != first
    one, two = sampler.sample(["x", "x"], max_new_tokens=8, row_seeds=[1, 2])
    assert one != two
    assert sampler.sample(["x"], max_new_tokens=8, row_seeds=[2]) == [two]
    more = sampler.sample(["x"], max_new_tokens=8, row_seeds=[2], num_return_sequences=3)
    assert more[0][0] == two[0]  # further samples change nothing of the first


def test_stop_sequences_end_the_text_before_them(sampler: Sampler) -> None:
    free = sampler.sample(PROMPTS, max_new_tokens=30, num_return_sequences=4)
    stops = ["e", "r\n", "不"]
    cut = sampler.sample(PROMPTS, max_new_tokens=30, num_return_sequences=4, stop_sequences=stops)
    ends = set()
    for whole, short in zip(chain.from_iterable(free), chain.from_iterable(cut), strict=True):
        found = [whole.text.find(stop) for stop in stops if stop in whole.text]
        assert short.text == (whole.text[: min(found)] if found else whole.text)
        assert (short.ended == "stop_sequence") == bool(found)
        assert short.tokens == whole.tokens[: len(short.tokens)]
        ends.add(short.ended)
    assert "stop_sequence" in ends


def test_end_token_ends_the_text(sampler: Sampler) -> None:
    head = sampler.engine.model.head
    sampler.engine.model.ln_f_weight.zero_()
    sampler.engine.model.ln_f_bias.copy_(head[sampler.encoder.end_token] * 50)
    assert sampler.sample(["x"], max_new_tokens=5) == [[Sample("", [], "end_token")]]


def test_item_tokens_are_not_text(tmp_path: Path) -> None:
    path = save_causal(tmp_path / "m", item_ids=[f"i{n}" for n in range(300)])
    sampler = Sampler.load(path, dtype="float32")
    vocabulary = sampler.encoder.tokenizer.get_vocab_size()
    found = sampler.sample(["<|item:i3|><|item:i5|>"], Sampling(temperature=3.0), max_new_tokens=60)
    assert len(found[0][0].tokens) > 5
    assert max(found[0][0].tokens) < vocabulary


def test_edges_and_mistakes(sampler: Sampler) -> None:
    assert sampler.sample([]) == []
    context = sampler.engine.context
    long = sampler.sample(["Bought: Red cotton T-shirt\n" * 100], max_new_tokens=context - 1)
    assert len(long[0]) == 1  # one token of the prompt was left
    with pytest.raises(ValueError, match="max_new_tokens"):
        sampler.sample(["x"], max_new_tokens=context)
    with pytest.raises(ValueError, match="num_return_sequences 0"):
        sampler.sample(["x"], num_return_sequences=0)
    with pytest.raises(ValueError, match="2 row_seeds"):
        sampler.sample(["x"], row_seeds=[1, 2])
    with pytest.raises(ValueError, match="stop sequence is empty"):
        sampler.sample(["x"], stop_sequences=[""])
    for wrong in ({"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"repetition_penalty": 0.0}):
        with pytest.raises(ValueError, match="use temperature"):
            Sampling(**wrong)


def test_prompts_as_token_ids_and_a_constraint_for_each(sampler: Sampler):
    ids = sampler.encoder.encode_many(PROMPTS[:3])
    rule = {"max_new_tokens": 6, "num_return_sequences": 3, "row_seeds": [1, 2, 3]}
    assert sampler.sample(ids, **rule) == sampler.sample(PROMPTS[:3], **rule)

    def own_tokens_in_turn(logits: torch.Tensor, prompt, tokens) -> None:
        """Leaves one token: the prompt's number, then one more with every token that was written."""
        for row, (number, written) in enumerate(zip(prompt, tokens, strict=True)):
            only = logits[row, 100 + 10 * number + len(written)].item()
            logits[row] = -torch.inf
            logits[row, 100 + 10 * number + len(written)] = only

    found = sampler.sample(ids, **rule, constrain=own_tokens_in_turn)
    assert [[sample.tokens for sample in samples] for samples in found] == [
        [[100 + 10 * number + step for step in range(6)]] * 3 for number in range(3)
    ]
    with pytest.raises(ValueError, match="use one kind"):
        sampler.sample([PROMPTS[0], ids[0]])
