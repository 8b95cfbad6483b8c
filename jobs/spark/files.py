"""File operations on local paths and on every file system that Hadoop knows, with the same behaviour on both.

Paths without a scheme and `file:` URIs are local and use the operating system: Hadoop's local file system lacks fsync
and atomic renames. Other URIs (`hdfs:`, `viewfs:`) use Hadoop's FileSystem and FileContext in the driver's JVM. Paths
are literal: no function decodes percent signs or expands globs.

All functions raise FileNotFoundError for a missing file, FileExistsError for an existing target, OSError otherwise.
Local paths never use the session.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

Item = TypeVar("Item")
Found = TypeVar("Found")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
#: Files that one call opens at the same time.
_PARALLEL_FILES = 16


def local(path: str) -> Path | None:
    """Return the absolute local path, or None for a path on another file system."""
    if path.startswith("file:"):
        return Path("/" + path.removeprefix("file:").lstrip("/"))
    return None if _SCHEME.match(path) else Path(path).absolute()


def uri(path: str) -> str:
    """Return a URI. A plain path becomes a `file:` URI, whatever the cluster's default file system is."""
    here = local(path)
    return path if here is None else f"file://{here}"


def for_reading(path: str) -> str:
    """Return the URI with `[`, `{`, `*` and `?` escaped, because Spark's readers expand globs."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", uri(path))


def each(work: Callable[[Item], Found], paths: Sequence[Item]) -> list[Found]:
    """Do the work for each path or date, several at a time, and return the results in the order of the paths."""
    if len(paths) < 2:
        return [work(path) for path in paths]
    with ThreadPoolExecutor(min(_PARALLEL_FILES, len(paths))) as pool:
        return list(pool.map(work, paths))


def exists(spark: SparkSession, path: str) -> bool:
    """Return whether a file or folder exists."""
    if here := local(path):
        return here.exists()
    with _java_errors(path):
        return bool(_file_system(spark, path).exists(_path(spark, path)))


def listdir(spark: SparkSession, folder: str) -> list[str]:
    """Return the sorted names in a folder; an empty list where it does not exist."""
    if here := local(folder):
        return sorted(entry.name for entry in here.iterdir()) if here.is_dir() else []
    if not exists(spark, folder):
        return []
    with _java_errors(folder):
        found = _file_system(spark, folder).listStatus(_path(spark, folder))
        return sorted(status.getPath().getName() for status in found)


def walk(spark: SparkSession, folder: str) -> list[str]:
    """Return the sorted paths of all files below a folder; links to folders are not followed."""
    if here := local(folder):
        return sorted(str(Path(parent) / name) for parent, _, names in os.walk(here) for name in names)
    if not exists(spark, folder):
        return []
    with _java_errors(folder):
        found = _file_system(spark, folder).listFiles(_path(spark, folder), True)
        paths = []
        while found.hasNext():
            paths.append(str(found.next().getPath().toString()))
        return sorted(paths)


def glob(spark: SparkSession, pattern: str) -> list[str]:
    """Return the sorted paths of the files and folders that match a Hadoop glob pattern."""
    with _java_errors(pattern):
        found = _file_system(spark, pattern).globStatus(_path(spark, pattern)) or ()
        return sorted(str(status.getPath().toUri().getPath()) for status in found)


def is_file(spark: SparkSession, path: str) -> bool:
    """Return whether a file (not a folder) exists."""
    if here := local(path):
        return here.is_file()
    with _java_errors(path):
        return exists(spark, path) and bool(_file_system(spark, path).getFileStatus(_path(spark, path)).isFile())


def file_size(spark: SparkSession, path: str) -> int:
    """Return the size of one file in bytes."""
    if here := local(path):
        return here.stat().st_size
    with _java_errors(path):
        return int(_file_system(spark, path).getFileStatus(_path(spark, path)).getLen())


def disk_usage(spark: SparkSession, path: str) -> tuple[int, int]:
    """Return the number of files and bytes at a path, recursively; (0, 0) where it does not exist."""
    if here := local(path):
        found = [here] if here.is_file() else [file for file in here.rglob("*") if file.is_file()]
        return len(found), sum(file.stat().st_size for file in found)
    if not exists(spark, path):
        return 0, 0
    with _java_errors(path):
        summary = _file_system(spark, path).getContentSummary(_path(spark, path))
        return int(summary.getFileCount()), int(summary.getLength())


def mkdirs(spark: SparkSession, folder: str) -> None:
    """Create a folder and its parents, if missing."""
    if here := local(folder):
        here.mkdir(parents=True, exist_ok=True)
        return
    with _java_errors(folder):
        _file_system(spark, folder).mkdirs(_path(spark, folder))


def rename(spark: SparkSession, source: str, target: str) -> None:
    """Rename a file or folder atomically and create the target's parent. An existing target raises FileExistsError."""
    if exists(spark, target):
        raise FileExistsError(f"{source} cannot become {target}: that exists already")
    mkdirs(spark, target.rpartition("/")[0])
    if (here := local(source)) and (there := local(target)):
        here.rename(there)
        return
    with _java_errors(source):
        context = _file_context(spark, source)
        context.rename(_path(spark, source), _path(spark, target), _rename_options(spark, overwrite=False))


def replace(spark: SparkSession, source: str, target: str) -> None:
    """Rename a file atomically over another one of the same file system."""
    if (here := local(source)) and (there := local(target)):
        here.replace(there)
        return
    with _java_errors(source):
        context = _file_context(spark, source)
        context.rename(_path(spark, source), _path(spark, target), _rename_options(spark, overwrite=True))


def delete(spark: SparkSession, path: str) -> None:
    """Delete a file, or a folder recursively. A missing path is no error; a symbolic link is not followed."""
    if here := local(path):
        if here.is_dir() and not here.is_symlink():
            shutil.rmtree(here)
        else:
            here.unlink(missing_ok=True)
        return
    with _java_errors(path):
        _file_system(spark, path).delete(_path(spark, path), True)


def copy_here(spark: SparkSession, paths: Sequence[str], folder: Path) -> None:
    """Copy files of a Hadoop file system into a new local folder, replacing an existing one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        with _java_errors(path):
            target = uri(str(folder / path.rpartition("/")[2]))
            there, here = _file_system(spark, path), _file_system(spark, target)
            configuration = spark._jsc.hadoopConfiguration()
            copy = _jvm(spark).org.apache.hadoop.fs.FileUtil.copy
            copy(there, _path(spark, path), here, _path(spark, target), False, True, configuration)


def copy_there(spark: SparkSession, file: Path, target: str) -> None:
    """Copy a local file to `target` on any file system, replacing an existing file."""
    mkdirs(spark, target.rpartition("/")[0])
    if there := local(target):
        shutil.copyfile(file, there)
        return
    with _java_errors(target):
        source = uri(str(file))
        here, hadoop = _file_system(spark, source), _file_system(spark, target)
        configuration = spark._jsc.hadoopConfiguration()
        copy = _jvm(spark).org.apache.hadoop.fs.FileUtil.copy
        copy(here, _path(spark, source), hadoop, _path(spark, target), False, True, configuration)


@contextmanager
def local_copy(spark: SparkSession, path: str) -> Iterator[Path]:
    """Return a local path with the content of a file: its own, or that of a temporary copy. Do not write to it."""
    if here := local(path):
        yield here
        return
    with tempfile.TemporaryDirectory(prefix="regulars-") as folder:
        copy_here(spark, [path], Path(folder) / "copy")
        yield Path(folder) / "copy" / path.rpartition("/")[2]


def read_text(spark: SparkSession, path: str) -> str:
    """Return the content of a small UTF-8 file."""
    if here := local(path):
        return here.read_text(encoding="utf-8")
    with _java_errors(path):
        stream = _file_system(spark, path).open(_path(spark, path))
        try:
            return str(_jvm(spark).org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()


def first_bytes(spark: SparkSession, uri: str, count: int) -> bytes:
    """Return the first bytes of the file of an encoded URI, as Spark lists files; fewer if the file is shorter."""
    jvm = _jvm(spark)
    with _java_errors(uri):
        path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))
        stream = path.getFileSystem(spark._jsc.hadoopConfiguration()).open(path)
        try:
            return bytes(stream.readNBytes(count))
        finally:
            stream.close()


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Replace a small UTF-8 file atomically: a reader, or a crash, finds the old text or the new one."""
    scratch = f"{path}.{uuid4().hex[:8]}.tmp"
    mkdirs(spark, path.rpartition("/")[0])
    if (here := local(path)) and (temporary := local(scratch)):
        temporary.write_text(text, encoding="utf-8")
        _fsync(temporary)
        temporary.replace(here)
        _fsync(here.parent)
        return
    with _java_errors(path):
        _write_bytes(_file_system(spark, path).create(_path(spark, scratch), False), text)
    replace(spark, scratch, path)


def create_text(spark: SparkSession, path: str, text: str, *, private: bool = False) -> None:
    """Create a small file exclusively. Raises FileExistsError where it exists; of several processes one succeeds.

    Only this user can read a `private` file, whatever the umask is.
    """
    mkdirs(spark, path.rpartition("/")[0])
    if here := local(path):
        descriptor = os.open(here, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return
    with _java_errors(path):
        hadoop = _file_system(spark, path)
        stream = hadoop.create(_path(spark, path), False)
        if private:
            hadoop.setPermission(_path(spark, path), _jvm(spark).org.apache.hadoop.fs.permission.FsPermission("600"))
        _write_bytes(stream, text)


def modified_at(spark: SparkSession, path: str) -> float:
    """Return the modification time of a file in seconds since 1970."""
    if here := local(path):
        return here.stat().st_mtime
    with _java_errors(path):
        return float(_file_system(spark, path).getFileStatus(_path(spark, path)).getModificationTime()) / 1000


def touch(spark: SparkSession, path: str, at: float) -> None:
    """Set the modification time of an existing file, in seconds since 1970."""
    if here := local(path):
        os.utime(here, (at, at))
        return
    with _java_errors(path):
        _file_system(spark, path).setTimes(_path(spark, path), int(at * 1000), -1)


def sync(folder: str) -> None:
    """Flush a local folder's files to disk (fsync). Does nothing elsewhere, where closing a file flushes it."""
    if here := local(folder):
        each(lambda name: _fsync(here / name), [file.name for file in sorted(here.iterdir())])
        _fsync(here)


def sha256(spark: SparkSession, path: str) -> str:
    """Return the SHA-256 of a file's content in hex."""
    if here := local(path):
        with here.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    with _java_errors(path):
        stream = _file_system(spark, path).open(_path(spark, path))
        try:
            return str(_jvm(spark).org.apache.commons.codec.digest.DigestUtils.sha256Hex(stream))
        finally:
            stream.close()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm


def _path(spark: SparkSession, path: str) -> Any:
    return _jvm(spark).org.apache.hadoop.fs.Path(path)


def _file_system(spark: SparkSession, path: str) -> Any:
    return _path(spark, path).getFileSystem(spark._jsc.hadoopConfiguration())


def _file_context(spark: SparkSession, path: str) -> Any:
    contexts = _jvm(spark).org.apache.hadoop.fs.FileContext
    return contexts.getFileContext(_path(spark, path).toUri(), spark._jsc.hadoopConfiguration())


def _rename_options(spark: SparkSession, *, overwrite: bool) -> Any:
    rename = getattr(_jvm(spark).org.apache.hadoop.fs, "Options$Rename")
    gateway: Any = spark.sparkContext._gateway
    options = gateway.new_array(rename, 1)
    options[0] = rename.OVERWRITE if overwrite else rename.NONE
    return options


def _write_bytes(stream: Any, text: str) -> None:
    try:
        stream.write(bytearray(text.encode("utf-8")))
        stream.hsync()
    finally:
        stream.close()


@contextmanager
def _java_errors(path: str) -> Iterator[None]:
    try:
        yield
    except Py4JJavaError as error:
        raise os_error(error, path) from error


def os_error(error: Py4JJavaError, path: str) -> OSError:
    """Convert Hadoop's exception into the equivalent Python exception with the path in its message."""
    name = str(error.java_exception.getClass().getSimpleName())
    said = f"{path}: {name}: {error.java_exception.getMessage()}"
    if name in ("FileNotFoundException", "NoSuchFileException"):
        return FileNotFoundError(said)
    if name in ("FileAlreadyExistsException", "FileExistsException"):
        return FileExistsError(said)
    return OSError(said)
