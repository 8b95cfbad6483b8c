"""The base class of every section of the configuration file, and the number types that sections share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: A share of a whole, from 0 to below 1.
Share = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
#: Larger whole numbers overflow in Spark, in dates or in arrays.
_MAX_INT, _MAX_LONG = 2**31 - 1, 2**63 - 1


class Section(BaseModel):
    """A section of the file: unknown keys are errors, types are not converted, values never change.

    Numbers are finite and fit into 32 bits; those of the keys in LONG fit into 64 bits. Texts are valid Unicode
    without NUL.
    """

    #: Keys whose numbers may have 64 bits.
    LONG: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _values_are_usable(self) -> Self:
        for name, value in self:
            for one in value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]:
                largest = _MAX_LONG if name in self.LONG else _MAX_INT
                if isinstance(one, int) and abs(one) > largest:
                    raise ValueError(f"{name} is too large: write a number up to {largest}")
                if isinstance(one, str) and not is_plain_text(one):
                    raise ValueError(f"{name} has a NUL character or half of a surrogate pair: write plain text")
        return self


def require_scalars(value: object, what: str) -> dict[str, Any]:
    """Return `value` if it maps keys to YAML scalars; else raise ValueError that asks for a mapping of `what`."""
    if not isinstance(value, dict) or not all(isinstance(v, str | bool | int | float) for v in value.values()):
        raise ValueError(f"give a mapping of {what}")
    if any(isinstance(v, int) and abs(v) > _MAX_INT for v in value.values()):
        raise ValueError(f"a number is too large: put it in quotes, or write one up to {_MAX_INT}")
    return value


def is_plain_text(text: str) -> bool:
    """Whether files, Spark and Java accept the text: it is valid Unicode without NUL."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def scalar_text(value: object) -> str:
    """Write a YAML scalar as Spark expects its text: `true` for True, `1` for 1."""
    return str(value).lower() if isinstance(value, bool) else str(value)
