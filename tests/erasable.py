"""A store of three dates with everything that nights leave behind, written without Spark, and an independent search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.spark.privacy_key import keyed_hash
from jobs.store import date_swap
from jobs.store.date_swap import Intent
from jobs.store.store import Store
from tests.jobs.spark.test_files import NO_SPARK

DAY = date(2026, 3, 1)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
KEY = b"the key of all tests"
USERS = [f"customer-{n:04d}" for n in range(20)]
#: These two are erased. The first shares the prompt of customer-0002, the second has one of its own.
GONE = USERS[:2]
PHRASE = "I play the theremin"


def prompt_of(user: str) -> str:
    return "shared prompt" if user in (USERS[0], USERS[2]) else f"prompt {USERS.index(user)}"


def hash_of(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:32]


def tables(day: date, users: Iterable[str]) -> dict[str, pa.Table]:
    users = list(users)
    hashes = [hash_of(prompt_of(user)) for user in users]
    texts = [PHRASE if user == GONE[1] else prompt_of(user) for user in users]
    return {
        "prompts": pa.table({"user_id": users, "prompt": texts, "prompt_hash": hashes}),
        "recommendations": pa.table(
            {
                "user_id": [user for user in users for _ in range(3)],
                "rank": pa.array([1, 2, 3] * len(users), pa.int32()),
                "score": [-float(n) for n in range(3 * len(users))],
                "prompt_hash": [one for one in hashes for _ in range(3)],
            }
        ),
        "sentiments": pa.table({"review_id": [f"r{n}" for n in range(len(users))], "user_id": users}),
        "answers": pa.table(
            {"question_id": [f"q{n}" for n in range(len(users))], "user_id": [None, *users[1:]], "prompt_hash": hashes}
        ),
        "loyalty": pa.table(
            {"user_id": users, "monetary_value": pa.array(range(len(users)), pa.int32()).cast(pa.decimal128(12, 2))}
        ),
        "quarantine": pa.table(
            {"table": ["purchases"] * len(users), "user_hash": [keyed_hash(KEY, user) for user in users]}
        ),
        "metrics": pa.table({"metric": ["customers"], "slice": [str(day)], "value": [float(len(users))]}),
        "runs": pa.table({"run_id": [str(day)], "rows": pa.array([[("customers", 20)]], pa.map_("string", "int64"))}),
    }


def publish(store: Store, day: date, run_id: str, users: Iterable[str] = USERS) -> None:
    staging = Path(store.staging(run_id))
    swaps = []
    for name, rows in tables(day, users).items():
        (staging / name).mkdir(parents=True)
        half = len(rows) // 2
        several = {f"part-00000-{run_id}": rows.slice(0, half), f"part-00001-{run_id}": rows.slice(half)}
        for part, of_part in (several if name == "recommendations" else {"part-00000": rows}).items():
            pq.write_table(of_part, staging / name / f"{part}.parquet", compression="zstd")
        swaps.append(date_swap.prepare_swap(NO_SPARK, store, str(staging / name), store.date_folder(name, day)))
    number = date_swap.next_publish(NO_SPARK, store)
    date_swap.commit(NO_SPARK, store, Intent(run_id, swaps, number=number))


def write_waves(store: Store) -> None:
    """Two waves of the recommender, with one answer for each prompt, and an empty one of the classifier."""
    prompts = sorted({prompt_of(user) for user in USERS})
    lists = pa.list_(pa.struct({"item_id": pa.string(), "score": pa.float64()}))
    schema = pa.schema({"key": pa.string(), "prompt_hash": pa.string(), "result": lists})
    for name, of in (("recommend/wave=1-a", prompts[:10]), ("recommend/wave=2-b", prompts[10:]), ("sentiment/w", [])):
        folder = Path(store.root, "ledger", name)
        folder.mkdir(parents=True)
        rows = [{"key": p, "prompt_hash": hash_of(p), "result": [{"item_id": p, "score": -1.0}]} for p in of]
        if name.endswith("b"):  # of a night that published nothing
            rows.append({"key": "lost", "prompt_hash": "lost", "result": [{"item_id": PHRASE, "score": -1.0}]})
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part-00000.parquet")


def full_store(store: Store) -> None:
    """Three dates, the first published twice, the ledger, and what killed and failed nights leave."""
    for day in DAYS:
        publish(store, day, f"{day}-run")
    publish(store, DAY, f"{DAY}-again", USERS[:15])
    write_waves(store)
    for room in ("work/killed", "staging/killed", "scratch/train-1"):
        Path(store.root, room).mkdir(parents=True)
        pq.write_table(tables(DAY, USERS)["prompts"], Path(store.root, room, "part-00000.parquet"))
    Path(store.attempts).mkdir()
    failed = {"run_id": "r", "run_date": str(DAY), "status": "failed", "started_at": "s"}
    Path(store.attempt(DAY)).write_text(json.dumps(failed | {"reason": f"bad row of {GONE[0]}, {PHRASE}"}))


def search(root: Path, texts: Iterable[str]) -> list[str]:
    """The files whose bytes or decoded values have one of the texts, by plain search."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += str(pq.read_table(path, partitioning=None).to_pylist()).encode()
            if any(text.encode() in content for text in texts):
                found.append(str(path.relative_to(root)))
    return found


def rows_of_others(store: Store) -> dict[str, list[dict[str, Any]]]:
    """By folder, the rows of every published date and wave that are not of the erased customers."""
    hashes = [keyed_hash(KEY, user) for user in GONE]
    own = {hash_of(prompt_of(GONE[1])), "lost"}
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(Path(store.root).rglob("*.parquet")):
        if path.relative_to(store.root).parts[0] in ("tables", "ledger", "trash"):
            rows = pq.read_table(path, partitioning=None).to_pylist()
            is_wave = "ledger" in path.parts
            found.setdefault(str(path.parent.relative_to(store.root)), []).extend(
                row
                for row in rows
                if row.get("user_id") not in GONE
                and row.get("user_hash") not in hashes
                and not (is_wave and row["prompt_hash"] in own)
            )
    return found
