"""A PostgreSQL server of its own for a test, and the jar of its JDBC driver."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Where Debian's packages `postgresql` and `libpostgresql-jdbc-java` put them.
_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
DRIVER = Path("/usr/share/java/postgresql.jar")
USER, PASSWORD = "shop", "hunter2-of-the-database"


@dataclass(frozen=True)
class Postgres:
    """A running server; its only user is USER, who needs PASSWORD."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"jdbc:postgresql://localhost:{self.port}/postgres"

    def run(self, sql: str) -> None:
        environment = os.environ | {"PGPASSWORD": PASSWORD}
        command = ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "localhost", "-p", str(self.port), "-U", USER]
        subprocess.run([*command, "postgres"], input=sql, text=True, check=True, env=environment)


def missing() -> str:
    """Say what is not installed; empty where a server can be started."""
    found = [("postgresql", bool(_BINARIES)), ("libpostgresql-jdbc-java", DRIVER.exists())]
    absent = [package for package, is_there in found if not is_there]
    return f"not installed: {', '.join(absent)} (apt-get install {' '.join(absent)})" if absent else ""


@contextmanager
def server() -> Iterator[Postgres]:
    """Start a server in a temporary folder, and stop it at the end.

    The server refuses to run as root; for root it runs as the user of Debian's package.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield from _serve(Path(folder))


def _serve(folder: Path) -> Iterator[Postgres]:
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data, password = folder / "data", folder / "password"
    password.write_text(PASSWORD)
    if as_user:
        for place in (folder, password):
            shutil.chown(place, "postgres")
    binaries = str(_BINARIES[-1])
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    options = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8", "--locale=C"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*as_user, f"{binaries}/initdb", "-D", str(data), *options], **quiet)
    serve = ["-o", f"-p {port} -k {folder} -c fsync=off", "-l", str(folder / "log"), "-w"]
    subprocess.run([*as_user, f"{binaries}/pg_ctl", "-D", str(data), *serve, "start"], **quiet)
    try:
        yield Postgres(folder, port)
    finally:
        subprocess.run([*as_user, f"{binaries}/pg_ctl", "-D", str(data), "-m", "immediate", "stop"], **quiet)
