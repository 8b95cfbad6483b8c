"""Settings of a recommender's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lm.recommend.training_examples import FOLLOWING
from lm.text.prompt import TITLE_TOKENS
from lm.train.language_model import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class RecommendSettings(TrainingSettings):
    """The recommender's training; customers whose last purchases are held out judge when to stop, and the result."""

    coding: Literal["item_tokens", "titles"] = "item_tokens"
    language: Literal["en", "zh"] = "en"
    exclude_purchased: bool = True
    protocol: Literal["time-split", "leave-one-out"] = "time-split"
    held_out_share: float = 0.2
    held_out_customers: int = 5_000  # at most
    history_events: int = 50  # newest events of a customer that a prompt may use
    refit: bool = False
    titled: bool = True  # an item's row is its title's and its own
    neighbours: bool = True  # beside GPT-2, where items have tokens
    newcomers: bool = True  # what nobody has bought may be listed for its title

    @property
    def room(self) -> int:
        """Positions that training needs beyond the longest prompt: for the answer, or for the purchases after it."""
        return TITLE_TOKENS if self.coding == "titles" else FOLLOWING
