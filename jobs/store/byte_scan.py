"""Searches every byte of a store for customers' ids and for phrases, in decoded Parquet values too.

An id counts where no letter or digit stands beside it: C12 is not in C123. Bytes of compressed pages form short texts
by chance, so ids under six characters are searched in decoded values of Parquet files only. Ids under four characters
count where they are a whole value, or stand in quotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ahocorasick_rs import BytesAhoCorasick
from pyspark.sql import SparkSession

from jobs.spark import files

_MIN_RAW, _MIN_TEXT = 6, 4
#: Bytes that are read at once; neighbouring blocks overlap by the longest needle.
_BLOCK = 16_000_000
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_IS_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary)
_NUMBER = frozenset(b"0123456789.")


@dataclass
class Scan:
    """How much was searched, and how often something was found by path."""

    files: int = 0
    size: int = 0
    found: dict[str, int] = field(default_factory=dict)


class Needles:
    """Ids and phrases to search for."""

    def __init__(self, ids: Sequence[str], phrases: Sequence[str] = ()) -> None:
        self._texts = [text.encode() for text in (*ids, *phrases) if text]
        self._is_phrase = [False] * sum(map(bool, ids)) + [True] * sum(map(bool, phrases))
        self._automaton = BytesAhoCorasick(self._texts) if self._texts else None
        self.short_ids = pa.array(sorted({text for text in ids if 0 < len(text.encode()) < _MIN_TEXT}), pa.string())
        self.longest = max(map(len, self._texts), default=0)

    def count_in_text(self, text: bytes) -> int:
        """Return how often ids or phrases stand in decoded text; an id of one to three characters only in quotes."""
        return self._count(text, _MIN_TEXT, is_raw=False)

    def count_in_raw(self, block: bytes) -> int:
        """Return how often phrases, and ids of six or more characters, stand in the bytes of a Parquet file."""
        return self._count(block, _MIN_RAW, is_raw=True)

    def _count(self, text: bytes, least: int, *, is_raw: bool) -> int:
        if self._automaton is None:
            return 0
        matches = self._automaton.find_matches_as_indexes(text, overlapping=True)
        return sum(self._counts(text, number, start, end, least, is_raw) for number, start, end in matches)

    def _counts(self, text: bytes, number: int, start: int, end: int, least: int, is_raw: bool) -> bool:
        if self._is_phrase[number]:
            return True
        needle = self._texts[number]
        before, after = text[start - 1 : start], text[end : end + 1]
        if len(needle) < least:
            return not is_raw and before == after == b'"'
        beside = _NUMBER | _WORD if needle.isdigit() else _WORD
        starts = not before or before[0] not in beside or (is_raw and before[0] == len(needle))
        return starts and (not after or after[0] not in beside)


def scan(spark: SparkSession, roots: Sequence[str], needles: Needles, skip: Sequence[str] = ()) -> Scan:
    """Search all files below the `roots` but those in `skip`. Paths in the result are relative to their root."""
    done = Scan()
    for root in roots:
        for path in files.walk(spark, root):
            if path in skip:
                continue
            try:
                count = _in_file(spark, path, needles, done)
            except FileNotFoundError:  # a running command deleted its own file
                continue
            count += needles.count_in_text(path.removeprefix(root).encode())
            if count:
                done.found[path.removeprefix(f"{root}/")] = count
    return done


def _in_file(spark: SparkSession, path: str, needles: Needles, done: Scan) -> int:
    with files.local_copy(spark, path) as here:
        is_parquet = here.suffix == ".parquet"
        count = needles.count_in_raw if is_parquet else needles.count_in_text
        found, rest = 0, b""
        done.files += 1
        with here.open("rb") as stream:
            while block := stream.read(_BLOCK):
                done.size += len(block)
                found += count(rest + block) - count(rest)
                rest = block[-needles.longest :] if needles.longest else b""
        return found + (_in_values(here, needles) if is_parquet else 0)


def _in_values(path: Path, needles: Needles) -> int:
    with pq.ParquetFile(path) as source:
        return sum(count_in_table(source.read_row_group(group), needles) for group in range(source.num_row_groups))


def count_in_table(rows: pa.Table, needles: Needles) -> int:
    """Return how often ids or phrases stand in the texts of a table, at any depth."""
    found = 0
    for column in rows.columns:
        for values in _texts(column.combine_chunks()):
            found += needles.count_in_text(b"\0".join(values.drop_null().cast(pa.large_binary()).to_pylist()))
            found += pc.sum(pc.is_in(values, value_set=needles.short_ids)).as_py() or 0
    return found


def _texts(values: pa.Array) -> Iterator[pa.Array]:
    """Yield the arrays of strings that a column has, also inside lists, structs and maps."""
    kind = values.type
    if isinstance(values, pa.ChunkedArray):
        for chunk in values.chunks:
            yield from _texts(chunk)
    elif any(is_text(kind) for is_text in _IS_TEXT):
        yield values.cast(pa.string())
    elif pa.types.is_map(kind):
        yield from _texts(values.keys)
        yield from _texts(values.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(values.values)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _texts(values.field(number))
