"""The keys of one input table: where it lies, how Spark reads it, and how its columns are made of the source's."""

from __future__ import annotations

from datetime import date

from pydantic import Field, field_validator

from jobs.config.strict_model import Section, literal, scalars

#: Column that purchases may map beyond its contract: items are derived from it where no items table exists.
TITLE = "title"


class Input(Section):
    """Where one input table comes from and how its columns are made of the source's."""

    path: str | list[str] = Field(
        description="file, folder, glob or URI that Spark reads, or a list of them; {run_date} in it becomes the date "
        "of the night, for sources that are kept as one snapshot a date, such as items"
    )
    format: str = Field(default="parquet", description="Spark data source: parquet, csv, json, orc, ...")
    options: dict[str, str | bool | int | float] = Field(
        default={}, description="options of Spark's reader for the format"
    )
    where: str | None = Field(
        default=None,
        description="Spark SQL over the source; other rows are left out before anything is read or counted",
    )
    columns: dict[str, str] | None = Field(
        default=None,
        description="contract column: a column of the source, or a Spark SQL expression over it; "
        "without this key the source's columns have the contract's names",
    )

    max_bad_files: int = Field(
        default=0,
        ge=0,
        description="files that are truncated, damaged, empty or of another format and may be left out, each named in "
        "quarantine; one more ends the night",
    )

    @field_validator("path", mode="before")
    @classmethod
    def _path_or_paths(cls, value: object) -> object:
        paths = value if isinstance(value, list) else [value]
        if not paths or not all(isinstance(path, str) and path.strip() for path in paths):
            raise ValueError("give a path, or a list of paths")
        return value

    @field_validator("options", mode="before")
    @classmethod
    def _scalar_options(cls, value: object) -> object:
        return scalars(value, "option: value, such as {header: true}")

    @field_validator("columns", mode="before")
    @classmethod
    def _expressions(cls, value: object) -> object:
        if value is None:
            return None
        given = scalars(value, "contract column: Spark SQL expression")
        return {name: literal(expression) for name, expression in given.items()}

    @property
    def paths(self) -> list[str]:
        """The path or paths, as a list."""
        return [self.path] if isinstance(self.path, str) else list(self.path)

    @property
    def shown(self) -> str:
        """The same for a message."""
        return ", ".join(self.paths)

    @property
    def names_encoding(self) -> bool:
        """Whether the options say in which character set it is written."""
        return any(name.lower() in ("encoding", "charset") for name in self.options)

    def on(self, run_date: date) -> Input:
        """The source as the night of `run_date` reads it."""
        paths = [path.replace("{run_date}", run_date.isoformat()) for path in self.paths]
        return self.model_copy(update={"path": paths})
