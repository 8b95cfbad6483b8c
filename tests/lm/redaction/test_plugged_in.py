"""A detector of an installed package joins ours; files of the working directory are refused."""

from __future__ import annotations

import sys

import pytest

from lm.redaction import plugged_in
from lm.redaction.plugged_in import VARIABLE, DetectorError, load_detector
from lm.redaction.redact import redact

DETECTOR = """
def spans(text):
    place = text.find("zorbing")
    return [(place, place + 7, "HOBBY")] if place >= 0 else []

def outside(text):
    return [(0, len(text) + 1, "NAME")]
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package in a folder that counts as that of installed packages."""
    (tmp_path / "shop_detector.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugged_in.sysconfig, "get_path", lambda place: str(tmp_path))
    yield tmp_path
    sys.modules.pop("shop_detector", None)
    load_detector.cache_clear()


def test_its_finds_are_replaced_beside_ours(installed, monkeypatch):
    assert redact("I like zorbing") == "I like zorbing"
    monkeypatch.setenv(VARIABLE, "shop_detector.spans")
    assert redact("I like zorbing, call 07911 123456") == "I like [NAME], call [PHONE]"


def test_a_place_outside_the_text_is_refused(installed, monkeypatch):
    monkeypatch.setenv(VARIABLE, "shop_detector.outside")
    with pytest.raises(DetectorError, match="outside its text"):
        redact("I like zorbing")


def test_files_of_the_working_directory_are_refused(tmp_path, monkeypatch):
    (tmp_path / "local_detector.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DetectorError, match="not of an installed package"):
        load_detector("local_detector.spans")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spans", "not of the form"),
        ("no_such_package.spans", "no installed package"),
        ("phonenumbers.no_such_function", "has no function"),
    ],
)
def test_what_cannot_be_imported_is_named(name, message):
    with pytest.raises(DetectorError, match=message):
        load_detector(name)
