"""The versions that decide a date's rows besides its data: packages, settings and models.

A date is stale where its versions differ from today's. The catalogue is data: it makes no date stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.config.config import Config
from jobs.config.input_settings import SourceSettings
from jobs.inputs import optouts
from jobs.scoring import models
from jobs.scoring.models import Model
from jobs.sources.queries import uses_source
from jobs.spark import executor_files, files
from jobs.spark.errors import ConfigurationError
from jobs.store.store import Store
from jobs.tables.runs import packages
from jobs.tasks.all_tasks import TASKS, wanted_tasks
from jobs.tasks.task import Task
from lm.checkpoint import checkpoint
from lm.checkpoint.fingerprint import model_fingerprint
from schemas import runs

#: Keys of the configuration that decide where and how a night runs, but none of its rows.
_WHERE_AND_HOW = (
    "store",
    "store_umask",
    "inputs",
    "sources",
    "models",
    "train",
    "spark",
    "gate",
    "publish",
    "incremental",
    "gc",
    "retention",
    "report",
)
_NOT_DECIDING = dict.fromkeys(_WHERE_AND_HOW, True) | {
    "ledger": {"wave_minutes": True},
    "privacy": {"key_env": True, "key_file": True},
}
_DECIDING_INPUT_KEYS = {"format", "options", "where", "columns"}
_TABLES = ("inputs", "sources")
_DECIDING_SOURCE_KEYS = {"format", "options"}


def settings_version(config: Config) -> str:
    """16 hex digits that change with every setting that decides an output; paths and limits are left out."""
    inputs = {
        table: source.model_dump(include=_DECIDING_INPUT_KEYS) | _queries(source)
        for table, source in config.inputs.items()
    }
    sources = {
        name: source.model_dump(include=_DECIDING_SOURCE_KEYS) | _queries(source)
        for name, source in config.sources.items()
    }
    deciding = _deciding(config) | {"inputs": inputs} | ({"sources": sources} if sources else {})
    text = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _queries(source: SourceSettings) -> dict[str, str]:
    """Return the SQL that decides the rows of a source; nothing without, as in settings of earlier releases."""
    query = source.jdbc.query if source.jdbc is not None else getattr(source, "query", None)
    return {} if query is None else {"query": query}


def current(config: Config, config_file: str) -> tuple[dict[str, str], list[str]]:
    """Today's versions as a night would write them, and the errors of models that cannot be found.

    Without a session nothing tells the number format that `auto` means, so it is left out.
    """
    found, problems = packages() | {"settings": settings_version(config)}, []
    for task in wanted_tasks(config):
        try:
            found |= task_versions(task, task.find_model(config, config_file))
        except ConfigurationError as error:
            problems.append(str(error))
    if found.get("dtype") == "auto":
        del found["dtype"]
    return found, problems


def task_versions(task: Task, model: Model) -> dict[str, str]:
    """What decides a task's answers besides the settings: model, code and number format."""
    return {task.NAME: model.fingerprint, f"{task.NAME}.code": str(task.CODE_VERSION), "dtype": model.dtype}


def save_settings(spark: SparkSession, store: Store, config: Config) -> None:
    """Keep the settings under their version, without inputs, so that a date can be repeated with them."""
    path = store.settings(settings_version(config))
    if not files.exists(spark, path):
        files.write_text(spark, path, json.dumps(_deciding(config), indent=1, sort_keys=True))


def own_config(spark: SparkSession, store: Store, config: Config, published: Mapping[str, str]) -> Config:
    """The configuration with the settings and models that a date was published with, and today's inputs.

    Delta and Iceberg tables are read at the versions that the date was published with, but for opt-outs. A model is
    searched in the configured folder and in its sibling folders. Raises ConfigurationError with the mend where settings
    or a model are gone.
    """
    path = store.settings(published.get("settings", "unknown"))
    try:
        saved = json.loads(files.read_text(spark, path))
    except FileNotFoundError:
        raise ConfigurationError(
            f"the store has no settings of that date ({path}): run it with --versions current"
        ) from None
    chosen = {
        task.NAME: _folder_of(task.NAME, name, published[task.NAME])
        for task in TASKS
        if task.NAME in published and (name := getattr(config.models, task.NAME)) is not None
    }
    chosen |= {"dtype": published.get("dtype", config.models.dtype)}
    now = config.model_dump(mode="json")
    then = {key: now[key] | value if isinstance(value, dict) else value for key, value in saved.items()}
    text = json.dumps(now | {"rules": []} | then)  # settings without rules do not name them
    tables = {
        section: _at_own_versions(section, getattr(config, section), published, _of_optouts(config, section))
        for section in _TABLES
    }
    own = {"models": config.models.model_copy(update=chosen), **tables}
    found = Config.model_validate_json(text).model_copy(update=own)
    found._file, found._overrides = config._file, config._overrides
    return found


def _of_optouts(config: Config, section: str) -> Collection[str]:
    """Return what the opt-outs are read from: their list is today's, for a customer may have opted out since."""
    if optouts.TABLE not in config.inputs:
        return ()
    if section == "inputs":
        return (optouts.TABLE,)
    return [name for name in config.sources if uses_source(config.inputs[optouts.TABLE], name)]


def _at_own_versions(
    section: str, sources: Mapping[str, SourceSettings], published: Mapping[str, str], todays: Collection[str]
) -> dict[str, SourceSettings]:
    """Set the version of each Delta or Iceberg table that a date was published with, but for those of `todays`."""
    own = dict(sources)
    for name, source in sources.items():
        if name in todays:
            continue
        version = published.get(runs.input_version(section, name))
        if version is not None and source.kind in ("path", "table"):
            own[name] = source.model_copy(update={"version": int(version)})
    return own


def _folder_of(key: str, configured: str, fingerprint: str) -> str:
    siblings = sorted(Path(configured).parent.iterdir()) if Path(configured).parent.is_dir() else []
    own = models.resolve(configured) if executor_files.is_remote(configured) else Path(configured)
    for folder in (own, *siblings):
        try:
            if folder.is_dir() and model_fingerprint(folder) == fingerprint:
                return str(folder)
        except checkpoint.CheckpointError:
            continue  # some other folder
    raise ConfigurationError(
        f"models.{key}: the date was published with model {fingerprint}, which is neither {configured} nor a folder"
        " next to it. Put it back there, or run the date with --versions current."
    )


def _deciding(config: Config) -> dict[str, Any]:
    """The settings that decide rows; without rules they are the same as in releases that had none."""
    found = config.model_dump(mode="json", exclude=_NOT_DECIDING)
    if not config.rules:
        del found["rules"]
    return found
