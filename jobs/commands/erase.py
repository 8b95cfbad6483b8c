"""`regulars erase`: takes customers out of a store, proves it by a search of every byte, and writes a receipt.

For whoever answers a request to be forgotten. Models learned from these customers are listed, and only a new training
forgets them. The shop's own tables are not touched: while they have the customers' rows, the next night writes them
again, so delete these rows or put the ids into `optouts`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from jobs.config.config import Config
from jobs.config.privacy import privacy_key
from jobs.inputs.validation import clean_id
from jobs.spark import executor_files, files
from jobs.spark.errors import GateRefused, StoreBusy, UsageError
from jobs.spark.fault_points import point
from jobs.spark.privacy_key import keyed_hash
from jobs.store import store_format
from jobs.store.byte_scan import Needles, Scan, scan
from jobs.store.delta_tables import DeltaTables, forget_delta_history, update_delta_tables
from jobs.store.erasure import Erasure, erase_customers, unattributed_rows
from jobs.store.filtered_parquet import Unwanted
from jobs.store.lock import lock
from jobs.store.publish import recover
from jobs.store.scratch import live_scratch, reading_ledger, rewriting_ledger
from jobs.store.store import Store
from jobs.tasks.all_tasks import TASKS
from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import MANIFEST_FILE, read_manifest


@dataclass(frozen=True)
class _Customers:
    """The customers to forget, in every form in which a store may have them."""

    unwanted: Unwanted
    needles: Needles


def erase(
    spark: SparkSession,
    config: Config,
    users: Path,
    console: Console,
    *,
    phrases: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Take the customers of the file `users` (one id a line) out of the store; return the receipt.

    With `dry_run` only count. Raises UsageError for a file without ids, StoreBusy while another command writes or reads
    the ledger, or where its scratch folder has one of the ids, and GateRefused where the search finds one of the ids or
    `phrases` elsewhere; the receipt names the files.
    """
    ids = _lines(users, "--users")
    texts = _lines(phrases, "--phrases") if phrases is not None else []
    store, run_id = Store(config.store), f"erase-{uuid.uuid4().hex[:8]}"
    key, delta = privacy_key(spark, config), DeltaTables.of(config.publish)
    customers = _customers(ids, texts, key)
    with ExitStack() as held:
        if dry_run:
            held.enter_context(reading_ledger(spark, store, "erase-dry-run"))
        else:
            held.enter_context(lock(spark, store, run_id))
            held.enter_context(rewriting_ledger(spark, store, "erase"))
            told = [*store_format.check_format(spark, store), *recover(spark, store, config.publish.keep_publishes)]
            for line in told:
                console.print(line, highlight=False)
        counted = erase_customers(spark, store, run_id, customers.unwanted, customers.needles, dry_run=True)
        known = sum(bool({one, keyed_hash(key, one)} & counted.user_ids) for one in ids)
        learned = _models(config, counted.first_date)
        if dry_run:
            _show(console, counted, known, len(ids), learned, column="to erase")
            return {}
        reports = files.listdir(spark, f"{store.root}/reports")
        receipt: dict[str, Any] = {
            "run_id": run_id,
            "state": "begun",  # stays where this run is killed; the next one counts only what is left
            "begun_at": _now(),
            "customers": len(ids),
            "customers_found": known,
            # The hash of one id alone would be an id that the search below finds.
            "customers_hash": keyed_hash(key, "\n".join(["erased customers", *sorted(ids)])),
            "rows": {name: count for name, count in sorted(counted.rows.items()) if count},
        }
        path = store.receipt(run_id)
        files.write_text(spark, path, json.dumps(receipt, indent=1, sort_keys=True))
        done = erase_customers(spark, store, run_id, customers.unwanted, customers.needles, dry_run=False)
        if delta is not None:
            update_delta_tables(spark, store, delta)
            forget_delta_history(delta, store)
        roots = [store.root, *([delta.root] if delta is not None and files.local(delta.root) else [])]
        found = scan(spark, roots, customers.needles, skip=(store.lock_file,))
        receipt |= {
            "state": "done",
            "ended_at": _now(),
            "shared_answers_kept": done.shared_answers,
            "files": done.written,
            "searched": {"files": found.files, "bytes": found.size},
            "remains": _remains(spark, store, found, learned),
        }
        files.write_text(spark, path, json.dumps(receipt, indent=1, sort_keys=True))
        point("receipt-written")
    _show(console, counted, known, len(ids), learned, column="erased")
    for line in (f"Receipt: {path}", *_advice(config, reports)):
        console.print(line, highlight=False, markup=False)
    if found.found and all(_room(name) == "scratch" for name in found.found):
        raise StoreBusy(
            f"{len(found.found):,} files of a running command still have an id or a phrase. That command deletes them "
            "at its end. Everything else is erased. Run the same command again when it has ended. The receipt "
            f"{path} names the files."
        )
    if found.found:
        raise GateRefused(
            f"{len(found.found):,} files still have an id or a phrase: {', '.join(sorted(found.found)[:5])}. The "
            f"receipt {path} says why. Everything else is erased. Delete or correct these files, then run the same "
            "command again."
        )
    return receipt


def _advice(config: Config, reports: Sequence[str]) -> Iterator[str]:
    """Say how to write the deleted reports again, and what keeps the customers out of the next night."""
    for day in sorted(name.removeprefix("run_date=") for name in reports):
        yield f"The report of {day} is deleted. To write it again: {config.command('report', f'--run-date {day}')}"
    yield (
        "The next night writes these customers again while the shop's tables have their rows. Delete these rows, or "
        "put the ids into inputs.optouts."
    )


def _customers(ids: Sequence[str], phrases: Sequence[str], key: bytes) -> _Customers:
    """Return the customers with their ids, pseudonyms, and the hashes that `quarantine` may have of them."""
    pseudonyms = [keyed_hash(key, one) for one in ids]
    plain = [hashlib.sha256(one.encode()).hexdigest() for one in ids]  # of earlier releases
    keyed = [keyed_hash(key, one) for one in plain]
    unwanted = {
        "user_id": pa.array([*ids, *pseudonyms], pa.string()),
        "user_hash": pa.array(pseudonyms, pa.string()),
        "key_hash": pa.array([*plain, *keyed], pa.string()),
    }
    return _Customers(unwanted, Needles([*ids, *pseudonyms], phrases))


def _lines(path: Path, option: str) -> list[str]:
    """Return the distinct lines of a file, cleaned as ids of inputs are, without the header `user_id`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: {path} cannot be read as text in UTF-8 ({type(error).__name__})") from None
    lines = [clean_id(line) for line in text.splitlines()]
    found = list(dict.fromkeys(line for line in lines if line and line != "user_id"))
    if not found:
        raise UsageError(f"{option}: {path} has no line with text: write one a line")
    return found


def _models(config: Config, first_date: date | None) -> list[dict[str, str]]:
    """Return the configured models, and those beside them, that a training of ours wrote, and whether it read them."""
    found = []
    for task in TASKS:
        configured = getattr(config.models, task.NAME)
        if configured is None or executor_files.is_remote(configured):
            continue
        folder = Path(configured)
        beside = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
        for one in dict.fromkeys([folder, *(other for other in beside if other.is_dir())]):
            try:
                manifest = read_manifest(one) if (one / MANIFEST_FILE).is_file() else None
            except CheckpointError:
                continue
            if manifest is None or manifest.task != task.NAME or manifest.trained_as_of is None:
                continue
            until = manifest.trained_as_of
            said = "its training read events of them" if first_date and until >= first_date else "its training may have"
            said += f" (events up to {until}); train again once their rows have left the inputs"
            found.append({"model": f"models.{task.NAME}", "folder": str(one), "learned": said})
    return found


def _remains(
    spark: SparkSession, store: Store, found: Scan, learned: list[dict[str, str]]
) -> list[dict[str, str | int]]:
    """Return what may still hold something of the customers, and why, without any id or phrase."""
    remains: list[dict[str, str | int]] = [
        {"path": path, "times": times, "why": _why(path)} for path, times in sorted(found.found.items())
    ]
    for name in live_scratch(spark, store):
        remains.append({"path": f"scratch/{name}", "why": "a running command deletes it at its end"})
    for model in learned:
        remains.append({"path": model["folder"], "why": f"{model['model']}: {model['learned']}"})
    for table, rows in unattributed_rows(spark, store).items():
        why = "dates of an earlier release do not say whose a row is; no row has an id"
        remains.append({"path": f"tables/{table}", "rows": rows, "why": why})
    if files.listdir(spark, store.ledger("sentiment")):
        why = "its keys are hashes of redacted review texts; the rows hold probabilities, no text and no id"
        remains.append({"path": "ledger/sentiment", "why": why})
    return remains


def _why(path: str) -> str:
    return {
        "settings": "settings of a night name it, for example in a condition of the configuration",
        "tables": "a text names it, or an id that other values have too",
        "ledger": "an answer's text names it",
        "scratch": "a running command deletes it at its end",
    }.get(_room(path), "Regulars did not write it, or another command writes it now")


def _room(path: str) -> str:
    return path.partition("/")[0]


def _show(
    console: Console, counted: Erasure, known: int, asked: int, learned: list[dict[str, str]], *, column: str
) -> None:
    """Print the rows that go, under `column`, how many customers they are of, and the models that learned from them."""
    table = Table("rows of", column)
    for name, count in sorted(counted.rows.items()):
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print(f"{known:,} of {asked:,} customers have rows in the tables", highlight=False)
    for model in learned:
        console.print(f"{model['model']} ({model['folder']}): {model['learned']}", highlight=False, markup=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
