"""The key of the keyed hashes that stand for customers' ids in `quarantine`, receipts and pseudonyms.

Ids have so few values that a plain hash of each can be compared with a list of guesses. A keyed hash cannot, without
the key. The key is in an environment variable, in a file, or in `<store>/key`, which the first command generates. Only
this user reads that file, whatever `store_umask` says: analysts who read the tables do not get it. The key is in no
setting, Spark plan, log or message.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress

import pandas as pd
from pyspark.sql import Column, SparkSession

from jobs.spark import files
from jobs.spark.errors import ConfigurationError
from jobs.spark.pandas_udfs import pandas_udf

#: Hexadecimal digits of a keyed hash: 128 bits.
DIGITS = 32
_LEAST_CHARACTERS = 16


def read_key(spark: SparkSession, store_root: str, key_env: str, key_file: str | None, *, needs_env: bool) -> bytes:
    """Return the key: of the variable `key_env`, else of `key_file`, else of `<store>/key`, which is made if missing.

    Raises ConfigurationError where the variable is not set although `needs_env`, where the file cannot be read, and
    where the key is shorter than 16 characters.
    """
    if (text := os.environ.get(key_env)) is not None:
        place = f"the environment variable {key_env} (privacy.key_env)"
    elif needs_env:
        raise ConfigurationError(
            f"privacy.key_env: the environment variable {key_env} is not set. Set it to the key that earlier nights "
            "had, then run the same command again."
        )
    elif key_file is not None:
        text, place = _content(spark, key_file), f"{key_file} (privacy.key_file)"
        if text is None:
            raise ConfigurationError(
                f"privacy.key_file: {key_file} cannot be read. Put the key there, or remove privacy.key_file, then run "
                "the same command again."
            )
    else:
        place = f"{store_root}/key"
        text = _content(spark, place) or _generated(spark, place)
    key = text.strip().encode()
    if len(key) < _LEAST_CHARACTERS:
        raise ConfigurationError(
            f"the key in {place} has {len(key)} characters: give at least {_LEAST_CHARACTERS} random ones, such as "
            "those of `openssl rand -hex 32`."
        )
    return key


def keyed_hash(key: bytes, text: str) -> str:
    """Return HMAC-SHA-256 (RFC 2104) of a text in UTF-8, as 32 hexadecimal digits (128 bits)."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:DIGITS]


def keyed_hashes(key: bytes) -> Callable[[Column], Column]:
    """Return a function from a column of texts to their keyed hashes; null stays null.

    A Python function computes them, because a Spark plan with the key as a literal would reach the event log.
    """

    @pandas_udf("string")
    def keyed_hash_of(texts: pd.Series) -> pd.Series:
        return texts.map(lambda text: keyed_hash(key, text), na_action="ignore")

    return keyed_hash_of


def _content(spark: SparkSession, path: str) -> str | None:
    try:
        return files.read_text(spark, path)
    except (OSError, UnicodeDecodeError):
        return None


def _generated(spark: SparkSession, path: str) -> str:
    """Generate a key; of two commands that do so at once, both return the key of the first."""
    with suppress(FileExistsError):
        files.create_text(spark, path, secrets.token_hex(32), private=True)
    return files.read_text(spark, path)
