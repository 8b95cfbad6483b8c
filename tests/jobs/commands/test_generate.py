"""`regulars generate` on one prompt and on a table."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from rich.console import Console

from jobs.commands.generate import _generate, generate_table
from jobs.spark.errors import InputError, UsageError
from lm.engine.sampling import Sampler
from tests.jobs.test_cli import run
from tests.models import save_causal

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OPTIONS = partial(_generate, num_return_sequences=3, max_length=40, temperature=1.0, top_k=50, seed=7)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("generate") / "m", spread=0.15, stock=True)


def test_five_texts_of_a_prompt(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prompt = "Hello, how are you?"
    command = ["generate", "--prompt", prompt, "--num-return-sequences", "5", "--max-length", "50"]
    code, output = run(capfd, *command, "--model", str(model))
    assert code == 0
    assert all(f"{number}. {prompt}" in output for number in range(1, 6))
    assert "6. " + prompt not in output
    assert run(capfd, *command, "--model", str(model)) == (code, output)
    assert run(capfd, *command, "--model", str(model), "--seed", "1")[1] != output


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["--prompt", "--from"]),
        (["--prompt", "a", "--from", "b"], ["--prompt", "--from"]),
        (["--from", "b"], ["--to"]),
        (["--prompt", "a", "--model", "no/such/folder"], ["no/such/folder", "does not exist"]),
        (["--prompt", "a " * 300], ["--max-length"]),
        (["--prompt", "a", "--max-length", "257"], ["--max-length is 257", "256"]),
    ],
)
def test_a_wrong_option_is_named(
    model: Path, options: list[str], names: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = [] if "--model" in options else ["--model", str(model)]
    code, output = run(capfd, "generate", *options, *chosen)
    assert code == 2
    assert all(name in output for name in names)


def test_a_hub_id_without_network_asks_for_a_folder(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    code, output = run(capfd, "generate", "--prompt", "a", "--model", "gpt2")
    assert code == 2
    assert "--model: model gpt2 is no local directory and cannot be downloaded" in output
    assert "name a local directory" in output


def test_a_table_has_the_texts_of_each_prompt(spark: SparkSession, model: Path, tmp_path: Path) -> None:
    prompts = [f"Bought: {number}" for number in range(70)] + [None, "a " * 300]
    rows = pd.DataFrame({"id": range(len(prompts)), "prompt": prompts})
    (tmp_path / "in").mkdir()
    rows.to_parquet(tmp_path / "in/part.parquet")
    log = Console(file=io.StringIO())
    source, target = str(tmp_path / "in"), str(tmp_path / "out")
    generate_table(spark, source, target, str(model), 40, OPTIONS, log)
    found = pd.read_parquet(target).sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(found[["id", "prompt"]], rows)
    expected = OPTIONS(Sampler.load(model), prompts[:70])
    assert [list(texts) for texts in found.texts] == [*expected, [], []]
    with pytest.raises(UsageError, match="exists: name a new folder"):
        generate_table(spark, source, target, str(model), 40, OPTIONS, log)
    rows.rename(columns={"prompt": "text"}).to_parquet(tmp_path / "in/part.parquet")
    with pytest.raises(InputError, match="no text column named prompt: its columns are id, text"):
        generate_table(spark, source, f"{target}2", str(model), 40, OPTIONS, log)
    with pytest.raises(InputError, match="no folder of Parquet files"):
        generate_table(spark, f"{source}2", f"{target}2", str(model), 40, OPTIONS, log)
