"""Settings of a recommender's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lm.recommend_training.training_examples import FOLLOWING
from lm.text.prompt import TITLE_TOKENS
from lm.train.language_model import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class RecommendTrainSettings(TrainingSettings):
    """How a recommender is trained. Held-out purchases say when to stop and give the reported figures."""

    coding: Literal["item_tokens", "titles"] = "item_tokens"
    language: Literal["en", "zh"] = "en"
    exclude_purchased: bool = True
    protocol: Literal["time-split", "leave-one-out"] = "time-split"
    held_out_share: float = 0.2
    held_out_customers: int = 5_000  # most that are held out
    history_events: int | None = None  # newest events of a customer that a prompt may use; None: validation chooses
    round_epochs: int = 12  # in which the learning rate falls; another round follows while validation rises
    max_minutes: float | None = None  # of fine-tuning; the refit repeats its epochs
    refit: bool = False
    recount: bool = True  # with the time split, count the held-out purchases too once the figures are there
    titled: bool = True  # an item's embedding is that of its title plus a part of its own
    neighbours: bool = True  # add co-purchase features to GPT-2's logits (item_tokens coding)
    newcomers: bool = True  # list products that nobody has bought, by their titles (item_tokens coding)

    @property
    def extra_positions(self) -> int:
        """Positions that training needs after the longest prompt: for a title, or for the following purchases."""
        return TITLE_TOKENS if self.coding == "titles" else FOLLOWING
