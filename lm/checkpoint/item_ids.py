"""The ids of many products in an Arrow file that is mapped into memory, with a table of hashes to find an id's code.

A list and a dictionary of a million ids take some 200 MB in every worker; the mapped file takes 30 MB once a host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ITEM_IDS_FILE = "item_ids.arrow"
_ITERATED_AT_ONCE = 8192


class ItemIds(Sequence[str]):
    """N distinct ids by their codes. `hashes` (N,) ascend, and `codes` (N,) are those of their ids."""

    def __init__(self, ids: pa.LargeStringArray, hashes: NDArray[np.uint64], codes: NDArray[np.int32]) -> None:
        self._ids, self._hashes, self._codes = ids, hashes, codes

    @classmethod
    def of(cls, ids: Sequence[str]) -> ItemIds:
        """Hash ids. Raises ValueError for an id that occurs twice."""
        hashes = np.fromiter(map(_hash, ids), np.uint64, len(ids))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        found = cls(pa.array(ids, pa.large_string()), hashes[order], order)
        same = np.flatnonzero(np.diff(found._hashes) == 0)
        if any(ids[order[place]] == ids[order[place + 1]] for place in same):
            raise ValueError("item_ids holds an item twice")
        return found

    def save(self, file: Path) -> None:
        """Write the file in one rename."""
        table = pa.table({"item_id": self._ids, "hash": self._hashes, "code": self._codes})
        new = file.with_suffix(".new")
        with pa.OSFile(str(new), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        new.replace(file)

    @classmethod
    def load(cls, file: Path) -> ItemIds:
        """Map a file. Raises OSError, KeyError and pyarrow's ArrowInvalid where it is broken."""
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        ids, hashes, codes = (table.column(name).chunks[0] for name in ("item_id", "hash", "code"))
        return cls(ids, hashes.to_numpy(), codes.to_numpy())

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, code: int) -> str: ...
    @overload
    def __getitem__(self, code: slice) -> list[str]: ...
    def __getitem__(self, code: int | slice) -> Any:
        return self._ids[code].to_pylist() if isinstance(code, slice) else self._ids[code].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _ITERATED_AT_ONCE):
            yield from self._ids.slice(start, _ITERATED_AT_ONCE).to_pylist()

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and self.code(item_id) is not None

    def code(self, item_id: str) -> int | None:
        """The code of an id, None for an unknown one."""
        hashed = _hash(item_id)
        place = int(self._hashes.searchsorted(np.uint64(hashed)))
        while place < len(self) and self._hashes[place] == hashed:
            code = int(self._codes[place])
            if self[code] == item_id:
                return code
            place += 1
        return None


class ItemTokens(Mapping[str, int]):
    """The token of each product: `first` is that of the first."""

    def __init__(self, ids: ItemIds, first: int) -> None:
        self._ids, self._first = ids, first

    def __getitem__(self, item_id: str) -> int:
        code = self._ids.code(item_id)
        if code is None:
            raise KeyError(item_id)
        return self._first + code

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def item_tokens(ids: Sequence[str], first: int) -> Mapping[str, int]:
    """The token of each product, as a dictionary where there are few."""
    return ItemTokens(ids, first) if isinstance(ids, ItemIds) else {item: first + i for i, item in enumerate(ids)}


def _hash(item_id: str) -> int:
    digest = hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
