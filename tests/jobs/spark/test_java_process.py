"""Java's error output comes through, without its harmless warning."""

from __future__ import annotations

import os

from jobs.spark.java_process import pass_on


def test_all_lines_but_the_harmless_warning_are_passed_on() -> None:
    from_java, java = os.pipe()
    terminal, to_terminal = os.pipe()
    os.write(java, b"WARNING: Using incubator modules: jdk.incubator.vector\nError: another\nno end of line")
    os.close(java)
    pass_on(from_java, to_terminal)
    os.close(to_terminal)
    with os.fdopen(terminal, "rb") as shown:
        assert shown.read() == b"Error: another\nno end of line"
