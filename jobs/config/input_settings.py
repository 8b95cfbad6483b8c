"""The keys of one input table and of one named source: where the rows are and how their columns are computed."""

from __future__ import annotations

import re
from datetime import date
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from jobs.config import run_date as placeholders
from jobs.config.secret_settings import has_secret, of_database, of_files, of_storage, refuse_secrets, without_secret
from jobs.config.strict_model import PositiveInt, Section, require_scalars, scalar_text

#: Column that purchases may map besides its contract: without an items table, the catalogue is derived from it.
TITLE = "title"

Kind = Literal["path", "table", "query", "jdbc"]
#: Options of Spark's JDBC reader that have keys of their own in the section jdbc.
_JDBC_KEYS = ("user", "password", "url", "dbtable", "query")


class JdbcSettings(Section):
    """A table of a database that is read by JDBC; the driver's jar is named in `spark: {spark.jars: ...}`."""

    url: str = Field(
        min_length=1, description="JDBC URL without user and password, such as jdbc:postgresql://host:5432/shop"
    )
    table: str | None = Field(default=None, min_length=1, description="table or view of the database")
    query: str | None = Field(
        default=None, min_length=1, description="query in the database's SQL, instead of table; {run_date} as in where"
    )
    partition_column: str | None = Field(
        default=None,
        min_length=1,
        description="numeric, date or timestamp column, by whose ranges the rows are read in parallel",
    )
    partitions: PositiveInt = Field(default=8, description="ranges of partition_column; each is one connection")
    user_env: str | None = Field(default=None, description="name of the environment variable with the user")
    password_env: str | None = Field(default=None, description="name of the environment variable with the password")

    @field_validator("url")
    @classmethod
    def _url_has_no_secret(cls, value: str) -> str:
        if not value.startswith("jdbc:"):
            raise ValueError("a JDBC URL begins with jdbc:, such as jdbc:postgresql://host:5432/shop")
        if has_secret(value):
            raise ValueError(
                "take user and password out of the URL: name the environment variables that hold them, "
                "user_env: SHOP_DB_USER and password_env: SHOP_DB_PASSWORD"
            )
        return value

    @field_validator("user_env", "password_env")
    @classmethod
    def _name_of_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("give the name of an environment variable, such as SHOP_DB_PASSWORD, never the value")
        return value

    @field_validator("query")
    @classmethod
    def _known_placeholders(cls, value: str | None) -> str | None:
        if value is not None:
            placeholders.check_sql(value)
        return value

    @model_validator(mode="after")
    def _table_or_query(self) -> JdbcSettings:
        if (self.table is None) == (self.query is None):
            raise ValueError("give exactly one of table and query")
        return self

    def for_date(self, run_date: date) -> JdbcSettings:
        """Return the settings with `run_date` in place of the placeholders of the query."""
        query = self.query and placeholders.fill_sql(self.query, run_date)
        return self.model_copy(update={"query": query})


class SourceSettings(Section):
    """A table of the shop as it is, which a `query` may use under its name."""

    LONG: ClassVar[frozenset[str]] = frozenset({"version"})  # an id of a snapshot has 64 bits
    KINDS: ClassVar[tuple[Kind, ...]] = ("path", "table", "jdbc")

    path: str | list[str] | None = Field(
        default=None,
        description="file, folder, glob or URI that Spark reads, or a list of them; {run_date} stands for the date of "
        "the night, for sources with one snapshot per date, such as items",
    )
    table: str | None = Field(
        default=None, min_length=1, description="name of a table in the session's catalog, such as sales.orders"
    )
    jdbc: JdbcSettings | None = Field(default=None, description="table of a database")
    format: str = Field(
        default="parquet",
        min_length=1,
        description="Spark data source of path: parquet, csv, json, orc, ...; delta and iceberg are recognised",
    )
    options: dict[str, str | bool | int | float] = Field(
        default={},
        description="options of Spark's reader for the format or for jdbc; for delta and iceberg: storage "
        "options of deltalake and pyiceberg; none may hold a secret",
    )
    json_fields: str | None = Field(
        default=None,
        min_length=1,
        description="fields of JSON files as Spark writes a schema, such as 'user_id string, at string, lines "
        "array<struct<sku string, pieces string>>'; without it a pass over all files finds them",
    )
    version: int | None = Field(
        default=None,
        ge=0,
        description="version of a Delta table, or snapshot id of an Iceberg table, to read; default: the newest",
    )

    @field_validator("path", mode="before")
    @classmethod
    def _path_or_paths(cls, value: object) -> object:
        if value is None:
            return None
        paths = value if isinstance(value, list) else [value]
        if not paths or not all(isinstance(path, str) and path.strip() for path in paths):
            raise ValueError("give a path, or a list of paths")
        for path in paths:
            placeholders.check_path(without_secret(str(path)))
        return value

    @field_validator("options", mode="before")
    @classmethod
    def _scalar_options(cls, value: object) -> object:
        return require_scalars(value, "option: value, such as {header: true}")

    @model_validator(mode="after")
    def _names_one_source(self) -> Self:
        given = [kind for kind in self.KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            what = f"not {' and '.join(given)}" if given else "the place of its rows"
            raise ValueError(f"name exactly one of {', '.join(self.KINDS[:-1])} and {self.KINDS[-1]}, {what}")
        if self.json_fields is not None and self.format.lower() != "json":
            raise ValueError("json_fields goes with format: json; remove json_fields, or write format: json")
        in_lake = self.format.lower() in ("delta", "iceberg")
        place = of_database if given == ["jdbc"] else of_storage if in_lake else of_files
        refuse_secrets(self.options, place, "options.")
        if given != ["path"]:
            for name in ("version", "max_bad_files", *(() if given == ["jdbc"] else ("options",))):
                if getattr(self, name, None):
                    raise ValueError(f"{name} goes with path, not with {given[0]}: remove {name}")
            if self.format != "parquet":
                raise ValueError(f"format goes with path, not with {given[0]}: remove format")
            named = next((name for name in self.options if name.lower() in _JDBC_KEYS), None)
            if named is not None:
                raise ValueError(f"options.{named} is refused: write it in jdbc, as url, table, query or user_env")
        return self

    @property
    def kind(self) -> Kind:
        """The key that names where the rows are."""
        return next(kind for kind in self.KINDS if getattr(self, kind) is not None)

    @property
    def paths(self) -> list[str]:
        """The paths as a list, empty for other kinds."""
        return [self.path] if isinstance(self.path, str) else list(self.path or ())

    @property
    def place(self) -> str:
        """Where the rows are, as text for a message."""
        if self.jdbc is not None:
            return f"the table {self.jdbc.table}" if self.jdbc.table else "the query of jdbc"
        if self.table is not None:
            return f"the table {self.table}"
        return ", ".join(unescaped(path) for path in self.paths) or "the query"

    @property
    def names_encoding(self) -> bool:
        """Whether the options name the character set of the source."""
        return any(name.lower() in ("encoding", "charset") for name in self.options)

    def for_date(self, run_date: date) -> Self:
        """Return the settings with `run_date` in place of the placeholders of paths and SQL."""
        changed: dict[str, object] = {}
        if self.path is not None:
            changed["path"] = [placeholders.fill_path(path, run_date) for path in self.paths]
        if self.jdbc is not None:
            changed["jdbc"] = self.jdbc.for_date(run_date)
        for name in ("where", "query"):
            if (sql := getattr(self, name, None)) is not None:
                changed[name] = placeholders.fill_sql(sql, run_date)
        return self.model_copy(update=changed)


class InputSettings(SourceSettings):
    """The source of one input table and the mapping of its columns."""

    KINDS: ClassVar[tuple[Kind, ...]] = ("path", "table", "query", "jdbc")

    query: str | None = Field(
        default=None,
        min_length=1,
        description="SELECT in Spark SQL over the tables of the section sources and of the catalog; {run_date} as in "
        "where",
    )
    where: str | None = Field(
        default=None,
        description="Spark SQL condition on the source; other rows are dropped before anything is counted (products "
        "that it leaves out of items are known, and never listed); "
        "'{run_date}' stands for the date of the night",
    )
    columns: dict[str, str] | None = Field(
        default=None,
        description="contract column: a column of the source, or a Spark SQL expression; "
        "without this key the source's columns must have the contract's names; customers and items may map others",
    )
    max_bad_files: int = Field(
        default=0,
        ge=0,
        description="unreadable files that a night may skip, each named in quarantine; one more ends the night",
    )
    max_stale_days: int | None = Field(
        default=None, ge=0, description="gate.max_stale_days of this input; of no use for tables without a time"
    )

    allow_empty: bool = Field(
        default=False,
        description="of optouts only: whether a list is right that has no customers, none that another table has, rows "
        "without an id, or ids that another table writes differently; otherwise it ends the night",
    )

    @field_validator("where", "query")
    @classmethod
    def _known_placeholders(cls, value: str | None) -> str | None:
        if value is not None:
            placeholders.check_sql(value)
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _expressions(cls, value: object) -> object:
        if value is None:
            return None
        given = require_scalars(value, "contract column: Spark SQL expression")
        for name, expression in given.items():
            if placeholders.has_run_date(str(expression)):
                raise ValueError(f"{name}: {{run_date}} is known in path, where and query only, not in columns")
        return {name: scalar_text(expression) for name, expression in given.items()}

    @property
    def maps_title(self) -> bool:
        """Whether the mapping gives purchases the title of the product."""
        return TITLE in (self.columns or {})


def escaped(path: str) -> str:
    """Return the literal path as a Hadoop glob that matches it alone."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def unescaped(path: str) -> str:
    """Return the path without the backslashes of `escaped`."""
    return re.sub(r"\\(.)", r"\1", path)
