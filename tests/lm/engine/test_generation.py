"""Texts begin with their prompts, keep the total length, and depend on seed and prompt alone."""

from __future__ import annotations

import pytest

from lm.engine.generation import DEFAULT_SAMPLING, generate
from lm.engine.sampling import Sampler
from tests.models import save_causal

PROMPTS = ["Hello, how are you?", "Customer history\nBought: Inkjet printer with scanner\n", "x", "", "顾客记录"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Sampler:
    return Sampler.load(save_causal(tmp_path_factory.mktemp("generation") / "m", spread=0.15), dtype="float32")


def test_five_texts_of_at_most_fifty_tokens_with_the_prompt(sampler: Sampler) -> None:
    texts = generate(sampler, PROMPTS, num_return_sequences=5, max_length=50)
    for prompt, of_prompt in zip(PROMPTS, texts, strict=True):
        assert len(set(of_prompt)) == 5
        room = 50 - max(len(sampler.encoder.encode(prompt)), 1)
        again = sampler.sample([prompt], DEFAULT_SAMPLING, num_return_sequences=5, max_new_tokens=room)[0]
        assert of_prompt == [prompt + sample.text for sample in again]
        assert max(len(sample.tokens) for sample in again) == room


def test_a_text_depends_on_its_prompt_and_the_seed_alone(sampler: Sampler) -> None:
    together = generate(sampler, PROMPTS, num_return_sequences=2)
    assert together == [generate(sampler, [prompt], num_return_sequences=2)[0] for prompt in PROMPTS]
    assert together != generate(sampler, PROMPTS, num_return_sequences=2, seed=1)


def test_a_prompt_without_room_gets_no_text(sampler: Sampler) -> None:
    length = len(sampler.encoder.encode(PROMPTS[1]))
    assert generate(sampler, PROMPTS[1:3], max_length=length)[0] == []
    assert len(generate(sampler, PROMPTS[1:2], max_length=length + 1)[0]) == 1


@pytest.mark.parametrize("max_length", [1, 257])
def test_a_length_out_of_range_is_named(sampler: Sampler, max_length: int) -> None:
    with pytest.raises(ValueError, match=f"max_length {max_length} must be from 2 to 256"):
        generate(sampler, ["x"], max_length=max_length)
