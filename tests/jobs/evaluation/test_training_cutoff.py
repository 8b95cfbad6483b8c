"""A model is judged only by events that its training could not read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jobs.config.settings import Config
from jobs.evaluation.training_cutoff import open_earlier_model, open_model, refuse_replaced_model
from jobs.spark.errors import ConfigurationError, ModelChanged
from lm.checkpoint.manifest import Manifest, read_manifest, write_manifest
from tests.models import save_classifier


def test_a_model_of_an_earlier_day_is_opened_and_one_of_a_later_day_is_refused(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    raw = {"store": "s", "timezone": "UTC", "inputs": {"reviews": {"path": "r"}}, "models": {"sentiment": str(model)}}
    config = Config.model_validate(raw)
    with pytest.raises(ConfigurationError, match=r"^models\.sentiment: .*missing"):
        open_model("sentiment", str(tmp_path / "missing"))
    assert open_earlier_model("sentiment", config, date(2026, 3, 2)).manifest.trained_as_of is None

    before = Manifest() if not (model / "regulars.json").exists() else read_manifest(model)
    write_manifest(model, before.model_copy(update={"training": {"window": {"as_of": "2026-03-02"}}}))
    opened = open_earlier_model("sentiment", config, date(2026, 3, 2))
    assert (opened.path, opened.manifest.trained_as_of) == (model, date(2026, 3, 2))
    refuse_replaced_model("sentiment", opened.path, opened.fingerprint)
    with pytest.raises(ModelChanged, match="was replaced during its evaluation"):
        refuse_replaced_model("sentiment", opened.path, "another")
    with pytest.raises(
        ConfigurationError, match=r"up to 2026-03-02.*train --config .*--task sentiment --as-of 2026-03-01"
    ):
        open_earlier_model("sentiment", config, date(2026, 3, 1))
