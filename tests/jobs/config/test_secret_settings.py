"""Secrets in free options and in addresses are refused with the place where they belong; nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config.config import load
from tests.jobs.config.test_config import RIGHT, error_of, write

JDBC = {"url": "jdbc:postgresql://db/shop", "table": "orders"}


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("spark.sql.catalog.lake.uri", "postgresql+psycopg2://shop:hidden@db/lake", "PYICEBERG_CATALOG__LAKE__URI"),
        ("spark.sql.catalog.lake.uri", "https://hidden@rest.example/lake", "PYICEBERG_CATALOG__LAKE__URI"),
        ("spark.sql.catalog.lake.uri", "jdbc:mysql://db/lake?user=a&password=hidden", "PYICEBERG_CATALOG__LAKE__URI"),
        (
            "spark.sql.catalog.lake.s3.secret-access-key",
            "hidden",
            "PYICEBERG_CATALOG__LAKE__S3__SECRET_ACCESS_KEY",
        ),
        ("spark.sql.catalog.lake.credential", "id:hidden", "PYICEBERG_CATALOG__LAKE__CREDENTIAL"),
        ("spark.sql.catalog.lake.token", "hidden", "PYICEBERG_CATALOG__LAKE__TOKEN"),
        ("spark.hadoop.fs.s3a.access.key", "hidden", "AWS_ACCESS_KEY_ID"),
        ("spark.hadoop.fs.azure.account.key.shop.dfs.core.windows.net", "hidden", "SPARK_CONF_DIR"),
        ("spark.driver.extraJavaOptions", "-Xss4m -Djavax.net.ssl.trustStorePassword=hidden", "SPARK_CONF_DIR"),
    ],
)
def test_a_secret_in_spark_settings_is_refused_with_its_place(
    tmp_path: Path, name: str, value: str, place: str
) -> None:
    said = error_of(tmp_path, RIGHT | {"spark": {name: value}})
    assert name[:60] in said
    assert place in said
    assert "hidden" not in said


def test_spark_settings_without_a_secret_are_taken(tmp_path: Path) -> None:
    settings = {
        "spark.sql.catalog.lake.uri": "https://rest.example/lake",
        "spark.sql.catalog.lake.warehouse": "abfss://container@shop.dfs.core.windows.net/lake",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "com.example.Provider",
        "spark.security.credentials.hive.enabled": "false",
        "spark.kubernetes.authenticate.driver.oauthTokenFile": "/var/run/token",
        "spark.driver.memory": "8g",
        "spark.sql.maxTokenLength": "1000",
    }
    assert load(write(tmp_path, RIGHT | {"spark": settings})).spark == settings


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ({"path": "x", "format": "delta", "options": {"AWS_SECRET_ACCESS_KEY": "hidden"}}, "AWS_SECRET_ACCESS_KEY"),
        ({"path": "x", "format": "delta", "options": {"azure_storage_account_key": "hidden"}}, "AZURE_STORAGE_ACCOUNT"),
        ({"path": "x", "format": "iceberg", "options": {"s3.secret-access-key": "hidden"}}, "AWS_SECRET_ACCESS_KEY"),
        ({"path": "x", "format": "snowflake", "options": {"sfPassword": "hidden"}}, "SPARK_CONF_DIR"),
        ({"path": "x", "format": "snowflake", "options": {"sfPassword": 730_112}}, "SPARK_CONF_DIR"),
        (
            {"path": "x", "format": "mongodb", "options": {"connection.uri": "mongodb+srv://shop:hidden@h"}},
            "SPARK_CONF",
        ),
        (
            {"path": "x", "format": "kafka", "options": {"jaas.config": 'Login username="shop" password="hidden";'}},
            "SPARK",
        ),
        ({"path": "x", "format": "cosmos", "options": {"connection": "Endpoint=e;AccountKey=hidden=="}}, "SPARK_CONF"),
        ({"path": "s3a://AKIA:hidden@bucket/orders"}, "AWS_SECRET_ACCESS_KEY"),
        ({"path": ["data", "https://h/orders?sv=1&sig=hidden"]}, "SPARK_CONF_DIR"),
        ({"jdbc": JDBC, "options": {"trustStorePassword": "hidden"}}, "jdbc.password_env"),
        ({"jdbc": JDBC | {"url": "jdbc:oracle:thin:shop/hidden@db:1521/x"}}, "password_env"),
        ({"jdbc": JDBC | {"url": "jdbc:db2://h:1/shop:user=hidden;"}}, "password_env"),
    ],
)
@pytest.mark.parametrize("section", ["inputs", "sources"])
def test_a_secret_of_a_source_is_refused_with_its_place(
    tmp_path: Path, source: dict[str, Any], place: str, section: str
) -> None:
    given = {"inputs": RIGHT["inputs"] | {"purchases": source}} if section == "inputs" else {"sources": {"o": source}}
    said = error_of(tmp_path, RIGHT | given)
    assert f"{section}." in said
    assert place in said
    assert "hidden" not in said
    assert "730" not in said


@pytest.mark.parametrize(
    ("sections", "key", "place"),
    [
        (
            {"publish": {"format": "delta", "to": "s3://b/x", "options": {"aws_session_token": "hidden"}}},
            "publish.options: aws_session_token",
            "AWS_SECRET_ACCESS_KEY",
        ),
        (
            {"publish": {"format": "delta", "to": "az://b/x", "options": {"AZURE_CLIENT_SECRET": "hidden"}}},
            "publish.options: AZURE_CLIENT_SECRET",
            "variable AZURE_CLIENT_SECRET",
        ),
        ({"publish": {"format": "delta", "to": "s3://AKIA:hidden@b/x"}}, "publish.to", "AWS_SECRET_ACCESS_KEY"),
        ({"store": "hdfs://shop:hidden@host/store"}, "store", "SPARK_CONF_DIR"),
        ({"models": {"recommend": "https://shop:hidden@h/model"}}, "models.recommend", "SPARK_CONF_DIR"),
        ({"train": {"recommend": {"init": "s3a://AKIA:hidden@b/gpt2"}}}, "train.recommend.init", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_secret_elsewhere_is_refused_with_its_place(
    tmp_path: Path, sections: dict[str, Any], key: str, place: str
) -> None:
    said = error_of(tmp_path, RIGHT | sections)
    assert key in said
    assert place in said
    assert "hidden" not in said


def test_options_and_addresses_without_a_secret_are_taken(tmp_path: Path) -> None:
    options = {"header": True, "sep": ";", "quote": '"', "maxCharsPerColumn": 4096, "comment": "#", "encoding": "UTF-8"}
    storage = {
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "aws_s3_allow_unsafe_rename": "true",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token",
        "aws_container_credentials_relative_uri": "/v2/x",
        "timeout": "30s",
    }
    paths = ["data/user=1/a@b", "s3a://b/{user=1,user=2}/*", "abfss://box@shop.dfs.core.windows.net/x", "file:///a@b"]
    inputs = RIGHT["inputs"] | {"purchases": {"path": paths, "format": "csv", "options": options}}
    given = {"inputs": inputs, "publish": {"format": "delta", "to": "s3://b/x", "options": storage}}
    config = load(write(tmp_path, RIGHT | given))
    assert config.inputs["purchases"].options == options
    assert config.inputs["purchases"].paths[1:] == paths[1:]
    assert config.publish.options == storage
    sources = {"o": {"jdbc": JDBC, "options": {"fetchsize": 5, "driver": "org.postgresql.Driver", "ssl": True}}}
    assert load(write(tmp_path, RIGHT | {"sources": sources})).sources["o"].options == sources["o"]["options"]
