"""OpenLineage events of nights, as the client's file transport writes them."""

from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.config.config import Config
from jobs.config.input_settings import SourceSettings
from jobs.inputs.row_accounting import RowAccount
from jobs.report import lineage
from jobs.report.write import reported
from jobs.spark.errors import InputError
from jobs.store.store import Store
from jobs.tables.runs import Night
from tests.jobs.spark.test_files import NO_SPARK

DAY = date(2026, 3, 1)


def config_of(tmp_path: Path, client: str) -> Config:
    (tmp_path / "client.yml").write_text(client, encoding="utf-8")
    columns = {"user_id": "u", "item_id": "i", "purchased_at": "t", "title": "n"}
    jdbc = {"url": "jdbc:postgresql://db:5432/shop", "table": "sales.orders"}
    raw = {
        "store": str(tmp_path / "store"),
        "timezone": "UTC",
        "inputs": {
            "purchases": {"path": "/data/p", "columns": columns},
            "reviews": {"query": "SELECT * FROM raw"},
            "searches": {"path": "hdfs://lake:8020/s"},
        },
        "sources": {"raw": {"jdbc": jdbc}, "names": {"table": "lake.names"}},
        "report": {"write": False, "openlineage": str(tmp_path / "client.yml")},
    }
    return Config.model_validate(raw)


def run(config: Config, error: Exception | None = None) -> str:
    """A night that read purchases and published, or ended with `error`; returns what it printed."""
    log = io.StringIO()
    night = Night("the-run", DAY, Store(config.store), versions={})

    def body() -> None:
        with reported(NO_SPARK, config, "shop.yaml", night, Console(file=log, width=400)):
            night.accounts = {"purchases": RowAccount(read=7, used=7)}
            if error is not None:
                raise error
            night.rows = {"recommendations": 20}

    if error is None:
        body()
    else:
        with pytest.raises(type(error)):
            body()
    return log.getvalue()


@pytest.fixture
def events(tmp_path: Path) -> Any:
    """Runs a night and returns its events."""

    def of_night(error: Exception | None = None) -> list[dict[str, Any]]:
        file = tmp_path / "events.jsonl"
        assert not run(config_of(tmp_path, f"transport: {{type: file, log_file_path: {file}, append: true}}"), error)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    return of_night


def test_a_published_night_names_its_inputs_and_tables(events: Any, tmp_path: Path) -> None:
    start, end = events()
    assert [one["eventType"] for one in (start, end)] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == end["run"]["runId"]
    assert end["job"] == {"namespace": "regulars", "name": "store.nightly", "facets": {}}
    assert [(one["namespace"], one["name"]) for one in end["inputs"]] == [
        ("file", "/data/p"),
        ("hdfs://lake:8020", "/s"),
        ("postgresql://db:5432/shop", "sales.orders"),
        ("spark", "lake.names"),
    ]
    assert end["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 7
    (table,) = end["outputs"]
    assert (table["namespace"], table["name"]) == ("file", str(tmp_path / "store/tables/recommendations"))
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 20


def test_a_failed_night_says_why_and_names_no_table(events: Any) -> None:
    _, end = events(InputError("inputs.purchases: gone"))
    assert end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "inputs.purchases: gone"
    assert end["outputs"] == []


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ("transport: {type: file}", "no configuration of the OpenLineage client"),
        ("", "no configuration of the OpenLineage client"),
    ],
)
def test_a_wrong_client_is_a_warning_and_the_night_goes_on(client: str, said: str, tmp_path: Path) -> None:
    assert said in run(config_of(tmp_path, client))


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ({"path": "s3a://bucket/orders"}, ("s3a://bucket", "/orders")),
        ({"path": "abfss://box@account/orders"}, ("abfss://box@account", "/orders")),
        ({"jdbc": {"url": "jdbc:sqlserver://db;databaseName=shop", "table": "t"}}, ("sqlserver://db", "t")),
    ],
)
def test_events_name_the_place_of_a_source(source: dict[str, Any], place: tuple[str, str]) -> None:
    assert list(lineage._places(SourceSettings(**source))) == [place]


def test_events_have_no_secret_of_an_address() -> None:
    """The settings refuse such addresses; a folder of a store may come from elsewhere."""
    assert lineage._file("s3a://AKIA:secret@bucket/orders") == ("s3a://bucket", "/orders")
    assert lineage._without_secrets("sqlserver://me:secret@db;accessToken=secret") == "sqlserver://db"
