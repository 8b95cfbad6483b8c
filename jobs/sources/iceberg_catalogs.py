"""Finds Iceberg tables of a catalog that `pyiceberg` knows and Spark does not, because it lacks Iceberg's jar.

The catalog's properties come from the environment (`PYICEBERG_CATALOG__LAKE__URI`), from `.pyiceberg.yaml`, or from the
section `spark` of the configuration (`spark.sql.catalog.lake.uri`). Source: the configuration of pyiceberg,
https://py.iceberg.apache.org/configuration.
"""

from __future__ import annotations

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.utils.config import Config as CatalogConfig
from pyspark.sql import SparkSession

from jobs.spark.errors import InputError

_SPARK = "spark.sql.catalog."


def find_table(spark: SparkSession, name: str, key: str) -> Table | None:
    """Return the table `catalog.namespace.table`; None where Spark has that catalog, or where nothing configures it.

    `key` names the source in messages. Raises InputError for a catalog that cannot be asked and for a missing table.
    """
    catalog, _, within = name.replace("`", "").partition(".")
    given = {one.removeprefix(f"{_SPARK}{catalog}."): value for one, value in spark.conf.getAll.items()}
    if f"{_SPARK}{catalog}" in given or "." not in within:
        return None
    properties = {one: value for one, value in given.items() if not one.startswith("spark.")}
    if not properties and not CatalogConfig().get_catalog_config(catalog):
        return None
    try:
        return load_catalog(catalog, **properties).load_table(within)
    except (NoSuchTableError, NoSuchNamespaceError):
        raise InputError(
            f"{key}.table: the Iceberg catalog {catalog} has no table {within}. Correct the name, then run the command "
            "again."
        ) from None
    except Exception as error:  # each kind of catalog has its own libraries and errors
        raise InputError(
            f"{key}.table: the Iceberg catalog {catalog} cannot be asked for {within} ({type(error).__name__}). "
            f"Correct its properties: {_SPARK}{catalog}.uri in the section spark, or the variable "
            f"PYICEBERG_CATALOG__{catalog.upper()}__URI."
        ) from None
