"""`regulars generate`: continues a prompt, or every prompt of a table through Spark, by any causal language model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer
from rich.console import Console

from jobs.commands.options import console
from jobs.spark.errors import InputError, UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.spark.pandas_udfs import ColumnFunction
    from lm.engine.sampling import Sampler


def generate(
    prompt: Annotated[str | None, typer.Option(help="The text to continue.")] = None,
    num_return_sequences: Annotated[int, typer.Option(min=1, help="Texts for each prompt.")] = 1,
    max_length: Annotated[int, typer.Option(min=2, help="Most tokens of a text, with those of its prompt.")] = 50,
    model: Annotated[str, typer.Option(help="A model folder, or a hub id such as gpt2.")] = "gpt2",
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among so many likeliest tokens; 0: all.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other texts.")] = 0,
    table: Annotated[
        str | None, typer.Option("--from", metavar="TABLE", help="A Parquet folder with a column prompt.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="PATH", help="The new Parquet folder; adds a column texts.")
    ] = None,
) -> None:
    """Continue a prompt, or a table of prompts through Spark, by GPT-2 or any causal language model."""
    if (prompt is None) == (table is None) or (table is None) != (to is None):
        raise UsageError("give --prompt TEXT for one prompt, or --from TABLE and --to PATH for a table of prompts")
    options = functools.partial(
        _generate,
        num_return_sequences=num_return_sequences,
        max_length=max_length,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    if table is not None and to is not None:
        from jobs.spark.session import create_session

        generate_table(create_session("regulars generate"), table, to, model, max_length, options, console)
    elif prompt is not None:
        _print_texts(prompt, model, max_length, options)


def _print_texts(prompt: str, model: str, max_length: int, options: Callable[..., list[list[str]]]) -> None:
    from lm.checkpoint.checkpoint import CheckpointError, resolve
    from lm.engine.sampling import Sampler

    try:
        path = resolve(model)
    except CheckpointError as error:
        raise UsageError(f"--model: {error}") from None
    _check_length(path, max_length)
    (texts,) = options(Sampler.load(path), [prompt])
    if not texts:
        raise UsageError(f"the prompt has {max_length} tokens or more: give a larger --max-length")
    for number, text in enumerate(texts, 1):
        console.print(f"{number}. {text}", markup=False, highlight=False)


def generate_table(
    spark: SparkSession,
    table: str,
    to: str,
    model: str,
    max_length: int,
    options: Callable[..., list[list[str]]],
    console: Console,
) -> None:
    """Write the rows of a Parquet folder with a further column `texts` (array<string>), in any order.

    A null prompt, or one without room for a token, has an empty array. Raises InputError for a folder that is missing
    or has no text column `prompt`, UsageError for a folder `to` that exists, CheckpointError for the model.
    """
    from pyspark.errors import AnalysisException
    from pyspark.sql.types import StringType

    from jobs.scoring import models
    from jobs.spark import files, parquet
    from jobs.spark.job_progress import model_tasks, watched
    from jobs.spark.progress import Stages
    from lm.checkpoint.fingerprint import model_fingerprint

    path = models.resolve(model)
    _check_length(path, max_length)
    if files.exists(spark, to):
        raise UsageError(f"--to {to} exists: name a new folder")
    try:
        rows = spark.read.parquet(files.for_reading(table))
    except AnalysisException:
        raise InputError(f"--from {table} is no folder of Parquet files: correct the path") from None
    if "prompt" not in rows.columns or not isinstance(rows.schema["prompt"].dataType, StringType):
        raise InputError(f"--from {table} has no text column named prompt: its columns are {', '.join(rows.columns)}")
    if "texts" in rows.columns:
        raise InputError(f"--from {table} has a column texts already: rename it")
    found = models.shipped(spark, models.Model(str(path), model_fingerprint(path), dtype=models.resolved_dtype("auto")))
    total = rows.count()
    tasks = model_tasks(spark.sparkContext, total)
    texts = texts_of(functools.partial(_sampler, found.path, found.dtype), options)
    with Stages(console).counter("prompts") as progress:

        def report(finished: int) -> None:
            progress.update(total * finished // tasks, total)

        with watched(spark.sparkContext, f"generate {to}", f"continuing {total} prompts", tasks, report):
            parquet.write(spark, rows.repartition(tasks).withColumn("texts", texts("prompt")), to)
        progress.update(total, total)
    console.print(f"Wrote {total:,} rows with the column texts to {to}", markup=False, highlight=False)


def texts_of(load: Callable[[], Sampler], options: Callable[..., list[list[str]]]) -> ColumnFunction:
    """Return a pandas UDF from prompts to arrays of texts; `load` gives the model in the Python worker."""
    from jobs.spark.pandas_udfs import pandas_udf

    @pandas_udf("array<string>")
    def texts(prompts: pd.Series) -> pd.Series:
        given = prompts.dropna()
        found = pd.Series(options(load(), list(given)), index=given.index, dtype=object)
        return found.reindex(prompts.index).map(lambda of_row: of_row if isinstance(of_row, list) else [])

    return texts


def _generate(
    sampler: Sampler,
    prompts: list[str],
    *,
    num_return_sequences: int,
    max_length: int,
    temperature: float,
    top_k: int,
    seed: int,
) -> list[list[str]]:
    from lm.engine import generation
    from lm.engine.sampling import Sampling

    return generation.generate(
        sampler,
        prompts,
        num_return_sequences=num_return_sequences,
        max_length=max_length,
        sampling=Sampling(temperature=temperature, top_k=top_k),
        seed=seed,
    )


def _sampler(place: str, dtype: str) -> Sampler:
    from jobs.spark.task_device import task_device

    return _sampler_on(place, dtype, task_device())


@functools.lru_cache(maxsize=1)
def _sampler_on(place: str, dtype: str, device: str) -> Sampler:
    from jobs.spark.executor_files import local_folder
    from lm.engine.sampling import Sampler

    return Sampler.load(local_folder(place), dtype=dtype, device=device)


def _check_length(path: Path, max_length: int) -> None:
    """Raise UsageError where a text of `max_length` tokens does not fit into the model."""
    from lm.checkpoint.checkpoint import context_tokens

    positions = context_tokens(path)
    if max_length > positions:
        raise UsageError(f"--max-length is {max_length}, and the model has {positions} positions: give at most those")
