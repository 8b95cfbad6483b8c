"""Draws charts as small SVG texts by pygal.

pygal was measured against matplotlib on 35 dates of three shares: 4 kB against 32 kB a chart, 0.2 s against 1.8 s to
import, one package against nine. pygal adds a script, a style and random ids; these are taken out, so equal data gives
equal text. Colours are CSS variables: a page sets them for light and dark, and a file has its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import pygal
from pygal.style import Style

# pygal looks for its maps by an import hook of a kind that Python 3.12 dropped, and Python 3.11 warns of.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

_SVG = "{http://www.w3.org/2000/svg}"
WIDTH, HEIGHT = 480, 240
#: Colours by series, for light and for dark pages. Neighbours differ in brightness, so they differ without hue.
LIGHT = ("#b3362b", "#8a8f98", "#1f6f54", "#2f5fa8", "#c77f1a", "#6b4c9a", "#5a9bd4", "#7a5c3e", "#9bbf65", "#d58fb4")
DARK = ("#f08a7f", "#a7adb8", "#63c7a2", "#7fa9ec", "#efb45c", "#b79ce0", "#a5cdf2", "#c3a488", "#c4de99", "#f0bdd5")
#: What the charts of a page or a file need.
CSS = (
    ".chart{width:100%;height:auto;font:12px system-ui,sans-serif}.chart .background{fill:none}"
    ".chart text{fill:var(--ink,#1b1f24)}.chart .axis .line,.chart .guide{stroke:var(--rule,#9aa0a6);stroke-width:.5;"
    "fill:none}.chart .axis .guide{stroke-dasharray:3,3}.chart .axis.x text{text-anchor:middle}"
    ".chart .axis.y text{text-anchor:end}.chart .axis.y2 text{text-anchor:start}"
    ".chart .title{text-anchor:middle;font-size:14px}"
    ".chart .series{stroke-width:1.4}.chart .ci{stroke:var(--ink,#1b1f24);fill:none}"
    + "".join(
        f".chart .color-{n}{{fill:var(--c{n},{c});stroke:var(--c{n},{c})}}.chart .color-{n} .nofill{{fill:none}}"
        for n, c in enumerate(LIGHT)
    )
)
_STYLE = Style(
    label_font_size=12, major_label_font_size=12, legend_font_size=12, title_font_size=14, font_family="sans-serif"
)
#: Where nothing can be seen or heard: tooltips need a script.
_UNUSED = ("script", "style", "desc")
_COORDINATES = {"d", "x", "y", "width", "height", "transform", "points", "cx", "cy"}


def stacked_areas(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """Draw shares that add up to 1, one band each; `labels` are those of the x axis."""
    chart = pygal.StackedLine(fill=True, show_dots=False, range=(0, 1), **_options(len(labels)))
    chart.value_formatter = lambda value: f"{value:.0%}"
    return _drawn(chart, title, labels, series)


def lines(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]], **options: Any) -> str:
    """Draw one line for each of `series`; None is a gap. `options` are pygal's."""
    chart = pygal.Line(show_dots=len(labels) < 8, dots_size=2, **_options(len(labels)) | options)
    chart.value_formatter = in_words
    return _drawn(chart, title, labels, series)


def bars(title: str, labels: Sequence[str], values: Sequence[float | None]) -> str:
    """Draw one bar a label, from zero, in a colour that says neither good nor bad."""
    chart = pygal.Bar(include_x_axis=True, **_options(len(labels)))
    chart.value_formatter = in_words
    return _drawn(chart, title, labels, {title: values}).replace("color-0", _PLAIN)


def in_words(value: float) -> str:
    """Return a number as people write it: 2.4 million, 12,345, 0.125."""
    for size, word in ((1e9, " billion"), (1e6, " million")):
        if abs(value) >= size:
            return f"{value / size:,.4g}{word}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def intervals(title: str, values: Mapping[str, tuple[float, float, float]]) -> str:
    """Draw one bar a name, with a whisker from the second to the third of its three numbers."""
    ends = [end for _, low, high in values.values() for end in (low, high)]
    room = 0.1 * (max(ends) - min(ends)) if ends else 0.0
    span = (min([0.0, *ends]) - room, max([0.0, *ends]) + room)
    chart = pygal.Bar(include_x_axis=True, range=span, **_options(len(values)) | {"truncate_label": 14})
    chart.value_formatter = lambda value: f"{value:+.1%}"
    drawn = [{"value": value, "ci": {"low": low, "high": high}} for value, low, high in values.values()]
    return _drawn(chart, title, list(values), {title: drawn}).replace("color-0", _PLAIN)


def points(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_title: str, y_title: str, **options: Any
) -> str:
    """Draw series of (x, y) points joined by lines, as a file of its own with a legend. `options` are pygal's."""
    chart = pygal.XY(dots_size=3, x_title=x_title, y_title=y_title, title=title, **_options(0) | _FILE | options)
    chart.value_formatter = chart.x_value_formatter = lambda value: f"{value:.4g}"
    for name, values in series.items():
        chart.add(name, list(values))
    return as_file(_text(chart, title))


def curves(
    title: str,
    labels: Sequence[str],
    left: Mapping[str, Sequence[float | None]],
    right: Mapping[str, Sequence[float | None]],
) -> str:
    """Draw lines with two y axes, as a file of its own with a legend."""
    chart = pygal.Line(dots_size=2, title=title, **_options(len(labels)) | _FILE)
    chart.value_formatter = lambda value: f"{value:.3g}"
    chart.x_labels = list(labels)
    for series, is_right in ((left, False), (right, True)):
        for name, values in series.items():
            chart.add(f"{name} (right)" if is_right else name, list(values), secondary=is_right)
    return as_file(_text(chart, title))


def lines_with_intervals(
    title: str, labels: Sequence[str], series: Mapping[str, Sequence[tuple[float, float, float]]]
) -> str:
    """Draw one line for each of `series`, with a whisker from the second to the third number of each point, as a file.

    The y axis begins at 0.
    """
    top = max(high for points in series.values() for _, _, high in points)
    options = _options(len(labels)) | _FILE | {"range": (0, 1.05 * top or 1.0)}
    chart = pygal.Line(dots_size=3, title=title, **options)
    chart.value_formatter = lambda value: f"{value:.3g}"
    drawn = {
        name: [{"value": value, "ci": {"low": low, "high": high}} for value, low, high in points]
        for name, points in series.items()
    }
    chart.x_labels = list(labels)
    for name, values in drawn.items():
        chart.add(name, values)
    return as_file(_text(chart, title))


def as_file(svg: str) -> str:
    """Add the style to a chart, so that it stands alone as a file."""
    head, _, rest = svg.partition(">")
    dark = ";".join(f"--c{n}:{color}" for n, color in enumerate(DARK))
    night = f"@media(prefers-color-scheme:dark){{.chart{{--ink:#e6e8eb;--rule:#6b7178;{dark}}}}}"
    return f"{head}><style>{CSS}{night}</style>{rest}\n"


#: The class of a series that stands for no label: blue.
_PLAIN = "color-3"
_FILE = {"show_legend": True, "legend_at_bottom": True, "width": 640, "height": 420}


def _options(labels: int) -> dict[str, Any]:
    every = max(1, -(-labels // 5))
    return {
        "style": _STYLE,
        "js": [],
        "width": WIDTH,
        "height": HEIGHT,
        "margin": 8,
        "show_legend": False,
        "x_labels_major_every": every,
        "show_minor_x_labels": every == 1,
        "truncate_label": 24,
        "show_x_guides": False,
        "max_scale": 5,
    }


def _drawn(chart: Any, title: str, labels: Sequence[str], series: Mapping[str, Sequence[Any]]) -> str:
    chart.x_labels = list(labels)
    for name, values in series.items():
        chart.add(name, list(values))
    return _text(chart, title)


def _text(chart: Any, title: str) -> str:
    """Serialise a chart without its script, style, ids and empty groups, with `title` as what a screen reader says."""
    root = chart.render_tree()
    _prune(root)
    root.attrib.pop("id", None)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": title}
    for element in root.iter():
        element.tag = str(element.tag).removeprefix(_SVG)
        element.attrib.pop("id", None)
        for name in ("rx", "ry", "r"):
            if element.get(name) == "0":
                del element.attrib[name]
        for name in _COORDINATES & element.attrib.keys():
            element.set(name, _rounded(element.attrib[name]))
    root.set("xmlns", "http://www.w3.org/2000/svg")
    return ElementTree.tostring(root, encoding="unicode")


def _rounded(numbers: str) -> str:
    """Cut coordinates to one digit after the point."""
    return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)


def _prune(element: ElementTree.Element) -> None:
    for child in list(element):
        tag = str(child.tag).removeprefix(_SVG)
        classes = child.get("class", "")
        if (
            not isinstance(child.tag, str)
            or tag in _UNUSED
            or "tooltip-overlay" in classes
            or "text-overlay" in classes
        ):
            element.remove(child)
            continue
        _prune(child)
        if tag in ("g", "defs") and not len(child):
            element.remove(child)
