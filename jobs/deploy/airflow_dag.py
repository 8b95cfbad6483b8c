"""An Airflow 3 DAG that runs one night a date: copy this file into Airflow's DAG folder.

It imports nothing of Regulars, which lies in a virtual environment of its own. The variables of the environment that
are read below name the program, the configuration, the shop's time zone, the hour and the first date.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow.exceptions import AirflowFailException
from airflow.sdk import DAG, BaseOperator
from airflow.timetables.interval import CronDataIntervalTimetable

PROGRAM = os.environ.get("REGULARS_PROGRAM", "/opt/regulars/.venv/bin/regulars")
CONFIG = os.environ.get("REGULARS_CONFIG", "/srv/shop/regulars.yaml")
#: The `timezone` of the configuration: the data intervals are the shop's days.
TIMEZONE = os.environ.get("REGULARS_TIMEZONE", "Europe/London")
SCHEDULE = os.environ.get("REGULARS_SCHEDULE", "30 2 * * *")
#: The first run_date. Airflow catches up on every date since then, one at a time.
STARTS_ON = os.environ.get("REGULARS_STARTS_ON", "2026-03-01")

#: Published; 6 means that the Delta tables are behind, which the next night mends.
_PUBLISHED = {0: "published", 6: "published, but the Delta tables are behind"}
#: A retry would end the same way.
_FINAL = {
    2: "wrong usage or configuration, or a full disk",
    4: "refused, the old data stays",
    5: "an input is missing or unreadable",
}


def check_exit_code(code: int) -> str:
    """Return what an exit code of `regulars nightly` means. Negative codes are signals.

    Raises AirflowFailException where a person must act. A refused night is such a case: a skipped task would look
    like a night without work, and customers would keep yesterday's lists unnoticed. Raises RuntimeError for all other
    codes: another run holds the store (75), an interrupt (130), a signal, a defect (1), which may be the machine's.
    Airflow retries these, and the same command goes on where the last one stopped.
    """
    if code in _PUBLISHED:
        return _PUBLISHED[code]
    if code in _FINAL:
        raise AirflowFailException(f"regulars ended with {code}: {_FINAL[code]}. The log has the message.")
    raise RuntimeError(f"regulars ended with {code}: the next try goes on where this one stopped.")


class Night(BaseOperator):
    """Runs `regulars nightly` for the date on which the data interval begins, in the shop's time zone."""

    _process: subprocess.Popen[str] | None = None

    def execute(self, context: Mapping[str, Any]) -> str:
        """Run the command and copy its output into the task's log."""
        begins = context.get("data_interval_start")
        if begins is None:
            raise AirflowFailException("the run has no data interval: trigger it with a logical date")
        run_date = begins.astimezone(ZoneInfo(TIMEZONE)).date().isoformat()
        return check_exit_code(self._run([PROGRAM, "nightly", "--config", CONFIG, "--run-date", run_date]))

    def on_kill(self) -> None:
        """Interrupt the night when Airflow stops the task: it keeps its finished waves and frees the store."""
        if self._process is not None:
            self._process.terminate()

    def _run(self, command: Sequence[str]) -> int:
        with subprocess.Popen(  # noqa: S603 - the operator names the program, and no shell reads the list
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            self._process = process
            try:
                for line in process.stdout or ():
                    print(line, end="", flush=True)
            except BaseException:  # a time limit of Airflow, for example
                process.terminate()
                raise
            return process.wait()


with DAG(
    dag_id="regulars",
    schedule=CronDataIntervalTimetable(SCHEDULE, timezone=TIMEZONE),
    start_date=datetime.fromisoformat(STARTS_ON).replace(tzinfo=ZoneInfo(TIMEZONE)),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 6, "retry_delay": timedelta(minutes=10)},
    doc_md=__doc__,
):
    Night(task_id="nightly")
