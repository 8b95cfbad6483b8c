"""The DAG runs the night of its data interval and tells Airflow what an exit code means."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs.spark import errors
from jobs.spark.fault_points import VARIABLE
from tests import ROOT
from tests.nights import SPARK, Shop, scored, tables

DAG_FILE = ROOT / "jobs/deploy/airflow_dag.py"
#: Python of an environment with apache-airflow 3, which needs other packages than Regulars does.
AIRFLOW_PYTHON = os.environ.get("AIRFLOW_PYTHON", "")
#: Runs dates in Airflow, named by the ends of their data intervals, and prints the states.
IN_AIRFLOW = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
dag = bag.dags["regulars"]
dag.task_dict["nightly"].retry_delay = timedelta(seconds=1)
runs = [dag.test(logical_date=datetime.fromisoformat(end)) for end in sys.argv[2:]]
print([str(run.state) for run in runs])
"""


class Failed(Exception):
    """Stands for the exception that Airflow never retries."""


class Operator:
    """Stands for Airflow's operator."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id


def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The DAG file, with the few names of Airflow that it uses."""
    fakes: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.sdk": {"DAG": lambda **_: nullcontext(), "BaseOperator": Operator},
        "airflow.exceptions": {"AirflowFailException": Failed},
        "airflow.timetables": {},
        "airflow.timetables.interval": {"CronDataIntervalTimetable": lambda *_, **__: None},
    }
    for name, members in fakes.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("regulars_dag", DAG_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(folder: Path, script: str) -> Path:
    """A program that stands for `regulars`."""
    path = folder / "regulars"
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, None), (6, None), *((code, Failed) for code in (2, 4, 5)), *((c, RuntimeError) for c in (1, 75, 130, -9))],
)
def test_an_exit_code_succeeds_fails_or_is_tried_again(
    code: int, outcome: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check: Callable[[int], str] = load(monkeypatch).check_exit_code
    if outcome is None:
        assert check(code).startswith("published")
    else:
        with pytest.raises(outcome, match=f"ended with {code}"):
            check(code)


def test_every_exit_code_of_an_error_has_a_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    dag = load(monkeypatch)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UserError)]
    assert {kind.exit_code for kind in kinds} == dag._FINAL.keys() | dag._PUBLISHED.keys() - {0} | {75}


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task, whose program is `tmp_path / "regulars"`."""
    monkeypatch.setenv("REGULARS_PROGRAM", str(tmp_path / "regulars"))
    monkeypatch.setenv("REGULARS_CONFIG", "shop.yaml")
    monkeypatch.setenv("REGULARS_TIMEZONE", "Asia/Tokyo")
    return load(monkeypatch).Night(task_id="nightly")


def test_the_run_date_is_that_of_the_interval_in_the_shops_time_zone(
    tmp_path: Path, night: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path, "print(*sys.argv[1:])")
    begins = datetime(2026, 2, 28, 17, 30, tzinfo=UTC)  # 02:30 of 1 March in Tokyo
    assert night.execute({"data_interval_start": begins}) == "published"
    assert capsys.readouterr().out == "nightly --config shop.yaml --run-date 2026-03-01\n"


def test_a_run_without_an_interval_fails_at_once(night: Any) -> None:
    with pytest.raises(Failed, match="logical date"):
        night.execute({})


def test_what_the_command_says_is_in_the_log(tmp_path: Path, night: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program(tmp_path, "print('inputs', flush=True); print('Error: no', file=sys.stderr); sys.exit(5)")
    with pytest.raises(Failed):
        night.execute({"data_interval_start": datetime(2026, 3, 1, tzinfo=UTC)})
    assert capsys.readouterr().out.splitlines() == ["inputs", "Error: no"]


def test_a_task_that_is_stopped_interrupts_the_night_and_is_tried_again(
    tmp_path: Path, night: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
    program(tmp_path, handler + "print('inputs', flush=True); time.sleep(60)")
    monkeypatch.setitem(type(night)._run.__globals__, "print", lambda *_, **__: night.on_kill())
    with pytest.raises(RuntimeError, match="ended with 130"):
        night.execute({"data_interval_start": datetime(2026, 3, 1, tzinfo=UTC)})


def in_airflow(folder: Path, ends: Sequence[str], env: Mapping[str, str]) -> str:
    """Run the nights of the intervals with these ends by `folder / "regulars"`; returns what was printed."""
    variables = os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "REGULARS_PROGRAM": str(folder / "regulars"),
    }
    variables |= env
    variables.pop("PYTHONPATH", None)
    (folder / "dags").mkdir()
    copied = shutil.copy(DAG_FILE, folder / "dags")
    migrate = [AIRFLOW_PYTHON, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, cwd=folder, env=variables, check=True, capture_output=True)
    run = [AIRFLOW_PYTHON, "-c", IN_AIRFLOW, copied, *ends]
    done = subprocess.run(run, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.faults
@pytest.mark.skipif(not AIRFLOW_PYTHON, reason="AIRFLOW_PYTHON names no Python with apache-airflow 3")
def test_airflow_runs_two_dates_one_killed_and_one_refused(tmp_path: Path) -> None:
    """The first date's worker is killed once and goes on; the second date is refused and not tried again."""
    calls = tmp_path / "calls"
    program(
        tmp_path,
        f"""
calls = open({str(calls)!r}, "a+")
calls.seek(0)
earlier = calls.read().split()
calls.write(sys.argv[-1] + "\\n")
calls.close()
if sys.argv[-1] == "2026-03-02":
    sys.exit(4)
if sys.argv[-1] not in earlier:
    os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    said = in_airflow(
        tmp_path, ["2026-03-01T17:30:00+00:00", "2026-03-02T17:30:00+00:00"], {"REGULARS_TIMEZONE": "Asia/Tokyo"}
    )
    assert said.splitlines()[-1] == "['success', 'failed']"
    assert calls.read_text(encoding="utf-8").split() == ["2026-03-01", "2026-03-01", "2026-03-02"]


@pytest.mark.faults
@pytest.mark.skipif(not AIRFLOW_PYTHON, reason="AIRFLOW_PYTHON names no Python with apache-airflow 3")
def test_two_real_nights_in_airflow_equal_those_of_the_command_line(tmp_path: Path) -> None:
    """The driver of the first night is killed after a wave is kept; Airflow tries again, and that night goes on."""
    shop = Shop(tmp_path / "shop")
    days = [shop.day - timedelta(days=1), shop.day]
    by_hand, by_airflow = tmp_path / "by-hand", tmp_path / "by-airflow"
    for day in days:
        code, said = shop.night(by_hand, day=day)
        assert code == 0, said
    overrides = shop.arguments(by_airflow, "nightly", overrides=SPARK)[3:]
    program(
        tmp_path,
        f"""
from pathlib import Path
calls = Path({str(tmp_path / "calls")!r})
os.environ["PYTHONPATH"] = {str(ROOT)!r}
if not calls.exists():
    os.environ[{VARIABLE!r}] = "wave-committed"
with calls.open("a") as file:
    print(sys.argv[-1], file=file)
code = "from jobs.cli import main; main()"
os.execv(sys.executable, [sys.executable, "-c", code, *sys.argv[1:], *{overrides!r}])
""",
    )
    ends = [f"{day + timedelta(days=1)}T02:30:00+00:00" for day in days]
    environment = {
        "REGULARS_TIMEZONE": "Europe/London",
        "REGULARS_CONFIG": str(shop.config),
        "REGULARS_STARTS_ON": str(days[0]),  # Airflow makes no task for a date before it
        "OMP_NUM_THREADS": "1",
    }
    said = in_airflow(tmp_path, ends, environment)
    assert said.splitlines()[-1] == "['success', 'success']"
    assert (tmp_path / "calls").read_text(encoding="utf-8").split() == [str(days[0]), *map(str, days)]
    assert tables(by_airflow) == tables(by_hand)
    assert scored(by_airflow) == scored(by_hand)
