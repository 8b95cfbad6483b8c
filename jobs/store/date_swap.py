"""Put finished folders in place of old ones so that a crash anywhere leaves each folder old or new, never mixed.

An intent record names every folder to put in place, what is in it, and every folder to retire. It is written after
all of them were checked; from then on the work is finished by whoever comes next, which `recover_intents` does at the
start of every writing command. On a local file system one step exchanges the new folder with the old, so a reader
never sees the place empty; elsewhere the old one is renamed away first and the place is empty for an instant.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.fault_points import point
from jobs.store.store import Store
from lm.checkpoint.folder_exchange import exchange_folders


@dataclass(frozen=True)
class FolderSwap:
    """One folder to put in place; paths are relative to the store, so that a moved or copied store recovers too."""

    staged: str
    target: str
    replaces: bool  # whether the target was there before
    contents: dict[str, str]  # file name: SHA-256 of the file


@dataclass(frozen=True)
class Intent:
    """What one run is about to change; `retires` are folders that go once every swap is done.

    Publishes are numbered from 1 in their order, whatever the clock says; 0 is a change that nobody rolls back. A
    closed intent stays in the trash beside what it replaced.
    """

    run_id: str
    swaps: Sequence[FolderSwap]
    retires: Sequence[str] = field(default=())
    number: int = 0


def prepare_swap(spark: SparkSession, store: Store, staged: str, target: str) -> FolderSwap:
    """Describe a checked staged folder, its files safe on the disk, and the folder whose place it will take."""
    files.sync(staged)
    contents = {name: files.sha256(spark, f"{staged}/{name}") for name in files.listdir(spark, staged)}
    return FolderSwap(_relative(store, staged), _relative(store, target), files.exists(spark, target), contents)


def commit(spark: SparkSession, store: Store, intent: Intent) -> None:
    """Write the intent, put every folder in place, retire what goes, close the intent and clean up after it."""
    files.write_text(spark, store.intent(intent.run_id), json.dumps(asdict(intent), indent=1))
    point("intent-opened")
    for swap in intent.swaps:
        _put_in_place(spark, store, intent.run_id, swap)
    _close(spark, store, intent)


def closed_intents(spark: SparkSession, store: Store) -> list[Intent]:
    """The publishes whose replaced folders are still in the trash, oldest first."""
    records = [store.replaced(run_id) for run_id in files.listdir(spark, f"{store.root}/trash")]
    found = [_read(spark, record) for record in records if files.exists(spark, record)]
    return sorted((intent for intent in found if intent.number), key=lambda intent: intent.number)


def next_publish(spark: SparkSession, store: Store) -> int:
    """The number of the next publish."""
    return 1 + max((intent.number for intent in closed_intents(spark, store)), default=0)


def recover_intents(spark: SparkSession, store: Store) -> list[str]:
    """Finish every open intent, or undo it where its files are no longer whole; say what was done, one line each."""
    done = []
    for name in files.listdir(spark, store.intents):
        path = f"{store.intents}/{name}"
        if name.endswith(".json"):
            done.append(_recover(spark, store, _read(spark, path)))
        else:
            files.delete(spark, path)  # a record that was never finished: nothing had been changed yet
    return done


def _recover(spark: SparkSession, store: Store, intent: Intent) -> str:
    """Everything staged was checked before the intent was written, so the way is forward unless files were lost."""
    staged = [_holds(spark, f"{store.root}/{swap.staged}", swap) for swap in intent.swaps]
    placed = [_holds(spark, f"{store.root}/{swap.target}", swap) for swap in intent.swaps]
    targets = ", ".join(swap.target for swap in intent.swaps)
    if not all(here or there for here, there in zip(staged, placed, strict=True)):
        for swap, is_placed in zip(intent.swaps, placed, strict=True):
            _undo(spark, store, intent.run_id, swap, is_placed=is_placed)
        files.delete(spark, store.intent(intent.run_id))
        files.delete(spark, store.staging(intent.run_id))
        return f"undid run {intent.run_id}, whose staged files are no longer whole: the old data stays in {targets}"
    for swap, is_placed in zip(intent.swaps, placed, strict=True):
        if is_placed:
            _discard_old(spark, store, intent.run_id, swap)
        else:
            _put_in_place(spark, store, intent.run_id, swap)
    _close(spark, store, intent)
    return f"finished run {intent.run_id}, which had been interrupted while publishing {targets}"


def _put_in_place(spark: SparkSession, store: Store, run_id: str, swap: FolderSwap) -> None:
    staged, target = f"{store.root}/{swap.staged}", f"{store.root}/{swap.target}"
    if files.exists(spark, target):
        if _exchange(staged, target):
            point("swap-exchanged")
            _discard_old(spark, store, run_id, swap)
            point("swap-done")
            return
        files.rename(spark, target, trash(store, run_id, swap.target))
        point("swap-moved-out")
    files.rename(spark, staged, target)
    point("swap-done")


def _exchange(one: str, other: str) -> bool:
    """Exchange two folders in one step; False, with nothing changed, where their file systems cannot."""
    here, there = files.local(one), files.local(other)
    return here is not None and there is not None and exchange_folders(here, there)


def _discard_old(spark: SparkSession, store: Store, run_id: str, swap: FolderSwap) -> None:
    """After an exchange the old folder lies where the new one was staged."""
    left = f"{store.root}/{swap.staged}"
    if files.exists(spark, left):
        files.rename(spark, left, trash(store, run_id, swap.target))


def _undo(spark: SparkSession, store: Store, run_id: str, swap: FolderSwap, *, is_placed: bool) -> None:
    """Put the old folder back; where there was none, take the new one away."""
    staged, target = f"{store.root}/{swap.staged}", f"{store.root}/{swap.target}"
    if is_placed:
        _discard_old(spark, store, run_id, swap)
    old = trash(store, run_id, swap.target)
    if files.exists(spark, old):
        if files.exists(spark, target):
            if _exchange(old, target):
                return
            files.delete(spark, staged)
            files.rename(spark, target, staged)
        files.rename(spark, old, target)
    elif is_placed and not swap.replaces:
        files.rename(spark, target, f"{store.trash(run_id)}/undone/{swap.target}")


def _close(spark: SparkSession, store: Store, intent: Intent) -> None:
    for folder in intent.retires:
        if files.exists(spark, f"{store.root}/{folder}"):
            files.rename(spark, f"{store.root}/{folder}", trash(store, intent.run_id, folder))
            point("retired")
    files.rename(spark, store.intent(intent.run_id), store.replaced(intent.run_id))
    point("intent-closed")
    files.delete(spark, store.staging(intent.run_id))


def _holds(spark: SparkSession, folder: str, swap: FolderSwap) -> bool:
    """Whether a folder holds exactly the files that were staged, byte for byte."""
    if files.listdir(spark, folder) != sorted(swap.contents):
        return False
    return all(files.sha256(spark, f"{folder}/{name}") == digest for name, digest in swap.contents.items())


def _read(spark: SparkSession, path: str) -> Intent:
    raw = json.loads(files.read_text(spark, path))
    return Intent(raw["run_id"], [FolderSwap(**swap) for swap in raw["swaps"]], tuple(raw["retires"]), raw["number"])


def trash(store: Store, run_id: str, relative: str) -> str:
    """Where a run moved the folder that it replaced or retired. It stays there for a while: a reader that was listing
    it when it was swapped would find it empty, and believe that, if its files were deleted at once."""
    return f"{store.trash(run_id)}/{relative}"


def _relative(store: Store, path: str) -> str:
    return path.removeprefix(f"{store.root}/")
