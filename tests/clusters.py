"""A standalone Spark cluster on this machine whose executors see no code, model nor scratch folder of the driver."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pyspark

from tests.nights import ROOT

SPARK_HOME = Path(pyspark.__file__).parent
#: Hides each of its first arguments under an empty file system, which only this process and its children see.
_HIDE = 'while [ "$1" != -- ]; do mount -t tmpfs none "$1" || exit 1; shift; done; shift; exec "$@"'


class Cluster:
    """A master and two workers of one core each, started as pip's Spark has them: `bin/spark-class`."""

    def __init__(self, folder: Path, hidden: Sequence[Path]) -> None:
        self.folder = folder
        self.port = _free_port()
        self.master = f"spark://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("org.apache.spark.deploy.master.Master", "--port", str(self.port), "--webui-port", "0")
        _wait_for_port(self.port)
        hide = ["unshare", "-rm", "sh", "-c", _HIDE, "sh", *map(str, hidden), "--"]
        for name in ("one", "two"):
            arguments = ["--cores", "1", "--memory", "1g", "--webui-port", "0", "-d", str(folder / name), self.master]
            self._start("org.apache.spark.deploy.worker.Worker", *arguments, before=hide, name=name)

    def _start(self, kind: str, *arguments: str, before: Sequence[str] = (), name: str = "master") -> None:
        local = self.folder / f"{name}-local"
        local.mkdir(parents=True)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_LOCAL_DIRS": str(local),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        command = [*before, str(SPARK_HOME / "bin/spark-class"), kind, "--host", "127.0.0.1", *arguments]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self._processes.append(process)

    def executors(self) -> list[psutil.Process]:
        """The running executors."""
        children = [c for one in self._processes[1:] for c in psutil.Process(one.pid).children(recursive=True)]
        return [child for child in children if _is_executor(child)]

    def stop(self) -> None:
        """End all of it."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            process.wait(timeout=30)


def _is_executor(process: psutil.Process) -> bool:
    try:
        return process.name() == "java" and "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return False


def built_wheel(folder: Path, version: str) -> Path:
    """The project's wheel of a version of its own, under the suffix with which Python opens it as it is."""
    tree = folder / "tree"
    for name in ("jobs", "lm", "schemas"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tree)
    text = (ROOT / "pyproject.toml").read_text().replace('version = "0.1.0"', f'version = "{version}"')
    (tree / "pyproject.toml").write_text(text)
    build = f"import setuptools.build_meta as b; print(b.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel.rename(wheel.with_suffix(".zip"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the master never listened")
