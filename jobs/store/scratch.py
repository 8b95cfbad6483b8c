"""Scratch folders of commands that do not hold the store's lock: plan, train and evaluate.

Such a command owns `<store>/scratch/<name>` by a lock on `<store>/scratch/<name>.live`. These and writing commands
delete only scratch folders whose owner has ended. The same marks keep `plan` and `gc` apart, because `plan` reads the
ledger without the store's lock while `gc` would move its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from uuid import uuid4

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import StoreBusy
from jobs.store.lock import FileHeld, hold_file, is_held, lock_text, not_writable, parse_owner
from jobs.store.store import Store, refuse_links

_MARK = ".live"
_READS_LEDGER, _REWRITES_LEDGER = "reads-ledger-", "rewrites-ledger-"


@contextmanager
def scratch_folder(spark: SparkSession, store: Store, command: str) -> Iterator[str]:
    """Return the path of a folder that no other command deletes while the block runs; it is deleted at the end.

    Folders of killed commands are deleted first: they may hold customers' ids, and the next night may be far. Raises
    ConfigurationError where the store cannot be written or a folder of it is a link to a place outside it.
    """
    with _owned_folder(spark, store, command) as folder:
        delete_dead_scratch(spark, store)
        yield folder


@contextmanager
def _owned_folder(spark: SparkSession, store: Store, command: str) -> Iterator[str]:
    """Do what `scratch_folder` does, and leave folders of killed commands alone: a dry run changes nothing."""
    refuse_links(store)
    folder = store.scratch(f"{command}-{uuid4().hex[:8]}")
    with ExitStack() as held:
        try:
            files.mkdirs(spark, folder.rpartition("/")[0])
            held.enter_context(hold_file(spark, folder + _MARK, command))
        except OSError as error:
            raise not_writable(store, error) from error
        try:
            yield folder
        finally:
            files.delete(spark, folder)
            files.delete(spark, folder + _MARK)


def dead_scratch(spark: SparkSession, store: Store) -> list[str]:
    """List the scratch folders, and their marks, whose owners have ended."""
    root = f"{store.root}/scratch"
    names = files.listdir(spark, root)
    live = set(_live(spark, store))
    return [f"{root}/{name}" for name in names if name.removesuffix(_MARK) not in live]


def live_scratch(spark: SparkSession, store: Store) -> list[str]:
    """Return the names of the scratch folders of other commands that run now, such as train and evaluate."""
    return [name for name in _live(spark, store) if not name.startswith(_REWRITES_LEDGER)]


def delete_dead_scratch(spark: SparkSession, store: Store) -> None:
    """Delete the scratch folders whose owners have ended.

    The mark is held meanwhile, so a command that begins in this moment makes its mark anew.
    """
    for folder in dict.fromkeys(path.removesuffix(_MARK) for path in dead_scratch(spark, store)):
        _delete_foreign_mark(spark, folder + _MARK)
        with suppress(FileHeld), hold_file(spark, folder + _MARK, "cleaning"):
            files.delete(spark, folder)
            files.delete(spark, folder + _MARK)


def _delete_foreign_mark(spark: SparkSession, mark: str) -> None:
    """Delete a link, which is not followed, or a folder in the place of a mark: neither of them can be locked."""
    here = files.local(mark)
    if here is not None and (here.is_symlink() or here.is_dir()):
        files.delete(spark, mark)


@contextmanager
def reading_ledger(spark: SparkSession, store: Store, command: str) -> Iterator[str]:
    """Return a scratch folder while whose block no command rewrites the ledger.

    Raises StoreBusy while one does. Call this in commands that read the ledger without the store's lock.
    """
    with _owned_folder(spark, store, _READS_LEDGER + command) as folder:
        _refuse_live(spark, store, _REWRITES_LEDGER, "rewrites")
        yield folder


@contextmanager
def rewriting_ledger(spark: SparkSession, store: Store, command: str) -> Iterator[None]:
    """Rewrite the ledger in the block. Raises StoreBusy while another command reads it.

    Reader and rewriter mark themselves before they look for each other, so at least one of two sees the other.
    """
    with _owned_folder(spark, store, _REWRITES_LEDGER + command):
        _refuse_live(spark, store, _READS_LEDGER, "reads")
        yield


def _live(spark: SparkSession, store: Store) -> list[str]:
    root = f"{store.root}/scratch"
    marks = [name for name in files.listdir(spark, root) if name.endswith(_MARK)]
    return [name.removesuffix(_MARK) for name in marks if is_held(spark, f"{root}/{name}")]


def _refuse_live(spark: SparkSession, store: Store, prefix: str, does: str) -> None:
    for name in _live(spark, store):
        if name.startswith(prefix):
            raise StoreBusy(
                f"regulars {_owner_of(spark, store, name)} {does} the ledger of the store {store.root}. Wait for it to "
                "end, then run the same command again."
            )


def _owner_of(spark: SparkSession, store: Store, name: str) -> str:
    command = name.removeprefix(_READS_LEDGER).removeprefix(_REWRITES_LEDGER).rpartition("-")[0]
    owner = parse_owner(lock_text(spark, store.scratch(name) + _MARK))
    return f"{command} (process {owner.pid} on {owner.host})" if owner else command
