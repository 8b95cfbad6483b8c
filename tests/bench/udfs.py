"""Contenders inside pandas UDFs; in a module that workers can import, so that each keeps its model between batches."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark.sql.functions import pandas_udf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lm.engine.sampling import Sampler


def label_with_pipeline(rows: DataFrame, path: str, batch: int, max_tokens: int) -> DataFrame:
    """What Hugging Face's documentation shows: a pandas UDF around `pipeline`, for text-classification."""

    @pandas_udf("string")
    def label(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        classify = pipeline("text-classification", path, "right")
        for texts in batches:
            found = classify(texts.tolist(), batch_size=batch, truncation=True, max_length=max_tokens)
            yield pd.Series([one["label"] for one in found])

    return rows.withColumn("label", label("prompt"))


def write_with_pipeline(rows: DataFrame, path: str, samples: int, tokens: int, top_k: int) -> DataFrame:
    """The same for text-generation."""

    @pandas_udf("array<string>")
    def texts(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        generate = pipeline("text-generation", path, "left")
        options = {"max_new_tokens": tokens, "num_return_sequences": samples, "do_sample": True, "top_k": top_k}
        for prompts in batches:
            found = generate(prompts.tolist(), batch_size=4, return_full_text=False, **options)
            yield pd.Series([[one["generated_text"] for one in of_prompt] for of_prompt in found])

    return rows.withColumn("texts", texts("prompt"))


def write_with_sampler(rows: DataFrame, path: str, samples: int, tokens: int, top_k: int) -> DataFrame:
    """The same texts by our own sampler."""

    @pandas_udf("array<string>")
    def texts(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        from lm.engine.sampling import Sampling

        sampler = _sampler(path)
        for prompts in batches:
            options = {"max_new_tokens": tokens, "num_return_sequences": samples}
            found = sampler.sample(prompts.tolist(), Sampling(top_k=top_k), **options)
            yield pd.Series([[one.text for one in of_prompt] for of_prompt in found])

    return rows.withColumn("texts", texts("prompt"))


@functools.cache
def pipeline(task: str, path: str, padding_side: str) -> Any:
    """A pipeline, once per worker; GPT-2 has no padding token of its own."""
    from transformers import pipeline as make
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    made = make(task, model=path, tokenizer=path, device="cpu")  # type: ignore[call-overload]
    made.tokenizer.pad_token = made.tokenizer.eos_token
    made.tokenizer.padding_side = padding_side
    return made


@functools.cache
def _sampler(path: str) -> Sampler:
    from lm.engine.sampling import Sampler

    return Sampler.load(path)
