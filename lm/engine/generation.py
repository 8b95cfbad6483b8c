"""Continues prompts up to a total length: a few texts for each prompt, as Hugging Face's text-generation pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from lm.engine.sampling import Sampler, Sampling, seed_from_prompt

#: What Hugging Face's pipeline samples with: temperature 1 among the 50 likeliest tokens.
DEFAULT_SAMPLING = Sampling(top_k=50)


def generate(
    sampler: Sampler,
    prompts: Sequence[str],
    *,
    num_return_sequences: int = 1,
    max_length: int = 50,
    sampling: Sampling = DEFAULT_SAMPLING,
    seed: int = 0,
) -> list[list[str]]:
    """Return `num_return_sequences` texts for each prompt; each begins with the prompt.

    A text has at most `max_length` tokens, with those of its prompt. A prompt without room for one more token gets an
    empty list. Texts depend on the seed and their own prompt alone. Raises ValueError for values out of range.
    """
    if not 2 <= max_length <= sampler.engine.context:
        raise ValueError(f"max_length {max_length} must be from 2 to {sampler.engine.context}, the model's positions")
    encoded = [sampler.encoder.newest_tokens(ids, max_length) for ids in sampler.encoder.encode_many(prompts)]
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(number)
    texts: list[list[str]] = [[] for _ in prompts]
    for length, numbers in by_length.items():
        if length == max_length:
            continue
        samples = sampler.sample(
            [encoded[number] for number in numbers],
            sampling,
            max_new_tokens=max_length - length,
            num_return_sequences=num_return_sequences,
            seed=seed,
            row_seeds=[seed_from_prompt(prompts[number]) for number in numbers],
        )
        for number, of_prompt in zip(numbers, samples, strict=True):
            texts[number] = [prompts[number] + sample.text for sample in of_prompt]
    return texts
