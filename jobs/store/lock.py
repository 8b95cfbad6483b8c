"""One writing command at a time holds a store; a second ends with who holds it, since when and what to do.

On this machine's file systems (also NFS) the lock is the kernel's (`flock`) on `<store>/lock`: it is gone the
moment its process is, even after kill -9, so it is never stale. The file itself stays; what is written in it is for
the message only.

Elsewhere the lock is `<store>/lock` itself, created exclusively and touched every 30 seconds. It is stale, and the
next command takes it over, when its process is gone from the same host or it was not touched for 10 minutes
(machines whose clocks differ by more than that need a common clock first).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

import psutil
from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError, StoreBusy
from jobs.store.store import Store

_TOUCH_EVERY = 30.0
_STALE_AFTER = 600.0


@dataclass(frozen=True)
class Owner:
    """Who holds a store: for the message, and to see whether the process still lives."""

    run_id: str
    host: str
    pid: int
    process_started: float  # seconds since 1970: tells a process from a later one with the same number
    since: str

    @staticmethod
    def of_this_process(run_id: str) -> Owner:
        """Describe the process that calls."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return Owner(run_id, socket.gethostname(), os.getpid(), psutil.Process().create_time(), now)

    def is_dead(self) -> bool:
        """Whether the process ran on this host and is gone; False for another host, where nobody here can know."""
        if self.host != socket.gethostname():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) > 1
        except psutil.NoSuchProcess:
            return True


@contextmanager
def lock(spark: SparkSession, store: Store, run_id: str) -> Iterator[None]:
    """Hold the store while the block runs.

    Raises StoreBusy where another run holds it, and ConfigurationError where the store cannot be written.
    """
    with ExitStack() as held:
        try:
            files.mkdirs(spark, store.root)
            one = _kernel_lock(store, run_id) if files.local(store.root) else _file_lock(spark, store, run_id)
            held.enter_context(one)
        except OSError as error:
            raise ConfigurationError(
                f"store: {store.root} cannot be written ({error.strerror or error}). Give this user the right to write "
                "there, or set another `store` in the configuration, then run the same command again."
            ) from error
        yield


@contextmanager
def _kernel_lock(store: Store, run_id: str) -> Iterator[None]:
    path = files.local(store.lock_file)
    assert path is not None
    # "a" makes the file without emptying it: it may tell who holds the store.
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(_busy(store, path.read_text(encoding="utf-8"))) from None
        file.truncate(0)
        file.write(json.dumps(asdict(Owner.of_this_process(run_id))))
        file.flush()
        yield
        file.truncate(0)


@contextmanager
def _file_lock(spark: SparkSession, store: Store, run_id: str) -> Iterator[None]:
    mine = json.dumps(asdict(Owner.of_this_process(run_id)))
    _remove_if_stale(spark, store)
    try:
        files.create_text(spark, store.lock_file, mine)
    except FileExistsError:
        raise StoreBusy(_busy(store, _text(spark, store))) from None
    ended = threading.Event()

    def keep_fresh() -> None:
        while not ended.wait(_TOUCH_EVERY):
            files.touch(spark, store.lock_file, time.time())

    heart = threading.Thread(target=keep_fresh, name="store-lock", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        if _text(spark, store) == mine:
            files.delete(spark, store.lock_file)


def holder(spark: SparkSession, store: Store) -> Owner | None:
    """Who writes to the store now, without taking the lock; None where nobody does or the process is seen to be gone.

    Of another machine's process only the lock's age tells anything, and that only where the lock is a file of its own.
    """
    owner = _owner(_text(spark, store))
    if owner is None or owner.is_dead():
        return None
    if files.local(store.root) is None and time.time() - files.modified_at(spark, store.lock_file) > _STALE_AFTER:
        return None
    return owner


def _remove_if_stale(spark: SparkSession, store: Store) -> None:
    """Move a dead run's lock away; of several commands that try at once only one moves that very file."""
    text = _text(spark, store)
    if not text:
        return
    owner = _owner(text)
    try:
        fresh = time.time() - files.modified_at(spark, store.lock_file) < _STALE_AFTER
    except FileNotFoundError:
        return
    if fresh and not (owner and owner.is_dead()):
        return
    aside = f"{store.lock_file}.{uuid4().hex[:8]}.stale"
    try:
        files.rename(spark, store.lock_file, aside)
    except FileNotFoundError:
        return
    if files.read_text(spark, aside) != text:  # another command took over first, and this is its lock
        files.rename(spark, aside, store.lock_file)
        return
    files.delete(spark, aside)


def _text(spark: SparkSession, store: Store) -> str:
    try:
        return files.read_text(spark, store.lock_file)
    except FileNotFoundError:
        return ""


def _owner(text: str) -> Owner | None:
    try:
        return Owner(**json.loads(text))
    except (ValueError, TypeError):
        return None  # caught between its creation and its first byte


def _busy(store: Store, text: str) -> str:
    owner = _owner(text)
    if owner is None:
        return f"Another run holds the store {store.root}. Wait for it to end, then run the same command again."
    return (
        f"Run {owner.run_id} holds the store {store.root} since {owner.since} (process {owner.pid} on {owner.host}). "
        f"Wait for it to end, or stop it there with `kill {owner.pid}` (it loses no finished work), then run the same "
        "command again."
    )
