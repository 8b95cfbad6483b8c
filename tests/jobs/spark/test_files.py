"""One set of verbs on this machine's files and on a Hadoop file system (viewfs stands in for HDFS: no server)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from jobs.spark import files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Local paths never touch the session.
NO_SPARK = cast("SparkSession", None)

_mounts = itertools.count()


def mount(spark: SparkSession, folder: Path) -> str:
    """A URI on another file system than this machine's, as far as the code can tell."""
    name = f"shop{next(_mounts)}-{os.getpid()}"
    configuration = spark._jsc.hadoopConfiguration()
    configuration.set("fs.AbstractFileSystem.file.impl", "org.apache.hadoop.fs.local.RawLocalFs")
    configuration.set(f"fs.viewfs.mounttable.{name}.link./store", f"file://{folder}")
    return f"viewfs://{name}/store"


@pytest.fixture(params=["local", "file", pytest.param("viewfs", marks=pytest.mark.spark)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "viewfs":
        return mount(request.getfixturevalue("spark"), tmp_path)
    return str(tmp_path) if request.param == "local" else f"file://{tmp_path}"


@pytest.fixture
def session(request: pytest.FixtureRequest, root: str) -> SparkSession:
    return NO_SPARK if files.local(root) else request.getfixturevalue("spark")


def test_write_read_list_size_delete(session: SparkSession, root: str, tmp_path: Path) -> None:
    path = f"{root}/notes/one.json"
    assert not files.exists(session, path)
    assert files.listdir(session, f"{root}/notes") == []
    files.write_text(session, path, "früh")
    files.write_text(session, path, "spät 顾客")
    files.create_text(session, f"{root}/notes/a", "")
    assert files.read_text(session, path) == "spät 顾客"
    assert files.listdir(session, f"{root}/notes") == ["a", "one.json"]  # and no scratch file left
    assert files.file_size(session, path) == len("spät 顾客".encode())
    assert files.disk_usage(session, path) == (1, len("spät 顾客".encode()))
    assert files.disk_usage(session, root) == (2, len("spät 顾客".encode()))
    assert files.disk_usage(session, f"{root}/nothing") == (0, 0)
    files.touch(session, path, 1_000_000.0)
    assert files.modified_at(session, path) == 1_000_000.0
    files.delete(session, f"{root}/notes")
    files.delete(session, f"{root}/notes")
    assert not (tmp_path / "notes").exists()


def test_rename_makes_the_parent_and_never_replaces(session: SparkSession, root: str, tmp_path: Path) -> None:
    files.write_text(session, f"{root}/a/file", "1")
    files.rename(session, f"{root}/a", f"{root}/deep/er/b")
    assert (tmp_path / "deep/er/b/file").read_text() == "1"
    files.mkdirs(session, f"{root}/empty")
    with pytest.raises(FileExistsError, match=r"/deep/er/b cannot become .*/empty: that exists already"):
        files.rename(session, f"{root}/deep/er/b", f"{root}/empty")
    with pytest.raises(FileNotFoundError):
        files.rename(session, f"{root}/nothing", f"{root}/c")
    assert (tmp_path / "deep/er/b/file").exists()


def test_create_is_exclusive_and_reading_nothing_says_so(session: SparkSession, root: str) -> None:
    files.create_text(session, f"{root}/lock", "mine")
    with pytest.raises(FileExistsError):
        files.create_text(session, f"{root}/lock", "yours")
    assert files.read_text(session, f"{root}/lock") == "mine"
    for read in (files.read_text, files.file_size, files.modified_at):
        with pytest.raises(FileNotFoundError, match="nothing"):
            cast("Callable[[SparkSession, str], object]", read)(session, f"{root}/nothing")


def test_paths_are_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.local("store") == tmp_path / "store"
    assert files.local("file:///a%20b/c d") == Path("/a%20b/c d")
    assert files.local("hdfs://shop/a") is None
    assert files.uri("/a b") == "file:///a b"
    assert files.uri("s3a://bucket/x") == "s3a://bucket/x"
    assert files.for_reading("/a/[1] {x}*") == r"file:///a/\[1\] \{x\}\*"


def test_spark_reads_a_folder_whose_name_looks_like_a_glob(spark: SparkSession, tmp_path: Path) -> None:
    folder = str(tmp_path / "shop [old] {1}")
    spark.range(3).write.parquet(files.uri(folder))
    assert spark.read.parquet(files.for_reading(folder)).count() == 3


def test_digest_and_sync(session: SparkSession, root: str) -> None:
    files.write_text(session, f"{root}/f", "abc")
    assert files.sha256(session, f"{root}/f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileNotFoundError, match="nothing"):
        files.sha256(session, f"{root}/nothing")
    files.sync(root)


def test_copy_walk_and_replace(session: SparkSession, root: str, tmp_path: Path) -> None:
    source = tmp_path / "outside"
    source.write_bytes(b"new")
    files.write_text(session, f"{root}/deep/er/one", "old")
    files.copy_there(session, source, f"{root}/deep/two")
    walked = files.walk(session, f"{root}/deep")
    assert [path.rpartition("/deep/")[2] for path in walked] == ["er/one", "two"]
    assert files.walk(session, f"{root}/nothing") == []
    files.replace(session, f"{root}/deep/two", f"{root}/deep/er/one")
    with files.local_copy(session, f"{root}/deep/er/one") as copy:
        assert copy.read_bytes() == b"new"
    assert files.listdir(session, f"{root}/deep") == ["er"]
    files.create_text(session, f"{root}/secret", "s", private=True)
    (secret,) = tmp_path.rglob("secret")
    assert secret.stat().st_mode & 0o777 == 0o600
