"""`regulars doctor`: checks everything that a night needs and says how to fix what is missing.

For the data engineer on a new machine, before the first night. Starts no Spark and loads no model: `doctor_rows.py`
starts Spark and reads rows.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.config.config import Config, load
from jobs.config.input_settings import SourceSettings, unescaped
from jobs.config.run_date import glob_of_dates
from jobs.sources.paths import local_matches
from jobs.spark.errors import UserError
from jobs.spark.executor_files import is_remote
from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from lm.checkpoint.manifest import read_manifest

GIB = 2**30
#: A night with default settings needs at least this much.
_MEMORY_GIB, _DISK_GIB = 4, 2


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` is empty where the check passes; `hint` says what makes a night faster."""

    check: str
    found: str
    fix: str = ""
    hint: str = ""


def check_setup(
    config_file: Path, overrides: Sequence[str], console: Console, check_rows: Callable[[], bool] = lambda: True
) -> bool:
    """Print one line per check, then what `check_rows` finds, then the verdict; return whether a night can run."""
    findings = [*_machine(), *_packages(), *_bytecode()]
    try:
        config = load(config_file, overrides)
    except UserError as error:
        findings.append(Finding("configuration", "not usable", str(error)))
    else:
        findings += [
            Finding("configuration", str(config_file)),
            _disk(config),
            *_models(config),
            *_inputs(config),
        ]
    table = Table("", "check", "found", "how to fix it", box=None)
    for finding in findings:
        mark = "[red]✗[/red]" if finding.fix else "[yellow]![/yellow]" if finding.hint else "[green]✓[/green]"
        table.add_row(mark, *map(escape, (finding.check, finding.found, finding.fix or finding.hint)))
    console.print(table)
    rows_pass = check_rows()
    healthy = rows_pass and not any(finding.fix for finding in findings)
    untrained = any(finding.check.startswith("models.") and finding.hint for finding in findings)
    passed = "All checks passed: train the models marked !, then a night can run."
    passed = passed if untrained else "All checks passed: a night can run."
    console.print(passed if healthy else "Fix the lines marked ✗, then run this again.")
    return healthy


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", version, "" if sys.version_info[:2] == (3, 11) else "install Python 3.11")
    yield _java()
    total = psutil.virtual_memory().total / GIB
    few = f"give the machine {_MEMORY_GIB} GiB or more" if total < _MEMORY_GIB else ""
    yield Finding("memory", f"{total:.1f} GiB", few)
    yield Finding("processors", f"{os.cpu_count()} ({_matrix_support()})")


def _java() -> Finding:
    fix = (
        "Spark needs Java 17 or 21: install it (for example: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
    )
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if not java or not Path(java).exists():
        return Finding("Java", "none", fix)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)[^"]*"', said)
    if not version:
        return Finding("Java", "unknown version", fix)
    return Finding("Java", version.group(0), "" if version.group(1) in ("17", "21") else fix)


def _matrix_support() -> str:
    """Describe the processor's matrix instructions as Linux reports them; they decide about bf16."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "instructions unknown: float32"
    if "amx_bf16" in flags:
        return "AMX: bf16"
    if "avx512_bf16" in flags:
        return "AVX512-BF16: bf16"
    return "AVX-512: float32" if "avx512f" in flags else "no AMX: float32"


def _packages() -> Iterator[Finding]:
    wrong = []
    for line in importlib.metadata.requires("regulars") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, not {requirement.specifier}")
    fix = "; ".join(wrong) + ": run make setup, or pip install regulars again" if wrong else ""
    yield Finding("packages", "differ from the pins" if wrong else "as pinned", fix)


def _bytecode() -> Iterator[Finding]:
    """Check for compiled bytecode: without it, each process of a night compiles the libraries again."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return  # the package check reports it
    if Path(importlib.util.cache_from_source(spec.origin)).exists():
        yield Finding("bytecode", "of the libraries is stored")
        return
    folder = Path(spec.origin).parents[1]
    hint = f"each process compiles its libraries at start: run once {sys.executable} -m compileall -q {folder}"
    yield Finding("bytecode", "of the libraries is not stored", hint=hint)


def _disk(config: Config) -> Finding:
    if "://" in config.store:
        return Finding("store", config.store)
    folder = Path(config.store)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    fix = ""
    if not os.access(folder, os.W_OK):
        fix = f"{folder} is not writable: change its owner, or set store to a folder that is"
    elif free < _DISK_GIB:
        fix = f"free some space: a night needs {_DISK_GIB} GiB or more"
    return Finding("store", f"{config.store}, {free:.0f} GiB free", fix)


def _models(config: Config) -> Iterator[Finding]:
    needed = {"recommend": config.models.recommend} if "purchases" in config.inputs else {}
    if "reviews" in config.inputs and config.models.sentiment:
        needed["sentiment"] = config.models.sentiment
    if "questions" in config.inputs and config.models.answers:
        needed["answers"] = config.models.answers
    for key, model in needed.items():
        if is_remote(model):
            yield Finding(f"models.{key}", f"{model} (checked when a night begins)")
            continue
        try:
            path = checkpoint.resolve(model)
            manifest = read_manifest(path)
            checkpoint.ngrams_file(path)
            coding = {"recommend": manifest.coding, "sentiment": "classifier"}.get(key, "writer")
            yield Finding(f"models.{key}", f"{path} ({coding}, {model_fingerprint(path)})")
        except checkpoint.CheckpointError as error:
            train = config.command("train", f"--task {key}")
            if not Path(model).exists() and Path(model).is_absolute():  # a hub id is no path
                yield Finding(f"models.{key}", f"{model} is not trained yet", hint=f"before the first night: {train}")
            else:
                yield Finding(f"models.{key}", "not usable", f"{error} Train one: {train}")


def _inputs(config: Config) -> Iterator[Finding]:
    if "purchases" not in config.inputs:
        hint = "with reviews alone a night writes labels and no lists; name the table of purchases for lists"
        yield Finding("inputs.purchases", "missing", hint=hint)
    for table, source in config.inputs.items():
        yield _source(f"inputs.{table}", source)
    for name, named in config.sources.items():
        yield _source(f"sources.{name}", named)


def _source(key: str, source: SourceSettings) -> Finding:
    """Check what needs no Spark: that paths match files, and that variables of user and password are set."""
    missing = [unescaped(path) for path in source.paths if "://" not in path and not local_matches(glob_of_dates(path))]
    if missing:
        return Finding(key, source.place, f"{key}.path matches no file: {', '.join(missing)}")
    if source.jdbc is not None:
        names = {name for name in (source.jdbc.user_env, source.jdbc.password_env) if name is not None}
        unset = ", ".join(sorted(names - set(os.environ)))
        fix = f"{key}.jdbc: set the environment variables {unset}" if unset else ""
        return Finding(key, f"{source.place} (its rows: see below)", fix)
    checked = "" if source.paths else " (its rows: see below)"
    return Finding(key, source.place + checked)
