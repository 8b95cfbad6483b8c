"""What every section of the configuration file is, and the kinds of numbers that sections have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, types are taken literally, values do not change later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def scalars(value: object, what: str) -> dict[str, Any]:
    """`value`, which has to be a mapping of YAML scalars: else ValueError asks for a mapping of `what`."""
    if not isinstance(value, dict) or not all(isinstance(v, str | bool | int | float) for v in value.values()):
        raise ValueError(f"give a mapping of {what}")
    return value


def literal(value: object) -> str:
    """Write a YAML scalar as Spark text: `true` for True, `1` for 1."""
    return str(value).lower() if isinstance(value, bool) else str(value)
