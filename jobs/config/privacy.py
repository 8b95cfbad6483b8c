"""The key of the keyed hashes, as the section `privacy` names it."""

from __future__ import annotations

from pyspark.sql import SparkSession

from jobs.config.settings import Config
from jobs.spark import files
from jobs.spark.privacy_key import read_key


def privacy_key(spark: SparkSession, config: Config) -> bytes:
    """Return the key; the first call for a store without a configured one generates `<store>/key`.

    Raises ConfigurationError where the configured key is missing or too short.
    """
    here = files.local(config.store)
    root = str(here) if here else config.store.rstrip("/")
    settings = config.privacy
    needs_env = "key_env" in settings.model_fields_set and settings.key_file is None
    return read_key(spark, root, settings.key_env, settings.key_file, needs_env=needs_env)
