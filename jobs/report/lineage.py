"""Sends OpenLineage events of a night: START, then COMPLETE or FAIL, with its input and output tables.

The key `report.openlineage` names the configuration file of the OpenLineage client, which says where events go. Source:
https://openlineage.io/docs/spec/object-model, https://openlineage.io/docs/client/python.
"""

from __future__ import annotations

import importlib.metadata
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from jobs.config.config import Config
from jobs.config.input_settings import SourceSettings, unescaped
from jobs.spark.errors import ConfigurationError
from jobs.tables.runs import Night

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

_NAMESPACE = "regulars"
_PRODUCER = f"https://pypi.org/project/regulars/{importlib.metadata.version('regulars')}"


def send_start(config: Config, file: str, night: Night) -> None:
    """Send the event of a night that begins. Raises ConfigurationError where no client can be made."""
    _send(config, file, night, "START", None)


def send_end(config: Config, file: str, night: Night, reason: str | None) -> None:
    """Send the event of a night that was published (`reason` is None) or was not, with the rows of its tables.

    Raises ConfigurationError where no client can be made.
    """
    _send(config, file, night, "COMPLETE" if reason is None else "FAIL", reason)


def _send(config: Config, file: str, night: Night, state: str, reason: str | None) -> None:
    client = _client(file)
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import error_message_run, nominal_time_run

    facets: dict[str, Any] = {"nominalTime": nominal_time_run.NominalTimeRunFacet(f"{night.run_date}T00:00:00Z")}
    if reason is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(reason, "Python")
    run_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{night.store.root}#{night.run_id}")
    try:
        client.emit(
            RunEvent(
                eventType=RunState[state],
                eventTime=datetime.now(UTC).isoformat(),
                run=Run(str(run_id), facets),
                job=Job(_NAMESPACE, f"{Path(night.store.root).name}.nightly"),
                producer=_PRODUCER,
                inputs=list(_inputs(config, night)),
                outputs=[] if reason is not None else list(_outputs(night)),
            )
        )
    finally:
        client.close()


def _client(file: str) -> OpenLineageClient:
    try:
        from openlineage.client import OpenLineageClient
    except ImportError:
        raise ConfigurationError(
            "report.openlineage needs a package: pip install 'regulars[openlineage]', or remove the key"
        ) from None
    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        return OpenLineageClient(config={"transport": settings["transport"], **settings})
    except OSError:
        raise ConfigurationError(f"report.openlineage: {file} cannot be read: name the client's file") from None
    except Exception as error:  # each transport checks its own settings
        raise ConfigurationError(
            f"report.openlineage: {file} is no configuration of the OpenLineage client ({type(error).__name__})"
        ) from None


def _inputs(config: Config, night: Night) -> Iterator[Any]:
    """Each place that the inputs and their named sources are read from; rows are those of the inputs."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    for table, source in config.inputs.items():
        account = night.accounts.get(table)
        facets = (
            {} if account is None else {"inputStatistics": statistics.InputStatisticsInputDatasetFacet(account.read)}
        )
        for namespace, name in _places(source):
            yield InputDataset(namespace, name, facets)
    for named in config.sources.values():
        for namespace, name in _places(named):
            yield InputDataset(namespace, name)


def _places(source: SourceSettings) -> Iterator[tuple[str, str]]:
    """Return namespace and name of a source's data sets, as OpenLineage names them; a query has none of its own."""
    for path in source.paths:
        yield _file(unescaped(path))
    if source.table is not None:
        yield "spark", source.table
    if source.jdbc is not None and source.jdbc.table is not None:
        yield _without_secrets(source.jdbc.url.removeprefix("jdbc:")), source.jdbc.table


def _without_secrets(url: str) -> str:
    """A URL without user, password and parameters."""
    return re.sub("//[^/@]*@", "//", re.split("[?;]", url)[0])


def _outputs(night: Night) -> Iterator[Any]:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    for table, rows in night.rows.items():
        facets = {"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(rows)}
        yield OutputDataset(*_file(night.store.table(table)), facets)


def _file(path: str) -> tuple[str, str]:
    parts = urlsplit(path)
    user, _, host = parts.netloc.rpartition("@")
    place = host if ":" in user else parts.netloc  # abfss names a container before the @
    return (f"{parts.scheme}://{place}" if place else "file", parts.path)
