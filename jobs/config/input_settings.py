"""The keys of one input table: where its source is, how Spark reads it, and how its columns are computed."""

from __future__ import annotations

from datetime import date

from pydantic import Field, field_validator

from jobs.config.strict_model import Section, require_scalars, scalar_text

#: Column that purchases may map besides its contract: without an items table, the catalogue is derived from it.
TITLE = "title"
#: Stands for the date of the night in a path.
RUN_DATE = "{run_date}"


class InputSettings(Section):
    """The source of one input table and the mapping of its columns."""

    path: str | list[str] = Field(
        description="file, folder, glob or URI that Spark reads, or a list of them; {run_date} stands for the date of "
        "the night, for sources with one snapshot per date, such as items"
    )
    format: str = Field(default="parquet", min_length=1, description="Spark data source: parquet, csv, json, orc, ...")
    options: dict[str, str | bool | int | float] = Field(
        default={}, description="options of Spark's reader for the format"
    )
    where: str | None = Field(
        default=None,
        description="Spark SQL condition on the source; other rows are dropped before anything is counted",
    )
    columns: dict[str, str] | None = Field(
        default=None,
        description="contract column: a column of the source, or a Spark SQL expression; "
        "without this key the source's columns must have the contract's names",
    )
    max_bad_files: int = Field(
        default=0,
        ge=0,
        description="unreadable files that a night may skip, each named in quarantine; one more ends the night",
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
        return require_scalars(value, "option: value, such as {header: true}")

    @field_validator("columns", mode="before")
    @classmethod
    def _expressions(cls, value: object) -> object:
        if value is None:
            return None
        given = require_scalars(value, "contract column: Spark SQL expression")
        return {name: scalar_text(expression) for name, expression in given.items()}

    @property
    def paths(self) -> list[str]:
        """The paths as a list."""
        return [self.path] if isinstance(self.path, str) else list(self.path)

    @property
    def paths_text(self) -> str:
        """The paths as text for a message."""
        return ", ".join(self.paths)

    @property
    def names_encoding(self) -> bool:
        """Whether the options name the character set of the source."""
        return any(name.lower() in ("encoding", "charset") for name in self.options)

    @property
    def maps_title(self) -> bool:
        """Whether the mapping gives purchases the title of the product."""
        return TITLE in (self.columns or {})

    def for_date(self, run_date: date) -> InputSettings:
        """Return the settings with `run_date` in place of {run_date} in every path."""
        paths = [path.replace(RUN_DATE, run_date.isoformat()) for path in self.paths]
        return self.model_copy(update={"path": paths})
