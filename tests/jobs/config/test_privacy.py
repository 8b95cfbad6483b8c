"""Which of the configured keys are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config import privacy
from jobs.config.settings import Config, PrivacySettings


@pytest.mark.parametrize(
    ("section", "needs_env"),
    [({}, False), ({"key_env": "SHOP_KEY"}, True), ({"key_file": "key"}, False)],
)
def test_only_a_configured_variable_must_be_set(
    section: dict[str, Any], needs_env: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def read_key(*_: object, needs_env: bool) -> bytes:
        asked.append(needs_env)
        return b"key"

    monkeypatch.setattr(privacy, "read_key", read_key)
    config = Config.model_construct(store=str(tmp_path), privacy=PrivacySettings(**section))
    assert privacy.privacy_key(None, config) == b"key"
    assert asked == [needs_env]
