"""Commands without the store's lock keep what they read while a writing command starts, runs and ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from jobs.config.config import Config
from jobs.evaluation import leave_one_out, sentiment_figures
from jobs.store.lock import lock
from jobs.store.publish import recover
from jobs.store.store import Store
from jobs.training import train
from tests.jobs.spark.test_files import NO_SPARK

DAY = date(2026, 3, 1)


class Read(Exception):
    """Ends a command once it has read its inputs."""


def start_training(config: Config) -> None:
    train.train(NO_SPARK, config, DAY, ["recommend"], Console(quiet=True))


@pytest.mark.parametrize(
    ("module", "command"),
    [
        (train, start_training),
        (leave_one_out, lambda config: leave_one_out._read_split(NO_SPARK, config, DAY, Console(quiet=True))),
        (sentiment_figures, lambda config: sentiment_figures._read_reviews(NO_SPARK, config, Console(quiet=True), DAY)),
    ],
)
def test_a_night_leaves_the_inputs_of_a_running_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, command: Callable[[Config], object]
) -> None:
    store = Store(str(tmp_path / "store"))
    inputs = {table: {"path": table} for table in ("purchases", "items", "reviews")}
    models = {"recommend": str(tmp_path / "models/recommend")}
    config = Config.model_validate({"store": store.root, "timezone": "UTC", "inputs": inputs, "models": models})

    def read_inputs(_spark: object, _config: Config, _as_of: date, work: str, *_: object) -> None:
        rows = Path(work, "purchases", "part-00000.parquet")
        rows.parent.mkdir(parents=True)
        rows.write_text("rows")
        with lock(NO_SPARK, store, "night"):
            recover(NO_SPARK, store)
        assert rows.read_text() == "rows"
        raise Read

    monkeypatch.setattr(module, "read_inputs", read_inputs)
    with pytest.raises(Read):
        command(config)
    assert not [path for path in Path(store.root).rglob("*") if path.is_file() and path.name != "lock"]
