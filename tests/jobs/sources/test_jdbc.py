"""JDBC: options and secrets without a database; orders, lines and reviews from a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.config.input_settings import JdbcSettings
from jobs.sources.jdbc import connection_options, relation
from jobs.spark.errors import ConfigurationError
from tests import ROOT, postgres
from tests.models import save_causal, save_classifier
from tests.nights import tables

URL = "jdbc:postgresql://localhost/shop"


def test_options_of_a_connection() -> None:
    jdbc = JdbcSettings(url=URL, table="sales.orders", user_env="DB_USER", password_env="DB_PASSWORD")
    given = {"fetchsize": 100, "sessionInitStatement": "SET x = 1"}
    options = connection_options(jdbc, given, {"DB_USER": "u", "DB_PASSWORD": "p"}, "inputs.purchases")
    assert options == {
        "url": URL,
        "driver": "org.postgresql.Driver",
        "fetchsize": 100,
        "preferTimestampNTZ": True,
        "sessionInitStatement": "SET x = 1",
        "user": "u",
        "password": "p",
    }
    assert "driver" not in connection_options(JdbcSettings(url="jdbc:rare:x", table="t"), {}, {}, "k")


def test_a_variable_that_is_not_set() -> None:
    jdbc = JdbcSettings(url=URL, table="orders", user_env="DB_USER", password_env="DB_PASSWORD")
    with pytest.raises(ConfigurationError) as caught:
        connection_options(jdbc, {}, {"DB_USER": "hunter2"}, "sources.orders")
    message = str(caught.value)
    assert message.startswith("sources.orders.jdbc.password_env: the environment variable DB_PASSWORD is not set. Set")
    assert "hunter2" not in message


def test_the_relation_is_a_table_or_a_query_in_parentheses() -> None:
    assert relation(JdbcSettings(url=URL, table="sales.orders")) == "sales.orders"
    assert relation(JdbcSettings(url=URL, query="SELECT 1;\n")) == "(SELECT 1) regulars_rows"


TABLES = """
CREATE TABLE orders (order_id int PRIMARY KEY, customer text, ordered_at timestamp, paid_at timestamptz, status text);
INSERT INTO orders SELECT n, 'u' || n % 7, timestamp '2026-01-01 23:30' + n * interval '13 hours',
    timestamptz '2026-01-01 23:30+00' + n * interval '13 hours', CASE WHEN n % 5 = 0 THEN 'cart' ELSE 'paid' END
    FROM generate_series(1, 100) n;
CREATE TABLE lines AS SELECT o AS order_id, 'i' || (o * l) % 11 AS sku, l AS quantity,
    (o * l)::numeric(10, 2) / 4 AS price FROM generate_series(1, 100) o, generate_series(1, 3) l;
CREATE TABLE reviews AS SELECT n AS review_id, 'u' || n % 7 AS customer, 'i' || n % 11 AS sku, n % 5 + 1 AS stars,
    'review ' || n AS words, timestamp '2026-01-05 10:00' + n * interval '1 day' AS written
    FROM generate_series(1, 50) n;
CREATE TABLE items AS SELECT 'i' || n AS item_id, 'Product ' || n AS title FROM generate_series(0, 10) n;
"""
#: Fails while rows are read.
FAILING = "SELECT order_id, sku, price, 1 / (quantity - quantity) AS quantity FROM lines"
COLUMNS = {
    "reviews": {
        "review_id": "review_id", "user_id": "customer", "item_id": "sku", "rating": "stars", "text": "words",
        "reviewed_at": "written",
    },
    "purchases": {
        "order_id": "order_id", "user_id": "customer", "item_id": "sku", "quantity": "quantity", "unit_price": "price",
        "purchased_at": "ordered_at",
    },
}  # fmt: skip
#: Reads the inputs of a configuration in a process of its own, whose session has the driver, and writes the used rows.
READ = """
import sys
from datetime import date
from jobs.config.config import load
from jobs.inputs.reader import read_inputs
from jobs.spark.errors import UserError
from jobs.spark.session import create_session

config = load(sys.argv[1], sys.argv[3:])
conf = {"spark.master": "local[2]", "spark.sql.shuffle.partitions": "2", "spark.driver.memory": "1g", **config.spark}
spark = create_session("jdbc", timezone=config.timezone, conf=conf)
spark.sparkContext.setLogLevel("INFO")
try:
    found = read_inputs(spark, config, date(2026, 2, 20), sys.argv[2] + "/work")
except UserError as error:
    print("ERROR", error)
else:
    for table, rows in found.used.items():
        print("PLAN", rows._jdf.queryExecution().toString())
        rows.toPandas().to_parquet(f"{sys.argv[2]}/{table}.parquet")
        print("ACCOUNT", table, found.accounts[table])
"""


def configuration(folder: Path, sources: dict[str, Any], **reviews: Any) -> Path:
    query = (
        "SELECT customer, ordered_at, l.* FROM orders o JOIN lines l ON o.order_id = l.order_id WHERE status = 'paid'"
    )
    file = folder / "regulars.yaml"
    content = {
        "store": "store",
        "timezone": "America/New_York",
        "inputs": {
            "purchases": {"query": query, "columns": COLUMNS["purchases"]},
            "items": {"query": "SELECT * FROM products"},
            "reviews": {"columns": COLUMNS["reviews"], "where": "written < '{run_date}'", **reviews},
        },
        "sources": sources,
        "spark": {"spark.jars": str(postgres.DRIVER), "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1"},
    }
    folder.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def read(file: Path, *overrides: str, **environment: str) -> str:
    """Return everything that the reading process prints, its INFO log included."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"} | environment
    command = [sys.executable, "-c", READ, str(file), str(file.parent), *overrides]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=3600)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    return printed


#: What the tests' programs find in their environment.
SECRETS = {"SHOP_USER": postgres.USER, "SHOP_PASSWORD": postgres.PASSWORD}


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Postgres]:
    """A running PostgreSQL with the shop's tables."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as running:
        running.run(TABLES)
        yield running


def from_database(database: postgres.Postgres, folder: Path) -> Path:
    """Write a configuration that reads all inputs by JDBC."""
    login = {"url": database.url, "user_env": "SHOP_USER", "password_env": "SHOP_PASSWORD"}
    ranges = {"partition_column": "order_id", "partitions": 3}
    lines = {"query": "SELECT * FROM lines WHERE quantity > 0;", "partition_column": "price"}
    sources = {
        "orders": {"jdbc": {"table": "orders", **ranges, **login}},
        "lines": {"jdbc": lines | login},
        "products": {"jdbc": {"table": "items", **login}},
    }
    reviews = {"jdbc": {"table": "reviews", "partition_column": "written", "partitions": 4, **login}}
    return configuration(folder, sources, **reviews)


def from_files(database: postgres.Postgres, folder: Path) -> Path:
    """Write the same tables as Parquet files, and a configuration that reads them."""
    folder.mkdir()
    exported = {"orders": "orders", "lines": "lines", "products": "items", "reviews": "reviews"}
    copies = _copies(database, exported, folder)
    named = {name: {"path": str(path)} for name, path in copies.items() if name != "reviews"}
    return configuration(folder, named, path=str(copies["reviews"]))


@pytest.mark.faults
def test_orders_and_lines_from_postgresql_equal_those_from_parquet(tmp_path: Path, database: postgres.Postgres) -> None:
    """The same rows from a database and from files; no secret in plans and logs; local times are the shop's."""
    file = from_database(database, tmp_path / "database")
    printed = read(file, **SECRETS)
    assert "ERROR" not in printed
    assert postgres.PASSWORD not in printed
    accounts = [line for line in printed.splitlines() if line.startswith("ACCOUNT purchases")]
    assert "240 read" in accounts[0]
    assert "0 quarantined" in accounts[0]

    read(from_files(database, tmp_path / "files"), **SECRETS)
    for table in ("purchases", "items", "reviews"):
        ours, theirs = (
            pq.read_table(tmp_path / kind / f"{table}.parquet").to_pandas() for kind in ("database", "files")
        )
        keys = list(ours.columns)
        pd.testing.assert_frame_equal(
            ours.sort_values(keys, ignore_index=True), theirs.sort_values(keys, ignore_index=True)
        )
    newest = pq.read_table(tmp_path / "database" / "reviews.parquet").to_pandas()["reviewed_at"].max()
    assert newest == pd.Timestamp("2026-02-19 10:00:00"), "10:00 in New York, whatever the machine's zone is"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("override", "environment", "says"),
    [
        ((), {"SHOP_PASSWORD": "wrong-secret"}, 'refuses: FATAL: password authentication failed for user "***"'),
        (
            ("sources.orders.jdbc.table=nowhere",),
            {},
            'refuses: ERROR: relation "nowhere" does not exist (SQLSTATE 42P01',
        ),
        (
            ("sources.orders.jdbc.partition_column=status",),
            {},
            "status is no number, date or timestamp. Name one that",
        ),
        (("spark={}",), {}, "sources.lines.jdbc: Spark has no driver for jdbc:postgresql://localhost"),
        ((f"sources.lines.jdbc.query={FAILING}",), {}, "the database ended the read"),
    ],
    ids=["password", "table", "partition_column", "driver", "query"],
)
def test_a_database_that_cannot_be_read(
    tmp_path: Path, database: postgres.Postgres, override: tuple[str, ...], environment: dict[str, str], says: str
) -> None:
    printed = read(from_database(database, tmp_path / "database"), *override, **SECRETS | environment)
    (message,) = [line for line in printed.splitlines() if line.startswith("ERROR ")]
    assert says in message, message
    assert not {postgres.PASSWORD, "wrong-secret"} & set(message.split())
    assert postgres.PASSWORD not in printed


@pytest.mark.faults
def test_a_night_from_postgresql_publishes_what_one_from_parquet_does(
    tmp_path: Path, database: postgres.Postgres
) -> None:
    """Orders, lines, products and reviews; every published row is equal, and no file of the store has the password."""
    models = tmp_path / "models"
    save_causal(models / "recommend", item_ids=[f"i{n}" for n in range(11)])
    save_classifier(models / "sentiment")
    by_jdbc = night_of(from_database(database, tmp_path / "database"), models)
    assert {"recommendations", "sentiments", "prompts", "loyalty", "purchases_used"} <= by_jdbc.keys()
    assert by_jdbc == night_of(from_files(database, tmp_path / "files"), models)
    secret = postgres.PASSWORD.encode()
    assert not [path for path in (tmp_path / "database").rglob("*") if path.is_file() and secret in path.read_bytes()]


def night_of(file: Path, models: Path) -> dict[str, dict[str, str]]:
    """Run the night of 2026-02-20; returns the hashes of its tables' files."""
    overrides = [
        *(f"models.{name}={models / name}" for name in ("recommend", "sentiment")),
        *("sentiment.lookback_days=60", "recommend.k=5", "recommend.exclude_purchased=false"),
        *("spark.spark.master=local[2]", "spark.spark.sql.shuffle.partitions=2", "spark.spark.driver.memory=1g"),
    ]
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "nightly", "--config", str(file)]
    command += ["--run-date", "2026-02-20", *(part for one in overrides for part in ("--set", one))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"} | SECRETS
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert postgres.PASSWORD not in done.stdout + done.stderr
    return tables(file.parent / "store")


def _copies(database: postgres.Postgres, tables: dict[str, str], folder: Path) -> dict[str, Path]:
    """Export tables as CSV by psql, and write them as Parquet with the types of the database."""
    types = {"ordered_at": "TIMESTAMP", "written": "TIMESTAMP", "price": "DECIMAL(12,4)", "paid_at": "TIMESTAMPTZ"}
    found = {}
    for name, table in tables.items():
        exported, found[name] = Path(database.folder) / f"{table}.csv", folder / f"{name}_source.parquet"
        database.run(f"\\copy {table} TO '{exported}' CSV HEADER")
        with duckdb.connect() as files:
            header = exported.read_text().splitlines()[0].split(",")
            chosen = {column: kind for column, kind in types.items() if column in header}
            files.read_csv(str(exported), dtype=chosen).write_parquet(str(found[name]))
    return found
