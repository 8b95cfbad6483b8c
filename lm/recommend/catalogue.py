"""The sellable products as the model spells them: what a recommendation can be, and nothing else.

In titles coding a product is the tokens of its title and a newline, and a trie holds them all; in
item_tokens coding it is one token of the model's vocabulary, or none while the model does not know it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lm.recommend.trie import Int32s, Int64s, Trie
from lm.text.prompt import PromptEncoder
from lm.text.template import product_text

FORMAT = 1
ENCODED_AT_ONCE = 8192
CACHED_ROWS = 200_000


class CatalogueError(Exception):
    """A saved catalogue is missing or incomplete; the message says how to mend it."""

    exit_code = 5


class Strings:
    """Strings in an Arrow array, which may be mapped from disk: no Python object until one is asked for."""

    def __init__(self, array: pa.LargeStringArray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int | np.integer[Any]) -> str:
        return self.array[int(row)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), ENCODED_AT_ONCE):
            yield from self.array.slice(start, ENCODED_AT_ONCE).to_pylist()

    def take(self, rows: NDArray[Any]) -> list[str]:
        """The strings of many rows."""
        return self.array.take(pa.array(rows)).to_pylist()


@dataclass(frozen=True, eq=False)
class Catalogue:
    """I products, in rows ascending by item_id (by code point, as Python and Spark order text).

    `item_token` is the token of each row in item_tokens coding, -1 where the model has none; in titles
    coding it is all -1 and the trie's items are rows. In item_tokens coding the trie is empty.
    """

    coding: Literal["titles", "item_tokens"]
    version: str
    item_ids: Strings  # (I,)
    titles: Strings  # (I,)
    item_token: Int32s  # (I,)
    trie: Trie
    _rows: dict[str, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.item_token)

    @classmethod
    def build(cls, item_ids: Sequence[str], titles: Sequence[str], encoder: PromptEncoder) -> Catalogue:
        """The catalogue of products, each with an id of its own, as one model spells them.

        A product without a title is spelled by its id. Raises ValueError for an id that occurs twice.
        """
        if len(item_ids) != len(titles):
            raise ValueError(f"{len(item_ids)} item_ids and {len(titles)} titles")
        order = pc.sort_indices(pa.array(item_ids, pa.large_string()))
        ids = Strings(pa.array(item_ids, pa.large_string()).take(order))
        names = Strings(pa.array(titles, pa.large_string()).take(order))
        if len(pc.unique(ids.array)) != len(ids):
            raise ValueError("an item_id occurs twice in the catalogue")
        coding = encoder.manifest.coding
        if coding == "titles":
            tokens, lengths = _answers(ids, names, encoder)
            item_token = np.full(len(ids), -1, np.int32)
        else:
            tokens, lengths = np.zeros(0, np.int32), np.zeros(0, np.int64)
            item_token = np.fromiter((encoder.item_tokens.get(item, -1) for item in ids), np.int32, len(ids))
        return cls(coding, version(item_ids, titles), ids, names, item_token, Trie.build(tokens, lengths))

    def index(self, item_ids: Iterable[str]) -> Int32s:
        """The row of each item_id, -1 for one that is not in the catalogue."""
        return np.fromiter((self._row(item_id) for item_id in item_ids), np.int32)

    def _row(self, item_id: str) -> int:
        row = self._rows.get(item_id)
        if row is None:
            if len(self._rows) >= CACHED_ROWS:
                self._rows.clear()
            row = bisect_left(self.item_ids, item_id)
            if row == len(self) or self.item_ids[row] != item_id:
                row = -1
            self._rows[item_id] = row
        return row

    def save(self, folder: Path) -> None:
        """Write the catalogue into a directory, `catalogue.json` last: without it nothing was saved."""
        folder.mkdir(parents=True, exist_ok=True)
        marker = folder / "catalogue.json"
        marker.unlink(missing_ok=True)
        self.trie.save(folder)
        np.save(folder / "item_token.npy", self.item_token, allow_pickle=False)
        table = pa.table({"item_id": self.item_ids.array, "title": self.titles.array})
        with pa.OSFile(str(folder / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        about = {"format": FORMAT, "coding": self.coding, "version": self.version, "items": len(self)}
        marker.write_text(json.dumps(about) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Catalogue:
        """A saved catalogue, mapped: the workers of a host share its memory.

        Raises CatalogueError when it was not saved whole or by another version of Regulars.
        """
        mend = "build it again by running the night again"
        try:
            about = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise CatalogueError(f"catalogue {folder} has format {about['format']}, not {FORMAT}: {mend}")
            trie = Trie.load(folder)
            item_token = np.load(folder / "item_token.npy", mmap_mode="c", allow_pickle=False)
            with pa.memory_map(str(folder / "items.arrow")) as source:
                table = pa.ipc.open_file(source).read_all()
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise CatalogueError(f"catalogue {folder} is not whole ({type(error).__name__}): {mend}") from error
        if not len(item_token) == len(table) == about["items"]:
            raise CatalogueError(f"catalogue {folder} has files of different catalogues: {mend}")
        ids, titles = _strings(table, "item_id"), _strings(table, "title")
        return cls(about["coding"], about["version"], ids, titles, item_token, trie)


def version(item_ids: Iterable[str], titles: Iterable[str]) -> str:
    """16 hex digits that depend on the set of products with their titles, not on their order."""
    total = 0
    for item_id, title in zip(item_ids, titles, strict=True):
        pair = f"{len(item_id)}:{item_id}{title}".encode("utf-8", "surrogatepass")
        total += int.from_bytes(hashlib.blake2b(pair, digest_size=8).digest(), "big")
    return f"{total % 2**64:016x}"


def _strings(table: pa.Table, column: str) -> Strings:
    chunks = table[column].chunks
    return Strings(chunks[0] if chunks else pa.array([], pa.large_string()))


def _answers(item_ids: Strings, titles: Strings, encoder: PromptEncoder) -> tuple[Int32s, Int64s]:
    """The tokens of every product one after the other, and how many each has."""
    tokens: list[Int32s] = [np.zeros(0, np.int32)]
    lengths: list[Int64s] = [np.zeros(0, np.int64)]
    names = (title if product_text(title, None) else item for item, title in zip(item_ids, titles, strict=True))
    while some := list(islice(names, ENCODED_AT_ONCE)):
        answers = encoder.answers(some)
        lengths.append(np.fromiter(map(len, answers), np.int64, len(answers)))
        tokens.append(np.fromiter(chain.from_iterable(answers), np.int32, int(lengths[-1].sum())))
    return np.concatenate(tokens), np.concatenate(lengths)
