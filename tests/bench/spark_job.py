"""The whole Spark job, prompts table to Parquet of lists, GPT-2 124M, local[2]: ours and two others; and its overhead.

    pip install --editable ".[bench]"
    python -m tests.bench.spark_job [--data FOLDER] [--quick] [--json]

Ours writes the top 10 of 12,000 titles of each customer, and in a second run five texts of 24 tokens. The others write
five texts of 24 tokens: Hugging Face's documented `pipeline` in a pandas UDF, and distribatch on its Spark backend.
Every contender is given as many customers as it does in about the same time; each loads its model within the run.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from tests.bench import material, udfs
from tests.bench.measure import arguments, console, in_turn, report

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lm.recommend.recommender import Recommender

K, TOKENS, SAMPLES, NEW, TOP_K, TASKS = 10, 256, 5, 24, 50, 4


class Job:
    """A model, its catalogue and a prompts table in a folder."""

    def __init__(self, spark: SparkSession, folder: Path, data: Path | None, customers: int) -> None:
        from jobs.scoring import models
        from jobs.tasks import recommend
        from lm.recommend.catalogue import Catalogue
        from lm.text.prompt import PromptEncoder

        self.spark, self.folder, self.customers = spark, folder, customers
        self.path = material.save_causal(folder / "model", data)
        names = material.titles(data)
        encoder = PromptEncoder.load(self.path)
        Catalogue.build([f"{n:05d}" for n in range(len(names))], names, encoder).save(folder / "catalogue")
        self.texts = [material.prompt(encoder, TOKENS, names, n) for n in range(customers)]
        rows = pd.DataFrame({"user_id": [str(n) for n in range(customers)], "prompt": self.texts})
        rows["excluded"] = [[] for _ in range(customers)]
        schema = "user_id string, prompt string, excluded array<string>"
        spark.createDataFrame(rows, schema).write.parquet(f"{folder}/prompts")
        self.load = recommend.recommender_loader(models.Model(str(self.path), "bench"), f"{folder}/catalogue", None)

    def prompts(self, customers: int) -> DataFrame:
        """So many customers in as many tasks as a wave of the night would have."""
        rows = self.spark.read.parquet(f"{self.folder}/prompts")
        return rows.where(f"cast(user_id as int) < {customers}").repartition(TASKS)

    def write(self, rows: DataFrame, name: str) -> None:
        """Run a frame into Parquet."""
        rows.write.mode("overwrite").parquet(f"{self.folder}/{name}")

    def lists(self, customers: int) -> None:
        """Ours: the night's own function."""
        from jobs.tables import recommendations

        self.write(recommendations.score(self.prompts(customers), self.load, K), "lists")


def main() -> None:
    from jobs.spark.session import create_session

    options = arguments(__doc__ or "")
    customers, few = (8, 2) if options.quick else (64, 8)
    with tempfile.TemporaryDirectory() as folder:
        spark = create_session("bench", conf={"spark.master": "local[2]"})
        job = Job(spark, Path(folder), options.data, customers)
        contenders: dict[str, tuple[int, Callable[[], None]]] = {
            "ours, lists": (customers, lambda: job.lists(customers)),
            "ours, texts": (
                customers,
                lambda: job.write(
                    udfs.write_with_sampler(job.prompts(customers), str(job.path), SAMPLES, NEW, TOP_K), "texts"
                ),
            ),
            "Hugging Face pipeline, texts": (
                few,
                lambda: job.write(
                    udfs.write_with_pipeline(job.prompts(few), str(job.path), SAMPLES, NEW, TOP_K), "pipeline"
                ),
            ),
        }
        if importlib.util.find_spec("distribatch"):
            contenders["distribatch, texts"] = (
                few,
                lambda: job.write(with_distribatch(job.prompts(few), str(job.path)), "distribatch"),
            )
        else:
            console.print("[yellow]distribatch is not installed: left out (pip install '.[bench]')[/yellow]")
        seconds = in_turn({name: work for name, (_, work) in contenders.items()}, options.rounds)
        rates = {name: count / seconds[name] for name, (count, _) in contenders.items()}
        if "distribatch, texts" in rates:
            refused_rows(job)
        spark.stop()
    lists, peers = rates["ours, lists"], ("Hugging Face pipeline", "distribatch")
    figures: dict[str, Any] = {
        "vs_hf_pipeline": lists / rates["Hugging Face pipeline, texts"],
        "vs_distribatch": lists / rates["distribatch, texts"] if "distribatch, texts" in rates else None,
        "texts": {
            f"vs_{key}": rates["ours, texts"] / rates[f"{name}, texts"] if f"{name}, texts" in rates else None
            for name, key in zip(peers, ("hf_pipeline", "distribatch"), strict=True)
        },
        "customers_per_second": rates,
        "customers": {name: count for name, (count, _) in contenders.items()},
    }
    rows = {name: {"customers": str(contenders[name][0]), "customers/s": f"{rate:.3g}"} for name, rate in rates.items()}
    report("Prompts table to Parquet, local[2]", rows, figures, options.json)


def with_distribatch(rows: DataFrame, path: str) -> DataFrame:
    """One row for each text: distribatch returns one text a row."""
    import distribatch
    from pyspark.sql import functions as F

    job = distribatch.GenerateJob(
        model=distribatch.models.path(path),
        engine="transformers",
        prompt="{prompt}",
        sampling=distribatch.Sampling(temperature=1.0, max_tokens=NEW),
    )
    each = rows.withColumn("sample", F.explode(F.sequence(F.lit(1), F.lit(SAMPLES))))
    return job.run(each, backend="spark", output_col="text", batch_size=32)


def refused_rows(job: Job) -> None:
    """Say how many of distribatch's rows failed: they would make it look fast."""
    failed = job.spark.read.parquet(f"{job.folder}/distribatch").where("text_error is not null").count()
    if failed:
        raise RuntimeError(f"distribatch failed for {failed} rows: its figure would mean nothing")


def overhead(job: Job, rounds: int) -> dict[str, float]:
    """Seconds of the Spark job with its workers warm, and of the engine alone with as many threads as the job."""
    model: Recommender = job.load()
    model.recommend(job.texts[:2], [[]] * 2, K)
    job.lists(TASKS)  # starts the workers and loads their models
    contenders = {
        "spark": lambda: job.lists(job.customers),
        "alone": lambda: model.recommend(job.texts, [[]] * job.customers, K),
    }
    return in_turn(contenders, rounds)


def memory(job: Job, customers: int) -> dict[str, float]:
    """Bytes of two fresh workers that hold the model at the same time, in proportional set size (PSS).

    `held` is what loading and scoring added to both, `activations` the engine's buffers among that.
    """
    load, folder, schema = job.load, str(job.folder), "held long, activations long"

    def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import os

        import torch  # noqa: F401 - the libraries are not the model

        before = _pss()
        prompts = [text for batch in batches for text in batch.column("prompt").to_pylist()]
        model = load()
        model.recommend(prompts, [[]] * len(prompts), K)
        (Path(folder) / f"loaded-{os.getpid()}").touch()
        deadline = time.monotonic() + 120
        while len(list(Path(folder).glob("loaded-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        held = _pss() - before
        buffers = model.engine.buffers._flat.values()  # type: ignore[attr-defined]
        used = sum(tensor.numel() * tensor.element_size() for tensor in buffers)
        (Path(folder) / f"measured-{os.getpid()}").touch()
        while len(list(Path(folder).glob("measured-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        yield pa.RecordBatch.from_pydict({"held": [held], "activations": [used]})

    rows = job.prompts(customers).repartition(2).mapInArrow(measure, schema).collect()
    weights = sum(file.stat().st_size for file in job.path.glob("*.safetensors"))
    return {
        "held": float(sum(row["held"] for row in rows)),
        "activations": float(sum(row["activations"] for row in rows)),
        "weights": float(weights),
    }


def _pss() -> int:
    """Bytes of this process, shared pages counted by their share."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel tells no PSS")


if __name__ == "__main__":
    main()
