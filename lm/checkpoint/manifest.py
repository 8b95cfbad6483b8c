"""`regulars.json`, the manifest: what the product adds to a Hugging Face directory."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lm.checkpoint.checkpoint import CheckpointError, read_config, read_json
from lm.checkpoint.item_ids import ITEM_IDS_FILE, ItemIds

MANIFEST_FILE = "regulars.json"
MANIFEST_VERSION = 1
TEMPLATE_VERSION = 1
#: The newest events of a customer that prompts have, where no training has chosen.
HISTORY_EVENTS = 50
#: Most item ids that `regulars.json` holds itself.
IDS_IN_JSON = 10_000
#: Key of `training.window`: how many views, carts and wishes the training read.
BROWSED_EVENTS = "browsed_events"
#: Fields of earlier releases, with the values that had no effect. Only sentiment models had other values.
FORMER_FIELDS = {"ngram_weights": [], "length_power": 0.0, "usual_lengths": [1.0, 1.0], "label_thresholds": []}


class Manifest(BaseModel):
    """What the product adds to a Hugging Face directory, kept in its `regulars.json`.

    `history_events` is how many of a customer's newest events a prompt has, where the configuration has no number.
    `item_ids[i]` is the product with the token id `first_item_token + i` (coding item_tokens). More than IDS_IN_JSON
    ids lie in a file of their own, and `item_ids` in `regulars.json` is their number.
    A field that is empty or at its default has no effect.
    `labels` is the order of the classifier's outputs. `temperature` divides its logits. `ngram_weight` multiplies
    the logits of the n-grams and `lexicon_weight` those of `lm.sentiment.english_lexicon`. `offsets` are added.
    `lapses[i][j]` is P(observed label j | true label i). The label is the argmax of `label_weights` x probability
    (`lm.sentiment.calibration`).
    `neighbour_weights` belong to `lm.recommend.co_purchase`, `newcomer_weights` to `lm.recommend.cold_items`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    manifest_version: int = MANIFEST_VERSION
    template_version: int = Field(default=TEMPLATE_VERSION, ge=1)
    language: Literal["en", "zh"] = "en"
    history_events: int = Field(default=HISTORY_EVENTS, ge=1, le=100_000)
    task: Literal["recommend", "sentiment", "answers"] = "recommend"
    coding: Literal["titles", "item_tokens"] = "titles"
    item_ids: list[str] | ItemIds = Field(default_factory=list)
    first_item_token: int = Field(default=0, ge=0)
    labels: list[str] = Field(default_factory=lambda: ["negative", "neutral", "positive"], min_length=2)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    ngram_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    lexicon_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    offsets: list[float] = Field(default_factory=list)
    lapses: list[list[Annotated[float, Field(ge=0, le=1)]]] = Field(default_factory=list)
    label_weights: list[float] = Field(default_factory=list)
    neighbour_weights: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=list)
    newcomer_weights: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=list)
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)

    @property
    def trained_as_of(self) -> date | None:
        """The last day whose events the training read; None for a model that no training of ours wrote."""
        window = self.training.get("window")
        day = window.get("as_of") if isinstance(window, dict) else None
        return None if day is None else date.fromisoformat(day)

    @property
    def reads_browsing(self) -> bool:
        """Whether prompts may name views, carts and wishes: a trained model must have read some, a stock model may."""
        if "window" not in self.training:
            return True
        window = self.training["window"]
        return isinstance(window, dict) and bool(window.get(BROWSED_EVENTS))

    @model_validator(mode="before")
    @classmethod
    def _drop_former_fields(cls, values: Any) -> Any:
        """Drop former fields without effect, which other models have; a sentiment model that uses one is refused."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key not in FORMER_FIELDS or value != FORMER_FIELDS[key]}

    @model_validator(mode="after")
    def _check_consistency(self) -> Manifest:
        try:
            _ = self.trained_as_of
        except (TypeError, ValueError):
            raise ValueError("training.window.as_of needs a date as YYYY-MM-DD") from None
        if self.coding == "item_tokens" and not self.item_ids:
            raise ValueError("coding item_tokens needs item_ids")
        if self.item_ids and self.first_item_token == 0:
            raise ValueError("item_ids need first_item_token, the id of the first product's token")
        if isinstance(self.item_ids, list) and len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError("item_ids holds an item twice")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a label twice")
        for name in ("offsets", "label_weights"):
            values = getattr(self, name)
            if values and (len(values) != len(self.labels) or not all(map(math.isfinite, values))):
                raise ValueError(f"{name} needs one number for each label")
        sums = [sum(row) for row in self.lapses if len(row) == len(self.labels)]
        if self.lapses and (len(sums) != len(self.labels) or any(abs(total - 1) > 1e-6 for total in sums)):
            raise ValueError("lapses needs one row for each label, of probabilities that add up to 1")
        return self


def read_manifest(path: Path) -> Manifest:
    """The manifest of a model directory; a directory without one has the manifest of a stock GPT-2.

    Raises CheckpointError for unknown keys, wrong values, a manifest or template of a newer Regulars,
    and item tokens beyond the model's vocabulary.
    """
    file = path / MANIFEST_FILE
    if not file.exists():
        return Manifest()
    values = read_json(file)
    for key, known in (("manifest_version", MANIFEST_VERSION), ("template_version", TEMPLATE_VERSION)):
        if isinstance(values.get(key), int) and values[key] > known:
            raise CheckpointError(
                f"{file}: {key} {values[key]} is newer than this Regulars reads ({known}): "
                "install the newer Regulars, or train the model again"
            )
    if isinstance(values.get("item_ids"), int):
        values["item_ids"] = _read_item_ids(path / ITEM_IDS_FILE, values["item_ids"])
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise CheckpointError(f"{file}: {key}: {first['msg']}: mend the key, or train again") from error
    last = manifest.first_item_token + len(manifest.item_ids)
    vocabulary = read_config(path).get("vocab_size") or last
    if manifest.item_ids and last > vocabulary:
        raise CheckpointError(
            f"{file}: item tokens go up to id {last - 1} and the model's vocabulary ends at "
            f"{vocabulary - 1}: the manifest belongs to another model, train again"
        )
    return manifest


def _read_item_ids(file: Path, number: int) -> ItemIds:
    try:
        ids = ItemIds.load(file)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise CheckpointError(f"{file} cannot be read: copy the model directory again, or train again") from error
    if len(ids) != number:
        raise CheckpointError(
            f"{file} has {len(ids)} products and {MANIFEST_FILE} states {number}: copy the model directory again"
        )
    return ids


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `regulars.json` into a model directory, replacing the old one atomically; many item ids go first."""
    ids, file = manifest.item_ids, path / ITEM_IDS_FILE
    values = manifest.model_dump(mode="json", exclude={"item_ids"})
    if len(ids) > IDS_IN_JSON:
        (ids if isinstance(ids, ItemIds) else ItemIds.of(ids)).save(file)
        values["item_ids"] = len(ids)
    else:
        values["item_ids"] = list(ids)
    temporary = path / (MANIFEST_FILE + ".tmp")
    temporary.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path / MANIFEST_FILE)
    if len(ids) <= IDS_IN_JSON:
        file.unlink(missing_ok=True)
