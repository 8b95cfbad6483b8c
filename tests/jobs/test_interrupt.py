"""SIGTERM ends a command soon, also where a pool of threads waits for Spark's jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT

#: A command whose four jobs of five minutes run in a pool of two threads.
COMMAND = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from jobs import cli
from jobs.spark.session import create_session

def command(**_):
    started = {"spark.master": "local[2]", "spark.driver.memory": "512m"}
    context = create_session("test", conf=started).sparkContext
    folder = sys.argv[1]

    def job(row):
        def sleep(row):
            Path(folder, f"job-{row}").touch()
            time.sleep(300)
        context.parallelize([row], 1).foreach(sleep)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(job, range(4)))

cli.app = command
cli.main()
"""


@pytest.mark.spark
def test_a_stage_with_a_pool_ends_with_its_jobs(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, tmp_path], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 120
        while len(list(tmp_path.glob("job-*"))) < 2:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Interrupted. Nothing was published." in said
    assert len(list(tmp_path.glob("job-*"))) == 2


#: A command that has ended, and gets a signal while its process still tidies up.
ENDED = """
import atexit, os, signal
from jobs import cli
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
cli.app = lambda **_: 0
cli.main()
"""


def test_a_signal_after_the_end_changes_no_exit_code() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ENDED], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
