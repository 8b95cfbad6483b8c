"""The store's lock: one command writes at a time; a second one ends with the owner's name and what to do.

On local and NFS paths the lock is the kernel's (`flock`) on `<store>/lock`. The kernel releases it when its process
ends, even after kill -9, so it is never stale. The file stays, and its text serves only the message.

On Hadoop file systems the lock is the file `<store>/lock` itself, created exclusively and touched every 30 seconds. It
is stale when its process is gone from this host, or when nobody touched it for 10 minutes. The next command takes a
stale lock over. Clocks of the machines must agree within these 10 minutes.
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
class LockOwner:
    """The process that holds a store."""

    run_id: str
    host: str
    pid: int
    process_started: float  # seconds since 1970; distinguishes processes that reuse a pid
    since: str

    @staticmethod
    def of_this_process(run_id: str) -> LockOwner:
        """Describe the calling process."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return LockOwner(run_id, socket.gethostname(), os.getpid(), psutil.Process().create_time(), now)

    def is_dead(self) -> bool:
        """Return whether the process ran on this host and has ended; False for other hosts."""
        if self.host != socket.gethostname():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) > 1
        except psutil.NoSuchProcess:
            return True


@contextmanager
def lock(spark: SparkSession, store: Store, run_id: str) -> Iterator[None]:
    """Hold the store's lock while the block runs.

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
    # Mode "a" creates the file but keeps its text, which names the present owner.
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(_busy_message(store, path.read_text(encoding="utf-8"))) from None
        file.truncate(0)
        file.write(json.dumps(asdict(LockOwner.of_this_process(run_id))))
        file.flush()
        yield
        file.truncate(0)


@contextmanager
def _file_lock(spark: SparkSession, store: Store, run_id: str) -> Iterator[None]:
    mine = json.dumps(asdict(LockOwner.of_this_process(run_id)))
    _remove_if_stale(spark, store)
    try:
        files.create_text(spark, store.lock_file, mine)
    except FileExistsError:
        raise StoreBusy(_busy_message(store, _lock_text(spark, store))) from None
    ended = threading.Event()

    def keep_fresh() -> None:
        while not ended.wait(_TOUCH_EVERY):
            files.touch(spark, store.lock_file, time.time())

    toucher = threading.Thread(target=keep_fresh, name="store-lock", daemon=True)
    toucher.start()
    try:
        yield
    finally:
        ended.set()
        toucher.join()
        if _lock_text(spark, store) == mine:
            files.delete(spark, store.lock_file)


def holder(spark: SparkSession, store: Store) -> LockOwner | None:
    """Return the process that writes to the store now, without taking the lock; None where there is none.

    The age of a lock file tells whether a process of another host still runs, but only on Hadoop file systems.
    """
    owner = _parse_owner(_lock_text(spark, store))
    if owner is None or owner.is_dead():
        return None
    if files.local(store.root) is None and time.time() - files.modified_at(spark, store.lock_file) > _STALE_AFTER:
        return None
    return owner


def _remove_if_stale(spark: SparkSession, store: Store) -> None:
    """Remove the lock of a dead run. A rename makes sure that only one of several commands removes it."""
    text = _lock_text(spark, store)
    if not text:
        return
    owner = _parse_owner(text)
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
    if files.read_text(spark, aside) != text:  # another command took over first: this is its lock
        files.rename(spark, aside, store.lock_file)
        return
    files.delete(spark, aside)


def _lock_text(spark: SparkSession, store: Store) -> str:
    try:
        return files.read_text(spark, store.lock_file)
    except FileNotFoundError:
        return ""


def _parse_owner(text: str) -> LockOwner | None:
    try:
        return LockOwner(**json.loads(text))
    except (ValueError, TypeError):
        return None  # the file is new and still empty


def _busy_message(store: Store, text: str) -> str:
    owner = _parse_owner(text)
    if owner is None:
        return f"Another run holds the store {store.root}. Wait for it to end, then run the same command again."
    return (
        f"Run {owner.run_id} holds the store {store.root} since {owner.since} (process {owner.pid} on {owner.host}). "
        f"Wait for it to end, or stop it on that host with `kill {owner.pid}` (finished work is kept), then run the "
        "same command again."
    )
