"""Random configuration files: each is read or refused with one message, never with a stack trace."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class TooSlow(BaseException):
    """Not an Exception: no handler of errors may swallow it."""


@contextmanager
def limited_to(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    usual = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)


def nested_merges(levels: int, width: int) -> str:
    """Each level merges the one before `width` times: width ** levels keys."""
    lines = ["a0: &a0 {x: 1}"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * width)}]}}")
    return "\n".join(lines)


def nested_lists(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]")
    return "\n".join([*lines, f"store: *a{levels - 1}"])


KEYS = "store: s\ntimezone: UTC\ninputs: {purchases: {path: p}, items: {path: i}}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (nested_merges(30, 9), "`<<` merges more than 1000 keys"),
        (nested_lists(30, 9), "store must be text"),
        ("[" * 200_000, "is nested too deeply"),
        ("a: &a {<<: *a}", "is nested too deeply"),
        ("{a: " * 50_000, "is nested too deeply"),
        ("- " * 100_000 + "x", "is nested too deeply"),
        ("store: " + "x" * 1_000_000, "is larger than 256 KiB, so it is no configuration"),
        ("\n".join(f"k{n}: 1" for n in range(20_000)), "and 19983 more"),
        (KEYS + f"recommend: {{k: {'1:' * 50_000}1}}", "this is no int: put it in quotes"),
        (KEYS + "recommend: {k: 99999999999}", "recommend: k is too large: write a number up to 2147483647"),
        (KEYS + "ledger: {wave_minutes: .inf}", "ledger.wave_minutes: it should be a finite number"),
        (KEYS + "spark: {a: 99999999999999999999}", "spark: a number is too large: put it in quotes"),
        (KEYS.replace("store: s", "store: ''"), "store: it should have at least 1 character"),
        (KEYS.replace("store: s", 'store: "a\\0b"'), "store has a NUL character"),
        (KEYS.replace("store: s", "store: ~nobody-knows/x"), "there is no such home folder"),
        (KEYS + "1: x", "1: a key must be text; put it in quotes"),
        (KEYS + f"? {'x' * 9000}\n: 1", "x… is not a key"),
    ],
)
def test_absurd_files_are_refused_with_one_short_message_within_seconds(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "regulars.yaml").write_text(text, encoding="utf-8")
    with limited_to(20), pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "regulars.yaml")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 10_000


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
