"""The sellable products in the tokens of one model: a list contains these products and no others.

In titles coding a product is the tokens of its title and a newline; a trie holds all products. In item_tokens coding
a product is one token of the vocabulary; a product that the model does not know has none.
"""

from __future__ import annotations

import hashlib
import json
import re
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
#: Terminal sequences (OSC up to its end, CSI, other escapes), then single control characters and text directions.
_CONTROLS = re.compile(
    "(?:\x1b\\]|\x9d)[^\x07\x1b\x9c]{0,2000}(?:\x07|\x1b\\\\|\x9c)?|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -~]?"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


class CatalogueError(Exception):
    """A saved catalogue is missing or incomplete. The message says what to do."""

    exit_code = 5


class Strings:
    """A sequence of strings over an Arrow array, which may be mapped from disk."""

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

    In item_tokens coding `item_token` is the token of each row, -1 where the model has none, and the trie is empty.
    In titles coding `item_token` is all -1, and the items of the trie are rows.
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
        """The catalogue of products with distinct ids, in the tokens of one model.

        Titles lose their control characters. A product without a title is spelled by its id. Raises ValueError for a
        repeated id and for unequal lengths.
        """
        if len(item_ids) != len(titles):
            raise ValueError(
                f"a catalogue needs one title for each item_id: {len(item_ids)} item_ids, {len(titles)} titles"
            )
        order = pc.sort_indices(pa.array(item_ids, pa.large_string()))
        ids = Strings(pa.array(item_ids, pa.large_string()).take(order))
        names = Strings(pa.array([plain_title(title) for title in titles], pa.large_string()).take(order))
        if len(pc.unique(ids.array)) != len(ids):
            raise ValueError("an item_id occurs twice in the catalogue")
        coding = encoder.manifest.coding
        if coding == "titles":
            tokens, lengths = _title_tokens(ids, names, encoder)
            item_token = np.full(len(ids), -1, np.int32)
        else:
            tokens, lengths = np.zeros(0, np.int32), np.zeros(0, np.int64)
            first = encoder.manifest.first_item_token  # a dictionary for this loop alone: it is long
            token_of = {item: first + code for code, item in enumerate(encoder.manifest.item_ids)}
            item_token = np.fromiter((token_of.get(item, -1) for item in ids), np.int32, len(ids))
        return cls(coding, catalogue_version(item_ids, titles), ids, names, item_token, Trie.build(tokens, lengths))

    def index(self, item_ids: Iterable[str]) -> Int32s:
        """The row of each item_id, -1 where the catalogue lacks it."""
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
        """Write the catalogue into a directory. `catalogue.json` is written last and marks it as complete."""
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
        """Map a saved catalogue into memory that the workers of a host share.

        Raises CatalogueError for an incomplete catalogue and for one of another format.
        """
        mend = "run the night again, which builds it again"
        try:
            about = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise CatalogueError(f"catalogue {folder} has format {about['format']}, not {FORMAT}: {mend}")
            trie = Trie.load(folder)
            item_token = np.load(folder / "item_token.npy", mmap_mode="c", allow_pickle=False)
            with pa.memory_map(str(folder / "items.arrow")) as source:
                table = pa.ipc.open_file(source).read_all()
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise CatalogueError(f"catalogue {folder} is incomplete ({type(error).__name__}): {mend}") from error
        if not len(item_token) == len(table) == about["items"]:
            raise CatalogueError(f"catalogue {folder} mixes files of different catalogues: {mend}")
        ids, titles = _strings(table, "item_id"), _strings(table, "title")
        return cls(about["coding"], about["version"], ids, titles, item_token, trie)


def plain_title(title: str) -> str:
    """A title without terminal sequences, control characters and text directions; tabs and new lines stay."""
    return _CONTROLS.sub("", title)


def catalogue_version(item_ids: Iterable[str], titles: Iterable[str]) -> str:
    """16 hex digits that identify a set of products with their titles, in any order."""
    total = 0
    for item_id, title in zip(item_ids, titles, strict=True):
        pair = f"{len(item_id)}:{item_id}{title}".encode("utf-8", "surrogatepass")
        total += int.from_bytes(hashlib.blake2b(pair, digest_size=8).digest(), "big")
    return f"{total % 2**64:016x}"


def _strings(table: pa.Table, column: str) -> Strings:
    chunks = table[column].chunks
    return Strings(chunks[0] if chunks else pa.array([], pa.large_string()))


def _title_tokens(item_ids: Strings, titles: Strings, encoder: PromptEncoder) -> tuple[Int32s, Int64s]:
    """The concatenated tokens of all products, and the number of tokens of each."""
    tokens: list[Int32s] = [np.zeros(0, np.int32)]
    lengths: list[Int64s] = [np.zeros(0, np.int64)]
    names = (title if product_text(title, None) else item for item, title in zip(item_ids, titles, strict=True))
    while some := list(islice(names, ENCODED_AT_ONCE)):
        answers = encoder.answers(some)
        lengths.append(np.fromiter(map(len, answers), np.int64, len(answers)))
        tokens.append(np.fromiter(chain.from_iterable(answers), np.int32, int(lengths[-1].sum())))
    return np.concatenate(tokens), np.concatenate(lengths)
