"""Builds the sellable products of the run date as flat arrays, which the workers map into memory."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame

from lm.recommend import catalogue
from lm.text.prompt import PromptEncoder


class SellableCatalogue:
    """The products that a list may contain on the run date, and their version.

    `write` builds the arrays, so a night without model requests never builds them.
    """

    def __init__(self, items: DataFrame) -> None:
        rows = items.where("available").select("item_id", "title").toArrow()
        self.item_ids: list[str] = rows.column("item_id").to_pylist()
        self.titles: list[str] = rows.column("title").to_pylist()
        self.version: str = catalogue.catalogue_version(self.item_ids, self.titles)

    def write(self, folder: Path, encoder: PromptEncoder) -> Path:
        """Build the arrays for one model's tokens, save them into the local `folder` and return it."""
        built = catalogue.Catalogue.build(self.item_ids, self.titles, encoder)
        folder.mkdir(parents=True, exist_ok=True)
        built.save(folder)
        return folder
