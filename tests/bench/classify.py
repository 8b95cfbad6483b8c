"""Sentiment of real reviews, GPT-2 124M head: ours against Hugging Face's pipeline, both in a pandas UDF, local[2].

    python -m tests.bench.classify [--data FOLDER] [--quick] [--json]

The pipeline takes 32 texts at a time, as its documentation shows. Both keep their model in the Python worker, and
a first small run that loads it is not counted.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from tests.bench import material, udfs
from tests.bench.clocked import prefill_flops
from tests.bench.measure import arguments, in_turn, matrix_ceiling, report

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BATCH, MAX_TOKENS, TASKS = 32, 256, 8


def main() -> None:
    from jobs.scoring import models
    from jobs.spark.session import create_session
    from jobs.tables import sentiments
    from jobs.tasks import sentiment
    from lm.text.prompt import PromptEncoder

    options = arguments(__doc__ or "")
    torch.manual_seed(0)
    count = 96 if options.quick else 512
    ceilings = {name: matrix_ceiling(getattr(torch, name)) for name in ("float32", "bfloat16")}
    with tempfile.TemporaryDirectory() as folder:
        path = material.save_classifier(Path(folder) / "model", options.data)
        spark = create_session("bench", conf={"spark.master": "local[2]", "spark.ui.enabled": "false"})
        texts = material.reviews(options.data, count)
        encoded = PromptEncoder.load(path).encode_reviews(texts, MAX_TOKENS)
        lengths = [len(ids) for ids, _ in encoded]
        # Through a file, so that no task starts from the driver's memory.
        reviews = spark.createDataFrame(pd.DataFrame({"prompt": texts, "category": ""})).repartition(TASKS)
        reviews.write.mode("overwrite").parquet(f"{folder}/reviews")
        reviews = spark.read.parquet(f"{folder}/reviews")
        load = sentiment.classifier_loader(models.Model(str(path), "bench"))
        contenders: dict[str, Callable[[DataFrame], DataFrame]] = {
            "ours": lambda rows: sentiments.score(rows, load, MAX_TOKENS),
            "Hugging Face pipeline": lambda rows: udfs.label_with_pipeline(rows, str(path), BATCH, MAX_TOKENS),
        }

        def run(name: str, rows: DataFrame) -> None:
            target = f"{folder}/{name.replace(' ', '_')}"
            contenders[name](rows).write.mode("overwrite").parquet(target)

        for name in contenders:
            run(name, reviews.limit(4).repartition(2))
        seconds = in_turn({name: functools.partial(run, name, reviews) for name in contenders}, options.rounds)
        rates = {name: count / spent for name, spent in seconds.items()}
        spark.stop()
    flops = sum(prefill_flops(length) for length in lengths)
    figures: dict[str, Any] = {
        "vs_hf_pipeline": rates["ours"] / rates["Hugging Face pipeline"],
        "reviews_per_second": rates,
        "reviews": count,
        "mean_tokens": sum(lengths) / count,
        "longest_tokens": max(lengths),
        "ceiling_fraction": flops / seconds["ours"] / max(ceilings.values()),
        "matrix_ceiling": ceilings,
    }
    rows = {name: {"reviews/s": f"{rate:.3g}"} for name, rate in rates.items()}
    rows["ours"]["of the ceiling"] = f"{figures['ceiling_fraction']:.0%}"
    report(
        f"Sentiment of {count} reviews of {figures['mean_tokens']:.0f} tokens on average", rows, figures, options.json
    )


if __name__ == "__main__":
    main()
