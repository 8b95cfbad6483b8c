"""The house's own rules: who may import whom, what lies at the top level, how large a file may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {"jobs", "lm", "schemas", "tests", "pyproject.toml", "Makefile", "README.md"}
ROOMS = {"schemas": {"schemas"}, "lm": {"lm"}, "jobs": {"jobs", "lm", "schemas"}}
SESSION_MODULES = {"session"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).glob("**/*.py"))


def imports(path: Path, *, include_typing: bool = True) -> set[str]:
    """Every module that the file imports anywhere; with include_typing=False not those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if not include_typing and id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(room: str) -> None:
    for path in modules(room):
        ours = {name.split(".")[0] for name in imports(path)} & (set(ROOMS) | {"tests"})
        assert ours <= ROOMS[room], f"{path.relative_to(ROOT)} imports {ours - ROOMS[room]}"


@pytest.mark.parametrize("room", ["lm", "schemas"])
def test_rooms_without_spark(room: str) -> None:
    for path in modules(room):
        assert not {n for n in imports(path) if n.split(".")[0] == "pyspark"}, path


def test_only_the_session_factory_builds_sessions() -> None:
    for path in modules("jobs"):
        if path.stem not in SESSION_MODULES:
            assert "SparkSession.builder" not in path.read_text(encoding="utf-8"), path


def test_jobs_never_import_torch_themselves() -> None:
    for path in modules("jobs"):
        names = {name.split(".")[0] for name in imports(path, include_typing=False)}
        assert not names & {"torch", "transformers"}, path


@pytest.mark.slow
def test_the_driver_plans_without_torch_and_lm_needs_no_spark() -> None:
    script = (
        "import sys; import jobs.nightly, jobs.backfill, jobs.cli, jobs.doctor, jobs.train, jobs.evaluate;"
        "assert 'torch' not in sys.modules, 'torch';"
        "[sys.modules.pop(n) for n in list(sys.modules) if n.split('.')[0] in ('pyspark', 'lm')];"
        "import importlib, pathlib;"
        "[importlib.import_module('lm.' + p.stem) for p in pathlib.Path('lm').glob('[a-z]*.py')];"
        "assert 'pyspark' not in sys.modules, 'pyspark'"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_top_level_is_as_prescribed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL


def test_files_stay_readable() -> None:
    long = {
        str(p.relative_to(ROOT)): n for r in ROOMS for p in modules(r) if (n := len(p.read_text().splitlines())) > 330
    }
    assert not long, f"split these by what they do: {long}"


def test_readme_tree_names_every_file_with_its_purpose() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"<!-- tree -->\n```\n(.*?)```", readme, re.DOTALL)
    assert tree, "README.md has a tree between '<!-- tree -->' and the end of its code block"
    shown, room = set(), ""
    for line in tree.group(1).splitlines():
        name, _, purpose = line.strip().partition(" ")
        assert purpose.strip() or name.endswith("/"), f"{name} has no purpose line"
        if name.endswith("/"):
            room = name
        elif line.startswith(" "):
            shown.add(room + name)
    there = {str(p.relative_to(ROOT)) for r in ROOMS for p in modules(r) if p.name != "__init__.py"}
    assert shown == there
