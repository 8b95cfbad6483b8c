"""The driver's folders for the executors, and models that lie where only Hadoop reads."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from jobs.scoring import models
from jobs.spark import executor_files
from jobs.spark.errors import ConfigurationError
from lm.checkpoint.fingerprint import model_fingerprint
from tests.jobs.spark.test_files import mount
from tests.models import save_causal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import SparkSession


def test_what_is_remote() -> None:
    assert all(map(executor_files.is_remote, ("hdfs://nn/models", "s3a://b/m", "viewfs://c/m")))
    assert not any(map(executor_files.is_remote, ("/models", "models/shop", "file:///models", "gpt2", "hf://org/name")))


def test_in_one_process_a_folder_stays_where_it_is(spark: SparkSession, tmp_path: Path) -> None:
    place = executor_files.send_folder(spark, tmp_path, "anything")
    assert executor_files.local_folder(place) == tmp_path


def test_on_a_cluster_a_folders_files_are_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_files.SparkFiles, "getRootDirectory", lambda: str(tmp_path / "root"))
    (tmp_path / "model/checkpoints").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "checkpoints/half.pt"):
        (tmp_path / "model" / name).write_text(name)
    added: list[str] = []
    context = SimpleNamespace(master="spark://host:7077", addArchive=added.append)
    session = SimpleNamespace(sparkContext=context)
    places = [executor_files.send_folder(session, tmp_path / "model", "model-1") for _ in range(2)]
    (archive,) = added
    assert zipfile.ZipFile(archive).namelist() == ["config.json", "model.safetensors"]
    # Spark unpacks an archive into a folder of its name, in the driver and in each executor.
    assert [executor_files.local_folder(place) for place in places] == [tmp_path / "root/model-1.zip"] * 2


def test_a_runs_folder_is_deleted_where_it_was_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_files.SparkFiles, "getRootDirectory", lambda: str(tmp_path / "root"))
    folder = executor_files.session_folder("catalogue-1")
    folder.mkdir()
    (folder / "titles.json").write_text("[]")
    unpacked: list[str] = []

    class Executors:
        master, defaultParallelism = "spark://host:7077", 2

        def addArchive(self, path: str) -> None:
            unpacked.append(str(tmp_path / "root" / Path(path).name))
            zipfile.ZipFile(path).extractall(unpacked[0])

        def parallelize(self, rows: Sequence[int], tasks: int) -> SimpleNamespace:
            return SimpleNamespace(foreach=lambda work: [work(row) for row in rows])

    session = SimpleNamespace(sparkContext=Executors())
    place = executor_files.send_folder(session, folder, folder.name)
    assert (executor_files.local_folder(place) / "titles.json").exists()
    executor_files.remove_folder(session, "catalogue-1")
    assert not folder.exists()
    assert not Path(unpacked[0]).exists()
    executor_files.remove_folder(session, "catalogue-2")  # a run that sent nothing


@pytest.mark.slow
def test_a_model_on_a_hadoop_file_system_is_fetched_once_until_it_changes(spark: SparkSession, tmp_path: Path) -> None:
    save_causal(tmp_path / "model")
    (tmp_path / "model/checkpoints").mkdir()  # of a training: not part of the model
    uri = mount(spark, tmp_path) + "/model"
    found = models.find("recommend", uri, "regulars.yaml")
    assert found.fingerprint == model_fingerprint(tmp_path / "model")
    assert models.find("recommend", uri, "regulars.yaml").path == found.path
    config = tmp_path / "model/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_epsilon": 1e-6}))
    assert models.find("recommend", uri, "regulars.yaml").fingerprint != found.fingerprint


def test_a_model_that_is_not_there_says_so(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"models\.recommend: model viewfs://.*/store/x cannot be read"):
        models.find("recommend", mount(spark, tmp_path) + "/x", "regulars.yaml")
