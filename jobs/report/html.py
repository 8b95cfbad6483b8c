"""The templates and styles of the pages: HTML without scripts, requests or files beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.pictures import charts

_HERE = Path(__file__).parent


def environment() -> Environment:
    """Return a new environment of the templates beside this file; values are escaped, and none may be missing."""
    return Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@cache
def style(*more: str) -> str:
    """Return the style of all pages and of charts, and the further style sheets `more`."""
    dark = ";".join(f"--c{n}:{color}" for n, color in enumerate(charts.DARK))
    light = ";".join(f"--c{n}:{color}" for n, color in enumerate(charts.LIGHT))
    pages = (_HERE / "style.css").read_text(encoding="utf-8").replace("DARK", dark)
    sheets = [(_HERE / name).read_text(encoding="utf-8") for name in more]
    return "\n".join([f":root{{{light}}}", pages, charts.CSS, *sheets])
