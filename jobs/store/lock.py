"""The store's lock: one command writes at a time; a second one ends with the owner's name and what to do.

On local and NFS paths a lock is the kernel's (`flock`) on its file. The kernel releases it when its process ends, even
after kill -9, so it is never stale. The text in the file serves only messages: it may name a process that is gone.

On Hadoop file systems a lock is the file itself, created exclusively and touched every 30 seconds. It is stale when its
process has ended on this machine, or when nobody touched it for 10 minutes. The next command takes a stale lock over.
Clocks of the machines must agree within these 10 minutes. A process that lost its lock this way notices it before its
next swap of a folder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import psutil
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError, StoreBusy
from jobs.store.store import Store, refuse_links

_TOUCH_EVERY = 30.0
_STALE_AFTER = 600.0
#: Seconds for which a command tries again: `is_held` takes a kernel lock for an instant.
_RETRY_FOR = 0.5


class LockLost(StoreBusy):
    """Another run took the lock over while this process was paused or cut off from the store."""


class FileHeld(Exception):
    """Another process holds the file; `text` is what that process wrote into it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True)
class LockOwner:
    """The process that holds a lock."""

    run_id: str
    host: str
    machine: str  # boot and pid namespace: containers of different machines can have equal host names
    pid: int
    process_started: float  # seconds since 1970; distinguishes processes that reuse a pid
    since: str

    @staticmethod
    def of_this_process(run_id: str) -> LockOwner:
        """Describe the calling process."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        started = psutil.Process().create_time()
        return LockOwner(run_id, socket.gethostname(), _machine(), os.getpid(), started, now)

    def is_this_process(self) -> bool:
        """Return whether the owner is the calling process."""
        return (self.machine, self.pid) == (_machine(), os.getpid()) and not self.is_dead()

    def is_dead(self) -> bool:
        """Return whether the process ran on this machine and has ended; False for other machines."""
        if self.machine != _machine():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) > 1
        except psutil.NoSuchProcess:
            return True


@contextmanager
def lock(spark: SparkSession, store: Store, run_id: str) -> Iterator[None]:
    """Hold the store's lock while the block runs.

    Raises StoreBusy where another run holds it, and ConfigurationError where the store cannot be written or a folder
    of the store is a link to a place outside it.
    """
    with ExitStack() as held:
        try:
            files.mkdirs(spark, store.root)
            held.enter_context(hold_file(spark, store.lock_file, run_id))
        except FileHeld as other:
            raise StoreBusy(_busy_message(store, other.text)) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfigurationError(
                    f"store: {store.lock_file} is a symbolic link, and Regulars does not follow it. Delete the link, "
                    "then run the same command again."
                ) from error
            raise not_writable(store, error) from error
        refuse_links(store)
        yield


def not_writable(store: Store, error: OSError) -> ConfigurationError:
    """Return the error for a store in which this user cannot write."""
    return ConfigurationError(
        f"store: {store.root} cannot be written ({error.strerror or error}). Give this user the right to write there, "
        "or set another `store` in the configuration, then run the same command again."
    )


def require_lock(spark: SparkSession, store: Store) -> None:
    """Raise LockLost if another run holds the store by now. Without a lock of its own, a local store passes."""
    owner = parse_owner(lock_text(spark, store.lock_file))
    if owner is not None and owner.is_this_process():
        return
    if owner is None and files.local(store.root):
        return
    other = f"run {owner.run_id} (process {owner.pid} on {owner.host}) holds" if owner else "no run holds"
    raise LockLost(
        f"This run lost the lock of the store {store.root}: {other} it now. This run changes nothing more. The run that"
        " has the lock finishes a publish that had begun. Check the connection to the store, then run the same command "
        "again."
    )


def holder(spark: SparkSession, store: Store) -> LockOwner | None:
    """Return the process that writes to the store now, without waiting for it; None where there is none."""
    return parse_owner(lock_text(spark, store.lock_file)) if is_held(spark, store.lock_file) else None


@contextmanager
def hold_file(spark: SparkSession, path: str, run_id: str) -> Iterator[None]:
    """Hold a lock on the file at `path` while the block runs; the file is created where it is missing.

    Raises FileHeld where another process holds it, and OSError where it cannot be written or is a symbolic link.
    """
    here = files.local(path)
    with _kernel_lock(here, run_id) if here else _file_lock(spark, path, run_id):
        yield


def is_held(spark: SparkSession, path: str) -> bool:
    """Return whether a running process holds the file's lock. This asks the lock, not the text in the file."""
    if here := files.local(path):
        try:
            descriptor = os.open(here, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return False
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
    try:
        is_fresh = time.time() - files.modified_at(spark, path) < _STALE_AFTER
    except FileNotFoundError:
        return False
    owner = parse_owner(lock_text(spark, path))
    return is_fresh and not (owner and owner.is_dead())


def parse_owner(text: str) -> LockOwner | None:
    """Return the owner that a lock file names; None where the file is new and empty, or of an earlier release.

    Characters that a terminal would obey are removed, because messages name the owner.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        fields: dict[str, Any] = {n: _printable(v) if isinstance(v, str) else v for n, v in raw.items()}
        return LockOwner(**fields)
    except (ValueError, TypeError, AttributeError):
        return None


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))


def lock_text(spark: SparkSession, path: str) -> str:
    """Return the text of a lock file, with bytes that are not UTF-8 replaced; empty where there is no file."""
    try:
        here = files.local(path)
        return here.read_text(encoding="utf-8", errors="replace") if here else files.read_text(spark, path)
    except FileNotFoundError:
        return ""


@contextmanager
def _kernel_lock(path: Path, run_id: str) -> Iterator[None]:
    with _locked(path) as file:
        file.truncate(0)
        file.write(json.dumps(asdict(LockOwner.of_this_process(run_id))))
        file.flush()
        yield
        file.truncate(0)


@contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    """Open and lock the file. Opens it again where another process deleted it in between."""
    while True:
        # O_APPEND keeps the text, which names the present owner.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "a+", encoding="utf-8") as file:
            if not _flock(file):
                raise FileHeld(path.read_text(encoding="utf-8", errors="replace"))
            if _is_at(path, file):
                yield file
                return


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _flock(file: TextIO) -> bool:
    until = time.monotonic() + _RETRY_FOR
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


@contextmanager
def _file_lock(spark: SparkSession, path: str, run_id: str) -> Iterator[None]:
    mine = json.dumps(asdict(LockOwner.of_this_process(run_id)))
    _remove_if_stale(spark, path)
    try:
        files.create_text(spark, path, mine)
    except FileExistsError:
        raise FileHeld(lock_text(spark, path)) from None
    ended = threading.Event()

    def keep_fresh() -> None:
        while not ended.wait(_TOUCH_EVERY):
            # A failed touch is repeated: the file stays fresh for many of them. A lock that is lost is not touched.
            with suppress(OSError, Py4JError):
                if files.read_text(spark, path) == mine:
                    files.touch(spark, path, time.time())

    toucher = threading.Thread(target=keep_fresh, name="store-lock", daemon=True)
    toucher.start()
    try:
        yield
    finally:
        ended.set()
        toucher.join()
        if lock_text(spark, path) == mine:
            files.delete(spark, path)


def _remove_if_stale(spark: SparkSession, path: str) -> None:
    """Remove the lock of a dead run. A rename makes sure that only one of several commands removes it."""
    text = lock_text(spark, path)
    if is_held(spark, path) or not files.exists(spark, path):
        return
    aside = f"{path}.{uuid4().hex[:8]}.stale"
    try:
        files.rename(spark, path, aside)
    except FileNotFoundError:
        return
    if files.read_text(spark, aside) != text:  # another command took over first: this is its lock
        files.rename(spark, aside, path)
        return
    files.delete(spark, aside)


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _busy_message(store: Store, text: str) -> str:
    owner = parse_owner(text)
    if owner is None:
        return f"Another run holds the store {store.root}. Wait for it to end, then run the same command again."
    return (
        f"Run {owner.run_id} holds the store {store.root} since {owner.since} (process {owner.pid} on {owner.host}). "
        f"Wait for it to end, or stop it on that host with `kill {owner.pid}` (finished work is kept), then run the "
        "same command again."
    )
