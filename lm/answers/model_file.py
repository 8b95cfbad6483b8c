"""`answers.json`: the settings in the folder of an answers model."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lm.checkpoint.checkpoint import CheckpointError, read_json

SETTINGS_FILE = "answers.json"


class AnswersFile(BaseModel):
    """The ordinary words (lower case), and the confidence below which a question is refused.

    An ordinary word that begins a sentence is not a name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: list[str] = Field(default_factory=list)
    min_confidence: float = Field(default=0.5, ge=0, le=1)


def read_settings(path: Path) -> AnswersFile:
    """Read the `answers.json` of a model folder. Raises CheckpointError where it is missing or invalid."""
    file = path / SETTINGS_FILE
    if not file.exists():
        raise CheckpointError(
            f"model {path} has no {SETTINGS_FILE}: it was not trained to answer. "
            "Train one with `regulars train --task answers`"
        )
    try:
        return AnswersFile.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{file}: {key}: {first['msg']}: train the answers model again") from error


def write_settings(path: Path, settings: AnswersFile) -> None:
    """Write `answers.json` into a model folder."""
    (path / SETTINGS_FILE).write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
