"""The house's own rules: who may import whom, what lies at the top level, what lies in which room."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

TOP_LEVEL = {"jobs", "lm", "schemas", "tests", "pyproject.toml", "Makefile", "README.md"}
FRONT_DOOR = {"jobs/__init__.py", "jobs/nightly.py", "jobs/backfill.py", "jobs/cli.py", "lm/__init__.py"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("**/*.py"))


def test_import_contracts_of_pyproject_hold() -> None:
    """The contracts say who may import whom; `lint-imports` prints them and the chain that breaks one."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_module_lives_in_a_room() -> None:
    for package in ("jobs", "lm"):
        outside = {str(path.relative_to(ROOT)) for path in (ROOT / package).glob("*.py")} - FRONT_DOOR
        assert not outside, f"move these into a room: {outside}"


def test_every_room_says_in_one_sentence_what_lives_there() -> None:
    for package in ("jobs", "lm"):
        for folder in {path.parent for path in modules(package)}:
            lines = (folder / "__init__.py").read_text(encoding="utf-8").splitlines()
            assert lines, f"{folder.relative_to(ROOT)}/__init__.py is empty"
            assert lines[0].startswith('"""'), folder


@pytest.mark.parametrize("package", ["jobs", "lm"])
def test_the_page_of_a_package_lists_its_modules(package: str) -> None:
    """Each folder and module stands in the page's tree with a purpose, in its folder, and nothing else does."""
    text = (ROOT / package / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- tree -->\n```\n(.*?)```\n<!-- end of tree -->", text, re.DOTALL)
    listed, folder = [], ""
    for line in block.splitlines():
        name, purpose = re.fullmatch(r"( *[\w./]+) +(\S.*)", line).groups()
        assert purpose[0].isupper() or purpose[0] in "`&", line
        folder = folder if name.startswith(" ") else name
        listed.append(folder + name.strip() if name.startswith(" ") else name)
    files = {path.relative_to(ROOT).as_posix() for path in modules(package) if not path.name.startswith("__")}
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in modules(package)}
    assert sorted(listed) == sorted(files | folders)


def test_only_the_session_factory_builds_sessions() -> None:
    for path in modules("jobs"):
        if path.stem != "session":
            assert "SparkSession.builder" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_the_driver_plans_without_torch_and_lm_needs_no_spark() -> None:
    script = (
        "import sys, jobs.nightly, jobs.backfill, jobs.cli, jobs.commands.doctor;"
        "import jobs.training.train, jobs.evaluation.time_split;"
        "assert 'torch' not in sys.modules, 'torch';"
        "[sys.modules.pop(n) for n in list(sys.modules) if n.split('.')[0] in ('pyspark', 'lm')];"
        "import importlib, pkgutil, lm;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(lm.__path__, 'lm.')];"
        "assert 'pyspark' not in sys.modules, 'pyspark'"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_top_level_is_as_prescribed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL
