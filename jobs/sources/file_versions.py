"""Tells whether the files of a source are those of an earlier night: by name, size and times of change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from pyspark.sql import SparkSession

from jobs.sources.file_source import hadoop_path
from jobs.spark import files


class StartFromNothing(Exception):
    """What earlier nights read cannot be used for this one; the message says why."""


def versions_of_files(spark: SparkSession, uris: Iterable[str]) -> dict[str, str]:
    """Return size and times of change, as text, of each file (URI)."""
    names = sorted(uris)
    return dict(zip(names, files.each(lambda uri: _version(spark, uri), names), strict=True))


def new_files(table: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the files that were not there before. Raises StartFromNothing where one was changed or is gone."""
    for uri, version in before.items():
        if uri not in now:
            raise StartFromNothing(f"inputs.{table}: {uri.rpartition('/')[2]} is gone")
        if now[uri] != version:
            raise StartFromNothing(f"inputs.{table}: {uri.rpartition('/')[2]} was written again")
    return [uri for uri in now if uri not in before]


def _version(spark: SparkSession, uri: str) -> str:
    here = files.local(unquote(uri))
    if here is not None:
        found = here.stat()
        # Copies may keep size and time of change, but not the time at which the entry of the file was written.
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    path = hadoop_path(spark, uri)
    status = path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()).getFileStatus(path)
    return f"{status.getLen()} {status.getModificationTime()}"
