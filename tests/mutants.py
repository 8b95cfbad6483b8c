"""`make mutants`: random small changes of the code, by cosmic-ray, that the tests of the changed module must see.

Each mutant runs in a copy of the repository, against the tests of its own module that need no JVM, until the first
failure. A mutant that passes all of them survived: its diff is printed. `tests/mutants_equivalent.txt` lists the
mutants that change no behaviour a test should pin; they do not count.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import importlib
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db

from tests import ROOT

#: The modules that are changed: everything without Spark.
SOURCES = (
    "lm/**/*.py",
    "schemas/*.py",
    "jobs/config/*.py",
    "jobs/evaluation/experiment.py",
    "jobs/profiling/column_names.py",
    "jobs/profiling/guessing.py",
    "jobs/profiling/source_files.py",
    "jobs/profiling/time_forms.py",
    "jobs/profiling/value_forms.py",
    "jobs/sample/*.py",
    "jobs/tables/bgnbd.py",
)
#: The tests of modules, or of all others of a room, that are tested through another module.
TESTS = {
    "jobs/config/input_settings.py": ["jobs/config/test_config.py"],
    "jobs/config/strict_model.py": ["jobs/config/test_config.py", "jobs/config/test_config_fuzz.py"],
    "jobs/config/train_settings.py": ["jobs/config/test_config.py"],
    "jobs/profiling/column_names.py": ["jobs/commands/test_init.py"],
    "jobs/profiling/guessing.py": ["jobs/commands/test_init.py"],
    "jobs/profiling/source_files.py": ["jobs/commands/test_init.py"],
    "jobs/sample/opinions.py": ["jobs/sample/test_sample.py", "jobs/sample/test_sample_opinions.py"],
    "jobs/sample/": ["jobs/sample/test_sample.py", "jobs/sample/test_sample_opinions.py"],
    "lm/answers/": ["lm/answers/test_answer_writer.py"],
    "lm/engine/attention.py": ["lm/engine/test_packed_engine.py"],
    "lm/engine/prompt_cache.py": ["lm/engine/test_packed_engine.py"],
    "lm/engine/huggingface_model.py": ["lm/engine/test_huggingface_engine.py", "lm/checkpoint/test_checkpoint.py"],
    "lm/engine/top_k_sampling.py": ["lm/engine/test_sampling.py"],
    "lm/engine/token_count.py": ["lm/engine/test_sampling.py", "lm/engine/test_generation.py"],
    "lm/recommend/arrange_list.py": ["lm/recommend/test_rules.py"],
    "lm/recommend/flat_lists.py": ["lm/recommend/test_flat_lists.py", "lm/recommend/test_rules.py"],
    "lm/recommend/place_weights.py": ["lm/recommend/test_rules.py", "lm/recommend/test_beam_search.py"],
    "lm/recommend/rankings.py": ["lm/recommend/test_rules.py"],
    "lm/recommend/ruled_lists.py": ["lm/recommend/test_rules.py"],
    "lm/recommend/title_similarity.py": ["lm/recommend/test_rules.py", "lm/recommend/test_reasons.py"],
    "lm/recommend_training/count_purchases.py": [
        "lm/recommend/test_co_purchase.py",
        "lm/recommend_training/test_counting_folds.py",
        "lm/recommend_training/test_train_recommender.py",
    ],
    "lm/recommend_training/fit_candidates.py": [
        "lm/recommend/test_co_purchase.py",
        "lm/recommend_training/test_mixture_weights.py",
        "lm/recommend_training/test_train_recommender.py",
    ],
    "lm/recommend_training/fit_hybrid.py": [
        "lm/recommend/test_cold_items.py",
        "lm/recommend_training/test_train_recommender.py",
    ],
    "lm/redaction/": ["lm/redaction/test_redact.py", "lm/redaction/test_planted.py", "lm/redaction/test_writers.py"],
    "lm/recommend/trie.py": ["lm/recommend/test_catalogue.py"],
    "lm/recommend/hybrid.py": ["lm/recommend/test_cold_items.py"],
    "lm/recommend/title_features.py": ["lm/recommend/test_cold_items.py"],
    "lm/recommend_training/train_distributed.py": ["lm/recommend_training/test_train_recommender.py"],
    "lm/sentiment/sentiment_baselines.py": ["jobs/evaluation/test_sentiment_figures.py"],
    "lm/text/history_batch.py": ["lm/text/test_prompt.py"],
    "lm/text/prompt.py": ["lm/text/test_prompt.py", "lm/text/test_review_prompts.py", "lm/text/test_browsing.py"],
    "lm/text/splits.py": ["lm/sentiment/test_review_parts.py", "lm/sentiment/test_train_sentiment.py"],
    "lm/text/template.py": ["lm/text/test_prompt.py"],
    "schemas/": ["schemas/test_schemas.py"],
}
EQUIVALENT = ROOT / "tests/mutants_equivalent.txt"
#: Imported once, before the processes of the mutants are forked: their import takes longer than most tests.
LIBRARIES = ["torch._dynamo", "transformers.models.auto.modeling_auto", "transformers.models.gpt2.modeling_gpt2",
             "sklearn.linear_model", "scipy.optimize", "scipy.stats", "pandas", "pydantic", "bm25s", "tokenizers",
             "safetensors.torch", "vaderSentiment.vaderSentiment", "phonenumbers", "hypothesis"]  # fmt: skip
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-W", "ignore::pytest.PytestAssertRewriteWarning",
           "--hypothesis-seed=0", "-m", "not spark and not slow and not faults"]  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module: the source before and after."""

    module: str
    before: str
    after: str

    def diff(self) -> list[str]:
        """The changed lines with one line around them, as `diff -u` prints them."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), n=1, lineterm="")
        return list(lines)[2:]

    def key(self) -> tuple[str, str, str]:
        """The module, the old line and the new line: what the list of equivalent mutants names."""
        old, new = ([line[1:].strip() for line in self.diff() if line[0] == sign] for sign in "-+")
        return self.module, " ".join(old), " ".join(new)


def modules() -> list[str]:
    """The modules that are changed."""
    paths = {path for pattern in SOURCES for path in ROOT.glob(pattern) if not path.name.startswith("__")}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


@functools.cache
def tests_of(module: str) -> tuple[str, ...]:
    """Test files by `TESTS`; else the one of the module's name; else those that import it; else all of its room."""
    path = Path(module)
    room = ROOT / "tests" / path.parent
    if table := TESTS.get(module):
        return tuple(f"tests/{file}" for file in table)
    if (room / f"test_{path.name}").exists():
        return (f"tests/{path.parent}/test_{path.name}",)
    package = re.escape(".".join(path.parent.parts))
    imported = re.compile(rf"\b{package}\.{path.stem}\b|from {package} import .*\b{path.stem}\b")
    importing = [
        file.relative_to(ROOT).as_posix()
        for file in sorted(room.glob("test_*.py"))
        if imported.search(file.read_text(encoding="utf-8"))
    ]
    if not importing and (files := TESTS.get(f"{path.parent}/")):
        return tuple(f"tests/{file}" for file in files)
    return tuple(importing or (file.relative_to(ROOT).as_posix() for file in sorted(room.glob("test_*.py"))))


def untested_spans(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and blocks for type checkers start and end: nothing there runs."""
    nodes: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            nodes.append(node.returns)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]


@functools.cache
def mutants_of(module: str) -> list[tuple[str, int]]:
    """The mutants of a module, as operator and occurrence of cosmic-ray, without those that change no running code."""
    source = (ROOT / module).read_text(encoding="utf-8")
    spans = untested_spans(source)
    with use_db(":memory:", WorkDB.Mode.create) as database:
        init([ROOT / module], database, {})
        changes = [item.mutations[0] for item in database.work_items]
    return [
        (change.operator_name, change.occurrence)
        for change in changes
        if not any(start <= change.start_pos < end for start, end in spans)
    ]


def draw(count: int, seed: int, only: str) -> Iterator[Mutant]:
    """Distinct random mutants: first a module, by its length, then one of its mutants."""
    chosen = [module for module in modules() if module.startswith(only)]
    if untested := [module for module in chosen if not tests_of(module)]:
        sys.exit(f"TESTS names no tests of {', '.join(untested)}")
    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in chosen}
    lengths = [len(sources[module].splitlines()) for module in chosen]
    generator = random.Random(seed)
    seen: set[tuple[str, str, int]] = set()
    for _ in range(50 * count):
        (module,) = generator.choices(chosen, lengths)
        if not (changes := mutants_of(module)):
            continue
        operator, occurrence = generator.choice(changes)
        if (module, operator, occurrence) in seen:
            continue
        seen.add((module, operator, occurrence))
        after = mutate_code(sources[module], get_operator(operator)(), occurrence)
        yield Mutant(module, sources[module], after)
        if len(seen) == count:
            return


def run_tests(copy: Path, tests: Sequence[str], seconds: float) -> tuple[int, str, float]:
    """pytest's exit status, its output and its processor time in seconds, in a process of its own.

    A run of more than `seconds` of processor time, or ten times that by the clock, is killed: its status is negative.
    """
    with tempfile.TemporaryFile("w+") as output:
        if not (child := os.fork()):
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os.chdir(copy)
            sys.path.insert(0, str(copy))
            for name in [name for name in sys.modules if name.split(".")[0] in ("jobs", "lm", "schemas", "tests")]:
                del sys.modules[name]
            status = int(pytest.main([*OPTIONS, f"--rootdir={copy}", *tests]))
            sys.stdout.flush()
            os._exit(status)
        end = time.monotonic() + 10 * seconds
        while not (done := os.wait4(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.05)
        output.seek(0)
        return os.waitstatus_to_exitcode(done[1]), output.read(), done[2].ru_utime + done[2].ru_stime


def equivalent() -> dict[tuple[str, ...], str]:
    """The reason of each mutant that is listed as equivalent: module, old line, new line, reason between ` || `."""
    lines = [line for line in EQUIVALENT.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    rows = [line.split(" || ") for line in lines]
    return {(module, old, new): reason for module, old, new, reason in rows}


def copied(folder: Path) -> Path:
    """A copy of the repository's files, so that a change never touches the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="start of the paths to change, as lm/recommend/")
    parser.add_argument("--numbers", type=int, nargs="*", help="of the drawn mutants only these, as they are printed")
    parser.add_argument("--slowest", type=float, default=40, help="leave out slower test files (processor seconds)")
    arguments = parser.parse_args()
    for library in LIBRARIES:
        importlib.import_module(library)
    sys.dont_write_bytecode = True
    known = equivalent()
    counts: Counter[str] = Counter()
    usual: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        os.environ["PYTHONPATH"] = f"{copy}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        for number, mutant in enumerate(draw(arguments.mutants, arguments.seed, arguments.only), 1):
            if arguments.numbers and number not in arguments.numbers:
                continue
            for file in tests_of(mutant.module):
                if file not in usual:
                    status, output, seconds = run_tests(copy, [file], arguments.slowest)
                    usual[file] = seconds if status in (0, 5) else math.inf
                    if status not in (0, 5):
                        print(f"{file} is left out: {'too slow' if status < 0 else output}", flush=True)
            tests = [file for file in tests_of(mutant.module) if usual[file] < math.inf]
            if mutant.key() in known:
                outcome = "equivalent"
            elif not tests:
                outcome = "skipped"
            else:
                (copy / mutant.module).write_text(mutant.after, encoding="utf-8")
                status, _, _ = run_tests(copy, tests, 10 + 4 * sum(usual[file] for file in tests))
                (copy / mutant.module).write_text(mutant.before, encoding="utf-8")
                outcome = "survived" if status in (0, 5) else "killed"
            counts[outcome] += 1
            print(f"{number:4} {outcome:10} {mutant.module}", flush=True)
            if outcome == "survived":
                print("\n".join(mutant.diff()), flush=True)
    judged = counts["killed"] + counts["survived"]
    print(f"{counts['killed']} of {judged} mutants killed ({counts['killed'] / max(judged, 1):.0%}); {dict(counts)}")


if __name__ == "__main__":
    main()
