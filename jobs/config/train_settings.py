"""The section `train` of the configuration file: GPT-2's shape and the optimiser of each training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from jobs.config.strict_model import PositiveInt, Section, Share


class TrainSection(Section):
    """The keys that all trainings share: GPT-2's shape and the optimiser."""

    init: str | None = Field(
        default=None, description="checkpoint to start from; default: a new model of the shape below"
    )
    n_embd: PositiveInt = Field(default=64, description="width")
    n_layer: PositiveInt = Field(default=2, description="blocks")
    n_head: PositiveInt = Field(default=2, description="attention heads; divides n_embd")
    vocab_size: int = Field(
        default=4000, ge=300, description="size of the tokenizer that is trained on the shop's text"
    )
    max_tokens: int = Field(default=256, ge=16, description="longest training sequence, in tokens")
    dropout: Share = Field(default=0.2, description="dropout of embeddings and residuals")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    batch_tokens: PositiveInt = Field(default=8192, description="tokens in one optimiser step")
    max_epochs: PositiveInt = Field(default=30, description="passes over the fine-tuning data, at most")
    patience: PositiveInt = Field(default=3, description="epochs without a better validation metric before it stops")
    pretrain_epochs: int = Field(default=1, ge=0, description="passes over the shop's own text before fine-tuning")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> TrainSection:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        return self


class TrainRecommend(TrainSection):
    """Training of the recommender."""

    coding: Literal["item_tokens", "titles"] = Field(
        default="item_tokens", description="how a product is written in tokens"
    )
    titled: bool = Field(
        default=True, description="a product token's row is its title's plus its own part; else its own alone"
    )
    neighbours: bool = Field(
        default=True, description="what is bought together, and again, beside GPT-2 (item_tokens); false: GPT-2 alone"
    )
    newcomers: bool = Field(
        default=True, description="products that nobody has bought yet are listed for their titles (item_tokens)"
    )
    pretrain_epochs: int = Field(
        default=0,
        ge=0,
        description="passes over the shop's own text before fine-tuning; default: 1 where titles are spelled, else 0",
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, description="peak learning rate of AdamW; a tenth of it where `init` is a large model"
    )
    batch_tokens: PositiveInt = Field(default=4096, description="tokens in one optimiser step, at most")
    max_epochs: PositiveInt = Field(default=12, description="passes over the fine-tuning data, at most")
    patience: PositiveInt = Field(default=4, description="epochs without a better validation metric before it stops")
    processes: PositiveInt = Field(
        default=1,
        description="Spark tasks that train together; models.recommend is on a file system that all executors mount",
    )
    refit: bool = Field(
        default=False, description="train again on everything, the held-out purchases too, once it is judged"
    )

    @model_validator(mode="before")
    @classmethod
    def _spelling_is_learned_first(cls, given: Any) -> Any:
        """Words that were pre-trained by their grammar are worse beginnings of product rows than random ones."""
        if isinstance(given, dict) and given.get("coding") == "titles":
            return {"pretrain_epochs": 1} | given
        return given


class TrainSentiment(TrainSection):
    """Training of the sentiment classifier."""

    n_embd: PositiveInt = Field(default=128, description="width")
    n_head: PositiveInt = Field(default=4, description="attention heads; divides n_embd")
    vocab_size: int = Field(
        default=8000, ge=300, description="size of the tokenizer that is trained on the shop's reviews"
    )
    dropout: Share = Field(default=0.3, description="dropout of embeddings and residuals")
    token_dropout: Share = Field(default=0.2, description="share of a review's tokens that a step does not see")
    learning_rate: float = Field(
        default=2e-3, gt=0, description="peak learning rate of AdamW; a tenth of it where `init` is a large model"
    )
    batch_tokens: PositiveInt = Field(default=2048, description="tokens in one optimiser step")
    pretrain_epochs: int = Field(
        default=3,
        ge=0,
        description="passes over the text of all reviews before fine-tuning; default: 3, after `init` 1",
    )
    max_epochs: PositiveInt = Field(default=3, description="passes over the rated reviews, at most")
    min_steps: int = Field(
        default=150, ge=0, description="optimiser steps, unless it stops early: few reviews are passed more often"
    )
    folds: int = Field(
        default=9,
        ge=1,
        le=9,
        description="fine-tunings, at most, each held against other reviews, where few would calibrate; after `init` 3",
    )
    ngrams: bool = Field(default=True, description="linear heads over n-grams beside GPT-2's")
    lexicon: bool = Field(
        default=True, description="VADER's lexicon of English beside them, where it makes them likelier"
    )

    @model_validator(mode="before")
    @classmethod
    def _knows_language(cls, given: Any) -> Any:
        """A model that was pre-trained elsewhere needs one pass to hear how this shop's customers write, and is larger:
        few want to fine-tune it nine times.
        """
        if isinstance(given, dict) and given.get("init") is not None:
            return {"pretrain_epochs": 1, "folds": 3} | given
        return given


class TrainAnswers(TrainSection):
    """Training of the answers' model."""

    n_embd: PositiveInt = Field(default=192, description="width")
    n_head: PositiveInt = Field(default=6, description="attention heads; divides n_embd")
    vocab_size: int = Field(
        default=4000, ge=400, description="size of the tokenizer that is trained on the shop's answers and articles"
    )
    dropout: Share = Field(default=0.1, description="dropout of embeddings and residuals")
    learning_rate: float = Field(
        default=3e-3, gt=0, description="peak learning rate of AdamW; a tenth of it where `init` is a large model"
    )
    batch_tokens: PositiveInt = Field(default=2048, description="tokens in one optimiser step, at most")
    max_epochs: PositiveInt = Field(default=12, description="passes over the past answers, at most")
    min_steps: int = Field(
        default=1000, ge=0, description="optimiser steps, at least: few answers are passed more often"
    )


class TrainSettings(Section):
    """Training of the models."""

    seed: int = Field(default=0, ge=0, description="seed of everything random in training")
    recommend: TrainRecommend = TrainRecommend()
    sentiment: TrainSentiment = TrainSentiment()
    answers: TrainAnswers = TrainAnswers()
