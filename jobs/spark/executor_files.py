"""The driver's folders on the executors, and a cluster's folders on the driver: models, and the night's catalogue.

Where the executors run in the driver's own process, a folder is opened where it lies. On a cluster it is sent along as
an archive, which Spark copies to every executor once and unpacks there: nothing has to be mounted anywhere.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from jobs.spark import files

_ARCHIVE = "archive:"
_REMOTE = re.compile(r"(?!file:|hf:)[A-Za-z][A-Za-z0-9+.-]+://")


def send_folder(spark: SparkSession, folder: Path, name: str) -> str:
    """The place under which driver and workers `opened` find the files of a folder; `name` is unique to its content.

    Only the folder's own files are sent, not folders in it (a training's checkpoints, for one).
    """
    context = spark.sparkContext
    if str(context.master) == "local" or str(context.master).startswith("local["):
        return str(folder)
    archive = session_folder(f"sent/{name}.zip")
    if not archive.exists():
        # Uncompressed: weights do not shrink.
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, strict_timestamps=False) as packed:
            for file in sorted(folder.iterdir()):
                if file.is_file():
                    packed.write(file, file.name)
        context.addArchive(str(archive))
    return _ARCHIVE + archive.name


def local_folder(place: str) -> Path:
    """The local folder of a place that `sent` returned, in the driver or in a worker."""
    if not place.startswith(_ARCHIVE):
        return Path(place)
    return Path(SparkFiles.get(place.removeprefix(_ARCHIVE)))


def is_remote(path: str) -> bool:
    """Whether a path is a URI of a file system that only Hadoop opens."""
    return bool(_REMOTE.match(path))


def fetch_folder(spark: SparkSession, uri: str) -> Path:
    """Copy the files of a folder that Hadoop reads (`hdfs:`) to this machine, once a session; returns the copy.

    Raises FileNotFoundError and OSError as `files` does.
    """
    names = [name for name in files.listdir(spark, uri) if files.is_file(spark, f"{uri}/{name}")]
    if not names:
        raise FileNotFoundError(f"{uri}: no such folder, or an empty one")
    state = [
        (name, files.file_size(spark, f"{uri}/{name}"), files.modified_at(spark, f"{uri}/{name}")) for name in names
    ]
    version = hashlib.sha256(repr((uri, state)).encode()).hexdigest()[:16]
    copy = session_folder(f"fetched/{version}")
    if not copy.exists():
        writing = copy.with_suffix(".writing")
        files.copy_here(spark, [f"{uri}/{name}" for name in names], writing)
        writing.rename(copy)
    return copy


def session_folder(name: str) -> Path:
    """A new folder's path on the driver's machine; Spark deletes what is in it when the session ends."""
    folder = Path(SparkFiles.getRootDirectory()) / "regulars" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder
