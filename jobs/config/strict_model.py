"""The base class of every section of the configuration file, and the number types that sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

#: A share of a whole, from 0 to below 1.
Share = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the file: unknown keys are errors, types are not converted, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def require_scalars(value: object, what: str) -> dict[str, Any]:
    """Return `value` if it maps keys to YAML scalars; else raise ValueError that asks for a mapping of `what`."""
    if not isinstance(value, dict) or not all(isinstance(v, str | bool | int | float) for v in value.values()):
        raise ValueError(f"give a mapping of {what}")
    return value


def scalar_text(value: object) -> str:
    """Write a YAML scalar as Spark expects its text: `true` for True, `1` for 1."""
    return str(value).lower() if isinstance(value, bool) else str(value)
