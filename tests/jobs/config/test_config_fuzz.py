"""Random configuration files: each is read or refused with one message, never with a stack trace."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config.config import Config, load
from jobs.spark.errors import ConfigurationError

RIGHT = {
    "store": "./store",
    "timezone": "Europe/London",
    "inputs": {"purchases": {"path": "data/p", "columns": {"user_id": "u"}}, "items": {"path": "data/i"}},
    "models": {"recommend": "gpt2"},
    "recommend": {"k": 10},
}
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(),
    st.sampled_from(["../../etc/passwd", "\0",
        "\u202e", "a: b", "{", "!!python/object:os.system", "1e999", "x" * 10_000]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
SECTIONS = st.sampled_from(sorted(Config.model_fields))


def outcome(content: bytes, overrides: Sequence[str] = ()) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "regulars.yaml"
        file.write_bytes(content)
        try:
            load(file, overrides)
        except ConfigurationError:
            return "refused"
    return "read"


@pytest.mark.parametrize(
    "odd",
    [
        "? [a]\n: b", "? {a: b}\n: c", "store: 2026-99-99", "store: !!int x", "store: !!float x",
        "store: !!timestamp x", "store: !!python/object:os.system x", "[" * 3000, "&a [*a]", "a: *b", "<<: [1]",
    ],
)  # fmt: skip
def test_yaml_that_breaks_its_library(odd: str) -> None:
    assert outcome(odd.encode()) == "refused"
    assert outcome(yaml.safe_dump(RIGHT).encode(), [f"recommend.k={odd}"]) == "refused"


@pytest.mark.faults
@settings(max_examples=1000)
@given(
    st.dictionaries(SECTIONS, VALUES, max_size=4),
    st.lists(st.tuples(SECTIONS, st.text(max_size=8), VALUES), max_size=3),
)
def test_any_values_under_our_keys(changes: dict[str, object], deeper: list[tuple[str, str, object]]) -> None:
    content: dict[str, object] = {**RIGHT, **changes}
    for section, key, value in deeper:
        content[section] = {key: value}
    # Any other exception than a ConfigurationError fails here.
    assert outcome(yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "replace")) in ("read", "refused")


@pytest.mark.faults
@settings(max_examples=500)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(content: bytes) -> None:
    assert outcome(content) == "refused"


@pytest.mark.faults
@settings(max_examples=500)
@given(
    st.lists(
        st.text(max_size=30) | st.builds("{}.{}={}".format, SECTIONS, st.text(max_size=8), st.text(max_size=9)),
        max_size=3,
    )
)
def test_any_overrides(overrides: list[str]) -> None:
    assert outcome(yaml.safe_dump(RIGHT).encode(), overrides) in ("read", "refused")
