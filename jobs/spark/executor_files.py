"""Copies folders between driver and executors: models, and the night's catalogue.

In local mode, workers open the driver's folder directly. On a cluster, Spark copies an archive of the folder to each
executor once and unpacks it there, so no shared mount is needed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from functools import partial
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from jobs.spark import files

_ARCHIVE = "archive:"
_REMOTE = re.compile(r"(?!file:|hf:)[A-Za-z][A-Za-z0-9+.-]+://")


def send_folder(spark: SparkSession, folder: Path, name: str) -> str:
    """Make a folder's files available on every executor; `local_folder` turns the returned text into a path.

    `name` must be unique to the folder's content. Subfolders, such as a training's checkpoints, are not sent.
    """
    context = spark.sparkContext
    if str(context.master) == "local" or str(context.master).startswith("local["):
        return str(folder)
    archive = session_folder(f"sent/{name}.zip")
    if not archive.exists():
        # Without compression, because model weights do not compress.
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, strict_timestamps=False) as packed:
            for file in sorted(folder.iterdir()):
                if file.is_file():
                    packed.write(file, file.name)
        context.addArchive(str(archive))
    return _ARCHIVE + archive.name


def remove_folder(spark: SparkSession, name: str) -> None:
    """Delete the folder `session_folder(name)` of one run, here and where executors unpacked it.

    The driver keeps the archive: Spark gives all archives of a session to each new executor. An executor that gets
    none of these tasks keeps its copy until the session ends.
    """
    shutil.rmtree(session_folder(name), ignore_errors=True)
    archive = session_folder(f"sent/{name}.zip")
    if archive.exists():
        tasks = 2 * spark.sparkContext.defaultParallelism
        spark.sparkContext.parallelize(range(tasks), tasks).foreach(partial(_delete_unpacked, archive.name))


def _delete_unpacked(archive: str, _: int) -> None:
    shutil.rmtree(SparkFiles.get(archive), ignore_errors=True)


def local_folder(place: str) -> Path:
    """Return this process's local path of a folder that `send_folder` sent. Works in driver and workers."""
    if not place.startswith(_ARCHIVE):
        return Path(place)
    return Path(SparkFiles.get(place.removeprefix(_ARCHIVE)))


def is_remote(path: str) -> bool:
    """Return whether only Hadoop can open the path: a URI other than `file:` and `hf:`."""
    return bool(_REMOTE.match(path))


def fetch_folder(spark: SparkSession, uri: str) -> Path:
    """Copy the files of a Hadoop folder (such as `hdfs:`) to the driver, once a session, and return the copy.

    Raises FileNotFoundError for a missing or empty folder, OSError for other failures.
    """
    names = [name for name in files.listdir(spark, uri) if files.is_file(spark, f"{uri}/{name}")]
    if not names:
        raise FileNotFoundError(f"{uri}: no such folder, or an empty one")
    paths = [f"{uri}/{name}" for name in names]
    sizes = files.each(lambda path: files.file_size(spark, path), paths)
    times = files.each(lambda path: files.modified_at(spark, path), paths)
    state = list(zip(names, sizes, times, strict=True))
    version = hashlib.sha256(repr((uri, state)).encode()).hexdigest()[:16]
    copy = session_folder(f"fetched/{version}")
    if not copy.exists():
        writing = copy.with_suffix(".writing")
        files.copy_here(spark, paths, writing)
        writing.rename(copy)
    return copy


def session_folder(name: str) -> Path:
    """Return the path of a new folder on the driver's machine. Spark deletes it when the session ends."""
    folder = Path(SparkFiles.getRootDirectory()) / "regulars" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder
