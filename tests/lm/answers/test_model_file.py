"""The settings of an answers model are read as they were written, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm.answers.model_file import SETTINGS_FILE, AnswersFile, read_settings, write_settings
from lm.checkpoint.checkpoint import CheckpointError


@pytest.mark.parametrize("confidence", [0.0, 0.25, 1.0])
def test_settings_survive_writing_and_reading(confidence: float, tmp_path: Path) -> None:
    settings = AnswersFile(words=["invoice", "退货"], min_confidence=confidence)
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no answers\.json"):
        read_settings(tmp_path)
    for key, value in (("min_confidence", 1.5), ("min_confidence", -0.1), ("words", 3), ("unknown", 1)):
        (tmp_path / SETTINGS_FILE).write_text(json.dumps({key: value}))
        with pytest.raises(CheckpointError, match=rf"answers\.json: {key}"):
            read_settings(tmp_path)
