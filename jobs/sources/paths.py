"""Resolves the paths of sources: literal names with special characters, and archives that Spark does not read."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.config.input_settings import escaped, unescaped
from jobs.spark import files
from jobs.spark.errors import InputError

_SPECIAL = re.compile(r"(?<!\\)[\[\]{}*?]")
#: The first bytes of archives and workbooks, and what to do with such a file.
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save the workbook as CSV"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"Rar!", "a rar archive", "unpack it"),
)
_ARCHIVE_NAMES = (".zip", ".xlsx", ".7z", ".rar", ".tar", ".tar.gz", ".tgz")


def is_glob(path: str) -> bool:
    """Whether the path has special characters without a backslash."""
    return _SPECIAL.search(path) is not None


def literal_first(spark: SparkSession, path: str) -> str:
    """Return the path as a glob that matches the file of exactly this name, if there is one; else the path itself."""
    name = unescaped(path)
    return escaped(name) if is_glob(path) and files.exists(spark, name) else path


def spark_paths(spark: SparkSession, paths: Sequence[str], key: str) -> tuple[list[str], dict[str, str]]:
    """Return the paths as Spark reads them, and the reader's option that goes with them.

    Local globs are expanded here: Hadoop's globs fail for a colon in any name beside the file (HADOOP-14217). Names
    below a folder may have special characters too.
    Raises InputError if a local glob matches nothing.
    """
    default = str(spark._jsc.hadoopConfiguration().get("fs.defaultFS"))
    are_local = [path.startswith("file:") or (default.startswith("file:") and files.local(path)) for path in paths]
    if not all(are_local) or not any(is_glob(path) or "\\" in path or _has_special_names(path) for path in paths):
        return [literal_first(spark, path) for path in paths], {}
    expanded: list[str] = []
    for path in paths:
        matches = local_matches(path)
        if not matches:
            raise InputError(
                f"{key}.path: there is no {unescaped(path)}. Correct the path or bring the file, then run the command "
                "again."
            )
        expanded += [files.uri(match) for match in matches]
    return expanded, {"__globPaths__": "false"}


def _has_special_names(path: str) -> bool:
    folder = files.local(path)
    return folder is not None and any(_SPECIAL.search(file.name) for file in folder.rglob("*"))


def local_matches(path: str) -> list[str]:
    """Return the local files and folders that match a path of the configuration, without Spark."""
    path = path.removeprefix("file://").removeprefix("file:")
    if Path(unescaped(path)).exists():
        return [unescaped(path)]
    patterns = (re.sub(r"\\(.)", lambda match: glob.escape(match[1]), one) for one in _alternatives(path))
    found = {match for pattern in patterns for match in glob.iglob(pattern.replace("[^", "[!"))}  # noqa: PTH207
    return sorted(found)


def refuse_archives(spark: SparkSession, key: str, uris: Iterable[str]) -> None:
    """Raise InputError for a file (URI) that is an archive: Spark would read its bytes as text."""
    for uri in uris:
        name = uri.rpartition("/")[2]
        start = files.first_bytes(spark, uri, 4)
        for signature, kind, mend in _SIGNATURES:
            if start == signature:
                raise InputError(_archive(key, name, kind, mend))
        if name.lower().endswith(_ARCHIVE_NAMES):
            raise InputError(_archive(key, name, "an archive", "unpack it"))


def _archive(key: str, name: str, kind: str, mend: str) -> str:
    return (
        f"{key}: {name} is {kind}, which Spark does not read (gzip, bzip2 and zstd are read): {mend}. "
        "Then run the command again."
    )


def _alternatives(path: str) -> list[str]:
    """Expand {a,b}, which Python's globs lack."""
    match = re.search(r"(?<!\\)\{([^{}]*)(?<!\\)\}", path)
    if match is None:
        return [path]
    return [
        one
        for choice in match[1].split(",")
        for one in _alternatives(path[: match.start()] + choice + path[match.end() :])
    ]
