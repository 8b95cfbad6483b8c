"""The key of keyed hashes: where it comes from, who may read it, and what it gives."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from jobs.config.privacy import privacy_key
from jobs.config.settings import Config
from jobs.spark.errors import ConfigurationError
from jobs.spark.privacy_key import keyed_hash
from tests.jobs.spark.test_files import NO_SPARK


def config(store: Path, **privacy: str) -> Config:
    inputs = {name: {"path": name} for name in ("purchases", "items")}
    return Config.model_validate({"store": str(store), "timezone": "UTC", "inputs": inputs, "privacy": privacy})


def test_variable_then_file_then_the_stores_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGULARS_KEY")
    own = privacy_key(NO_SPARK, config(tmp_path / "store"))
    assert privacy_key(NO_SPARK, config(tmp_path / "store")) == own
    assert privacy_key(NO_SPARK, config(tmp_path / "other")) != own
    assert len(own) == 64
    assert (tmp_path / "store" / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").write_text("a key of the test\n")
    from_file = config(tmp_path / "store", key_file=str(tmp_path / "key"))
    assert privacy_key(NO_SPARK, from_file) == b"a key of the test"
    monkeypatch.setenv("REGULARS_KEY", "another key of the test")
    assert privacy_key(NO_SPARK, from_file) == b"another key of the test"


def test_a_configured_key_that_is_missing_or_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night that took another key would hash the same customer in another way."""
    with pytest.raises(ConfigurationError, match="SHOP_KEY is not set"):
        privacy_key(NO_SPARK, config(tmp_path, key_env="SHOP_KEY"))
    monkeypatch.setenv("SHOP_KEY", "short")
    with pytest.raises(ConfigurationError, match="has 5 characters: give at least 16") as caught:
        privacy_key(NO_SPARK, config(tmp_path, key_env="SHOP_KEY"))
    assert "'short'" not in str(caught.value)
    monkeypatch.delenv("REGULARS_KEY")
    with pytest.raises(ConfigurationError, match="nowhere cannot be read"):
        privacy_key(NO_SPARK, config(tmp_path, key_file=str(tmp_path / "nowhere")))
    assert list(tmp_path.iterdir()) == []


def test_it_is_hmac_sha_256() -> None:
    expected = hmac.digest(b"k" * 16, "früh".encode(), hashlib.sha256)[:16].hex()
    assert keyed_hash(b"k" * 16, "früh") == expected
