"""A detector of the shop's own: one function `text -> spans` of an installed package, such as one around Presidio.

    # regulars_presidio.py of a package that is installed beside Regulars
    from presidio_analyzer import AnalyzerEngine

    _engine = AnalyzerEngine()

    def spans(text):
        return [(found.start, found.end, "NAME") for found in _engine.analyze(text, language="en")]

Driver and workers find its dotted name in the environment variable VARIABLE, which a command sets from
`privacy.detector`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sysconfig
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from lm.redaction.span import KINDS, Span

VARIABLE = "REGULARS_DETECTOR"

Detector = Callable[[str], Iterable[tuple[int, int, str]]]


class DetectorError(ValueError):
    """The configured detector cannot be used."""


def plugged_in_spans(text: str) -> list[Span]:
    """What the plugged-in detector finds in `text`, as it stands there; nothing where none is configured.

    A kind that is not one of KINDS counts as NAME. Raises DetectorError where the detector cannot be imported, or
    returns places outside the text.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return []
    found = []
    for start, end, kind in load_detector(name)(text):
        if not 0 <= start < end <= len(text):
            raise DetectorError(f"privacy.detector: {name} returned a place outside its text")
        found.append(Span(start, end, kind if kind in KINDS else "NAME"))
    return found


@lru_cache(maxsize=4)
def load_detector(name: str) -> Detector:
    """Import the function `package.module.function`, from an installed package alone.

    A file of the working directory is refused: whoever may write there could read every text. Raises DetectorError.
    """
    module, _, function = name.rpartition(".")
    if not module:
        raise DetectorError(f"privacy.detector: {name} is not of the form package.module.function")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise DetectorError(
            f"privacy.detector: no installed package has {module}: install it where Spark's workers run"
        )
    installed = {Path(sysconfig.get_path(place)).resolve() for place in ("purelib", "platlib")}
    if not installed & set(Path(spec.origin).resolve().parents):
        raise DetectorError(f"privacy.detector: {module} is not of an installed package: install it with pip")
    detector = getattr(importlib.import_module(module), function, None)
    if not callable(detector):
        raise DetectorError(f"privacy.detector: {module} has no function {function}")
    return detector
