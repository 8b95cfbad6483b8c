"""Reads tables of databases by JDBC; user and password come from environment variables only.

Spark's JDBC source reads a table in one connection, or in ranges of a column in several. The rows of several
connections may be of different moments: name a table that is complete before the night begins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from jobs.config.input_settings import JdbcSettings, SourceSettings
from jobs.spark.errors import ConfigurationError, InputError

#: Driver classes, because Java finds no driver in a jar that Spark loaded later.
_DRIVERS = {
    "postgresql": "org.postgresql.Driver",
    "mysql": "com.mysql.cj.jdbc.Driver",
    "mariadb": "org.mariadb.jdbc.Driver",
    "sqlserver": "com.microsoft.sqlserver.jdbc.SQLServerDriver",
    "oracle": "oracle.jdbc.OracleDriver",
    "duckdb": "org.duckdb.DuckDBDriver",
    "sqlite": "org.sqlite.JDBC",
}


def open_jdbc(spark: SparkSession, source: SourceSettings, key: str) -> DataFrame:
    """Open the table; `key` names the source in messages.

    Raises ConfigurationError if an environment variable is not set, InputError if the driver is missing or the
    database refuses. No message has the user or the password.
    """
    jdbc = source.jdbc
    assert jdbc is not None, "the caller chose by the kind"
    options = connection_options(jdbc, source.options, os.environ, key)
    try:
        if jdbc.partition_column is not None:
            options |= _ranges(spark, jdbc, options, key)
        return spark.read.format("jdbc").options(**options, dbtable=relation(jdbc)).load()
    except (PySparkException, Py4JJavaError) as error:
        raise _explained(error, jdbc, options, key) from None


def connection_options(
    jdbc: JdbcSettings, given: Mapping[str, Any], environment: Mapping[str, str], key: str
) -> dict[str, Any]:
    """Return Spark's options of the connection: URL, driver, user, password, and what the configuration gives.

    Local times without a zone are the shop's, as in files; without preferTimestampNTZ they would be the machine's.
    """
    database = jdbc.url.split(":")[1]
    options: dict[str, Any] = {"url": jdbc.url, "fetchsize": 10_000, "preferTimestampNTZ": True}
    if database in _DRIVERS:
        options["driver"] = _DRIVERS[database]
    options |= given
    for option, name in (("user", jdbc.user_env), ("password", jdbc.password_env)):
        if name is None:
            continue
        if name not in environment:
            raise ConfigurationError(
                f"{key}.jdbc.{option}_env: the environment variable {name} is not set. Set it, then run the command "
                "again."
            )
        options[option] = environment[name]
    return options


def relation(jdbc: JdbcSettings) -> str:
    """Return the table, or the query in parentheses, as the FROM clause of the database's SQL."""
    return jdbc.table if jdbc.table is not None else f"({(jdbc.query or '').rstrip().rstrip(';')}) regulars_rows"


def sql_exception(error: PySparkException | Py4JJavaError) -> Any:
    """Return the database's java.sql.SQLException among the causes of an error, or None."""
    cause: Any = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
    gateway = SparkContext.getOrCreate()._gateway
    while cause is not None:
        if is_instance_of(gateway, cause, "java.sql.SQLException"):
            return cause
        cause = cause.getCause()
    return None


def _ranges(spark: SparkSession, jdbc: JdbcSettings, options: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the options that split the rows into ranges between the smallest and the largest value of the column."""
    column = jdbc.partition_column
    selected = f"(SELECT MIN({column}) AS lo, MAX({column}) AS hi FROM"
    query = " ".join((selected, relation(jdbc), ") regulars_bounds"))
    row = spark.read.format("jdbc").options(**options, dbtable=query).load().collect()[0]
    if row[0] is None:
        return {}
    if not isinstance(row[0], date | int | float | Decimal):
        raise InputError(
            f"{key}.jdbc.partition_column: {column} is no number, date or timestamp. Name one that is, or remove "
            "the key."
        )
    bounds = [str(value) if isinstance(value, date) else str(int(value)) for value in row]
    return {
        "partitionColumn": column,
        "lowerBound": bounds[0],
        "upperBound": bounds[1],
        "numPartitions": jdbc.partitions,
    }


def _explained(
    error: PySparkException | Py4JJavaError, jdbc: JdbcSettings, options: Mapping[str, Any], key: str
) -> InputError:
    """Word an error of opening; no row was read, so the database's message quotes none."""
    text = str(error)
    if "No suitable driver" in text or "ClassNotFoundException" in text:
        return InputError(
            f"{key}.jdbc: Spark has no driver for {jdbc.url.partition('?')[0]}. Name its jar: spark: {{spark.jars: "
            f"/path/to/driver.jar}}, and for other databases than {', '.join(_DRIVERS)} its class: options: {{driver: "
            "...}. Then run the command again."
        )
    refused = sql_exception(error)
    if refused is not None:
        lines = str(refused.getMessage()).splitlines() or [""]
        said = lines[0]
        for secret in (options.get("password"), options.get("user")):
            said = said.replace(secret, "***") if secret else said
        return InputError(
            f"{key}.jdbc: {jdbc.url.partition('?')[0]} refuses: {said} (SQLSTATE {refused.getSQLState()}). "
            f"Correct {key}.jdbc, or the variables of its user and password. Then run the command again."
        )
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    return InputError(
        f"{key}.jdbc: {jdbc.table or 'the query'} cannot be read ({condition or type(error).__name__}). Correct "
        f"{key}.jdbc: partition_column must be a numeric, date or timestamp column. Then run the command again."
    )
