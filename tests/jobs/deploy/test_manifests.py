"""The files for containers, Kubernetes and systemd agree with the command line, the packages and each other."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from jobs.cli import app
from jobs.spark import errors
from tests import ROOT

DEPLOY = ROOT / "jobs/deploy"
#: Another try ends the same way.
FINAL = {2, 4, 5}


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / name, encoding="utf-8")
    return parser


def parses(arguments: list[str]) -> bool:
    """Whether the command line takes these arguments; a wrong option raises typer's error."""
    name, *options = arguments
    typer.main.get_command(app).commands[name].make_context(name, list(options))
    return True


def docker_stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage of the Dockerfile, with lines that go on put together."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    stages: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, rest = line.split(maxsplit=1)
            if word == "FROM":
                name = rest.split(" AS ")[1]
                stages[name] = []
            stages[name].append((word, rest))
    return stages


def test_the_final_exit_codes_are_those_that_no_second_try_mends() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UserError)]
    assert {kind.exit_code for kind in kinds} == FINAL | {6, 75}


def test_the_image_has_the_python_the_java_and_the_files_that_the_package_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stage = docker_stages()["one-machine"]
    python = re.match(r"python:(\d+)\.(\d+)-", stage[0][1])
    assert project["requires-python"] == f">={python[1]}.{python[2]},<{python[1]}.{int(python[2]) + 1}"
    assert "openjdk-17-jre-headless" in str(stage)
    copied = {name for word, rest in stage if word == "COPY" for name in rest.split()[:-1]}
    assert copied == {"pyproject.toml", project["readme"], "jobs", "lm", "schemas"}
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", ["one-machine", "spark"])
def test_no_image_runs_as_root(name: str) -> None:
    users = [rest for word, rest in docker_stages()[name] if word == "USER"]
    assert users[-1] == "10001"


def test_the_image_for_spark_has_the_release_of_spark_that_is_pinned() -> None:
    spark = docker_stages()["spark"]
    assert f"--from=apache/spark:{version('pyspark')} /opt/entrypoint.sh /opt/entrypoint.sh" in dict(spark)["COPY"]
    template = manifest("spark_application.yaml")["spec"]["template"]
    assert template["sparkVersion"] == version("pyspark")
    assert template["mainApplicationFile"].removeprefix("local://") in str(spark)


def test_the_cron_job_runs_a_night_and_tries_only_what_another_try_can_mend() -> None:
    job = manifest("cronjob.yaml")
    assert (job["apiVersion"], job["kind"], job["spec"]["concurrencyPolicy"]) == ("batch/v1", "CronJob", "Forbid")
    spec = job["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    (codes,) = (rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert (codes["operator"], set(codes["values"]), codes["containerName"]) == ("In", FINAL, container["name"])
    assert pod["restartPolicy"] == "Never"  # Kubernetes refuses a podFailurePolicy with any other
    assert spec["backoffLimit"] > 0
    assert f"USER {pod['securityContext']['runAsUser']}\n" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert container["image"] == f"regulars:{version('regulars')}"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert parses(container["args"])


def test_the_spark_application_runs_a_night_on_one_volume() -> None:
    application = manifest("spark_application.yaml")
    assert application["apiVersion"] == "sparkoperator.k8s.io/v1beta2"
    assert application["kind"] == "ScheduledSparkApplication"
    template = application["spec"]["template"]
    assert (template["type"], template["mode"]) == ("Python", "cluster")
    assert template["image"] == f"regulars-spark:{version('regulars')}"
    assert template["restartPolicy"]["type"] == "OnFailure"
    assert template["driver"]["volumeMounts"] == template["executor"]["volumeMounts"]
    assert {one["name"] for one in template["driver"]["volumeMounts"]} == {one["name"] for one in template["volumes"]}
    assert parses(template["arguments"])


def test_the_service_runs_a_night_and_tries_only_what_another_try_can_mend() -> None:
    service = unit("regulars.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/.venv/bin/regulars")
    assert parses(arguments)
    assert set(map(int, service["RestartPreventExitStatus"].split())) == FINAL
    assert service["SuccessExitStatus"] == "6"
    assert service["Restart"] == "on-failure"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_every_key_of_the_units(tmp_path: Path) -> None:
    for name in ("regulars.service", "regulars.timer"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/regulars/.venv/bin/regulars", "/bin/true"), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
