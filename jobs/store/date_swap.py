"""Replaces folders so that a crash at any point leaves each folder old or new, never mixed.

An intent record lists all folders to replace, with the hashes of their files, and all folders to retire. It is written
once all staged folders are checked. After a crash, `recover_intents` finishes the work at the start of the next writing
command. Local file systems exchange the old and the new folder atomically. Elsewhere the old folder is renamed away
first, so for an instant readers find no folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from pyspark.sql import SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError
from jobs.spark.fault_points import point
from jobs.store.lock import require_lock
from jobs.store.store import Store, date_of, is_name
from lm.checkpoint.folder_exchange import exchange_folders


@dataclass(frozen=True)
class FolderSwap:
    """One folder to replace. Paths are relative to the store, so a moved store can recover too."""

    staged: str
    target: str
    replaces: bool  # whether the target existed before
    contents: dict[str, str]  # SHA-256 of each staged file by its name


@dataclass(frozen=True)
class Intent:
    """The changes of one run; the folders in `retires` move to the trash after the last swap.

    Publishes are numbered from 1 in their order; 0 marks a change that rollback ignores. A closed intent stays in the
    trash with the folders that it replaced.
    """

    run_id: str
    swaps: Sequence[FolderSwap]
    retires: Sequence[str] = field(default=())
    number: int = 0


#: The intents that this process has opened, and those of them that it has closed, in order.
_begun: list[Intent] = []
_finished: list[Intent] = []


def prepare_swap(spark: SparkSession, store: Store, staged: str, target: str) -> FolderSwap:
    """Flush a checked staged folder to disk and describe its swap with `target`."""
    files.sync(staged)
    names = files.listdir(spark, staged)
    contents = dict(zip(names, _digests(spark, staged, names), strict=True))
    return FolderSwap(_relative(store, staged), _relative(store, target), files.exists(spark, target), contents)


def commit(spark: SparkSession, store: Store, intent: Intent) -> None:
    """Write the intent, do all swaps, retire folders, close the intent and delete the run's staging folder."""
    _begun.append(intent)
    files.write_text(spark, store.intent(intent.run_id), json.dumps(asdict(intent), indent=1))
    point("intent-opened")
    for swap in intent.swaps:
        _put_in_place(spark, store, intent.run_id, swap)
    _close(spark, store, intent)
    _finished.append(intent)


def published_so_far() -> str:
    """Say what this process has published, for the message of a command that ends early."""
    said = []
    if _finished:
        said.append(f"Finished before that: {_dates(_finished)}.")
    open_intents = _begun[len(_finished) :]
    if open_intents:
        said.append(f"{_dates(open_intents)} was being published: the next command that writes finishes or undoes it.")
    return " ".join(said) or "Nothing was published."


def _dates(intents: Sequence[Intent]) -> str:
    names = [folder.rpartition("/")[2].removeprefix("run_date=") for one in intents for folder in _changed(one)]
    return ", ".join(dict.fromkeys(names))


def closed_intents(spark: SparkSession, store: Store) -> list[Intent]:
    """Return the publishes whose replaced folders are still in the trash, oldest first."""
    records = [store.replaced(name) for name in files.listdir(spark, f"{store.root}/trash") if is_name(name)]
    found = [_read(spark, store, record) for record in records if files.exists(spark, record)]
    return sorted((intent for intent in found if intent.number), key=lambda intent: intent.number)


def next_publish(spark: SparkSession, store: Store) -> int:
    """Return the number of the next publish."""
    return 1 + max((intent.number for intent in closed_intents(spark, store)), default=0)


def recover_intents(spark: SparkSession, store: Store) -> list[str]:
    """Finish each open intent, or undo it where staged files are damaged; return one line for each."""
    done = []
    for name in files.listdir(spark, store.intents):
        path = f"{store.intents}/{name}"
        if name.endswith(".json"):
            done.append(_recover(spark, store, _read(spark, store, path)))
        else:
            files.delete(spark, path)  # an unfinished record: the publish had changed nothing yet
    return done


def _recover(spark: SparkSession, store: Store, intent: Intent) -> str:
    """Finish one intent. Staged files were checked before it was written, so it is undone only if files are damaged."""
    staged = [_has_contents(spark, f"{store.root}/{swap.staged}", swap) for swap in intent.swaps]
    placed = [_has_contents(spark, f"{store.root}/{swap.target}", swap) for swap in intent.swaps]
    targets = ", ".join(swap.target for swap in intent.swaps) or ", ".join(intent.retires)
    if not all(here or there for here, there in zip(staged, placed, strict=True)):
        for swap, is_placed in zip(intent.swaps, placed, strict=True):
            _undo(spark, store, intent.run_id, swap, is_placed=is_placed)
        files.delete(spark, store.intent(intent.run_id))
        files.delete(spark, store.staging(intent.run_id))
        return f"undid run {intent.run_id}, whose staged files are damaged: the old data stays in {targets}"
    for swap, is_placed in zip(intent.swaps, placed, strict=True):
        if is_placed:
            _discard_old(spark, store, intent.run_id, swap)
        else:
            _put_in_place(spark, store, intent.run_id, swap)
    _close(spark, store, intent)
    return f"finished the interrupted publish of run {intent.run_id}: {targets}"


def _put_in_place(spark: SparkSession, store: Store, run_id: str, swap: FolderSwap) -> None:
    require_lock(spark, store)
    staged, target = f"{store.root}/{swap.staged}", f"{store.root}/{swap.target}"
    if files.exists(spark, target):
        if _exchange(staged, target):
            point("swap-exchanged")
            _discard_old(spark, store, run_id, swap)
            point("swap-done")
            return
        files.rename(spark, target, trash_folder(store, run_id, swap.target))
        point("swap-moved-out")
    files.rename(spark, staged, target)
    point("swap-done")


def _exchange(one: str, other: str) -> bool:
    """Exchange two folders atomically; return False, without a change, where the file system cannot."""
    here, there = files.local(one), files.local(other)
    return here is not None and there is not None and exchange_folders(here, there)


def _discard_old(spark: SparkSession, store: Store, run_id: str, swap: FolderSwap) -> None:
    """Move the old folder to the trash; an exchange left it at the staged path."""
    left = f"{store.root}/{swap.staged}"
    if files.exists(spark, left):
        files.rename(spark, left, trash_folder(store, run_id, swap.target))


def _undo(spark: SparkSession, store: Store, run_id: str, swap: FolderSwap, *, is_placed: bool) -> None:
    """Restore the old folder; where there was none, remove the new one."""
    staged, target = f"{store.root}/{swap.staged}", f"{store.root}/{swap.target}"
    if is_placed:
        _discard_old(spark, store, run_id, swap)
    old = trash_folder(store, run_id, swap.target)
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
        require_lock(spark, store)
        if files.exists(spark, f"{store.root}/{folder}"):
            files.rename(spark, f"{store.root}/{folder}", trash_folder(store, intent.run_id, folder))
            point("retired")
    files.rename(spark, store.intent(intent.run_id), store.replaced(intent.run_id))
    point("intent-closed")
    files.delete(spark, store.staging(intent.run_id))


def _has_contents(spark: SparkSession, folder: str, swap: FolderSwap) -> bool:
    """Return whether a folder holds exactly the staged files, compared by hash."""
    names = sorted(swap.contents)
    if files.listdir(spark, folder) != names:
        return False
    return _digests(spark, folder, names) == [swap.contents[name] for name in names]


def _digests(spark: SparkSession, folder: str, names: Sequence[str]) -> list[str]:
    return files.each(lambda name: files.sha256(spark, f"{folder}/{name}"), names)


def _read(spark: SparkSession, store: Store, path: str) -> Intent:
    """Read an intent record. Raises ConfigurationError where it is damaged or names a path outside its folders."""
    try:
        raw = json.loads(files.read_text(spark, path))
        swaps = [FolderSwap(**swap) for swap in raw["swaps"]]
        intent = Intent(raw["run_id"], swaps, tuple(raw["retires"]), raw["number"])
        _check_types(intent)
        is_ours = path in (store.intent(intent.run_id), store.replaced(intent.run_id))
        staged = all(_lies_in(store, swap.staged, ("staging", "trash")) for swap in swaps)
        placed = all(_is_date_or_wave(store, folder) for folder in _changed(intent))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IsADirectoryError):
        # RuntimeError: a loop of links, or brackets nested too deeply.
        is_ours = staged = placed = False
    if is_ours and staged and placed:
        return intent
    raise ConfigurationError(
        f"store: {path} is damaged, or names paths outside the store, and nothing was changed. Find out who wrote it, "
        "delete it, and run the same command again. If a publish was under way, run its date again afterwards."
    )


def _check_types(intent: Intent) -> None:
    """Raise TypeError where a value that comes from JSON has another type than the field."""
    hashes = [swap.contents for swap in intent.swaps]
    if type(intent.number) is not int or not all(isinstance(swap.replaces, bool) for swap in intent.swaps):
        raise TypeError("number and replaces")
    if not all(isinstance(one, dict) and all(isinstance(digest, str) for digest in one.values()) for one in hashes):
        raise TypeError("contents")


def _is_date_or_wave(store: Store, path: str) -> bool:
    """Return whether the path is `tables/<table>/run_date=YYYY-MM-DD`, `state/dates/...` or `ledger/<task>/<wave>`."""
    room, *below = path.split("/")
    if len(below) != 2 or not _lies_in(store, path, ("tables", "state", "ledger")):
        return False
    return room == "ledger" or date_of(below[1]) is not None


def _lies_in(store: Store, path: str, rooms: Sequence[str]) -> bool:
    """Return whether a path lies in one of the rooms, and no link among its parents leads out of the store."""
    parts = path.split("/")
    if len(parts) < 2 or parts[0] not in rooms or {"", ".", ".."} & set(parts):
        return False
    here = files.local(store.root)
    return here is None or (here / path).parent.resolve().is_relative_to(here.resolve())


def _changed(intent: Intent) -> list[str]:
    return [*(swap.target for swap in intent.swaps), *intent.retires]


def trash_folder(store: Store, run_id: str, relative: str) -> str:
    """Return the path to which a run moves a replaced or retired folder.

    Deleting it at once could give an empty result to a reader that has just listed the old folder.
    """
    return f"{store.trash(run_id)}/{relative}"


def _relative(store: Store, path: str) -> str:
    return path.removeprefix(f"{store.root}/")
