"""The section `train` of the configuration file: the shape of GPT-2 and the optimiser of each training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from jobs.config.secret_settings import Address
from jobs.config.strict_model import PositiveInt, Section, Share

#: The rate and warm-up of a training that starts from `init`: those of fine-tuning with AdamW in the literature.
PRETRAINED_RATE = 3e-4
PRETRAINED_WARMUP = 100


class TrainSection(Section):
    """The keys that all trainings share: GPT-2's shape and the optimiser."""

    init: Address | None = Field(
        default=None, description="checkpoint to start from; by default a new model of the shape below"
    )
    n_embd: PositiveInt = Field(default=64, description="width of the embeddings")
    n_layer: PositiveInt = Field(default=2, description="number of transformer blocks")
    n_head: PositiveInt = Field(default=2, description="attention heads; must divide n_embd")
    vocab_size: int = Field(
        default=4000, ge=300, description="size of the tokenizer that is trained on the shop's text"
    )
    max_tokens: int = Field(default=256, ge=16, description="longest training sequence, in tokens")
    lora_rank: int = Field(
        default=0,
        ge=0,
        description="rank of the low-rank updates of `init`'s linear layers (LoRA, `pip install 'regulars[lora]'`), "
        "merged at the end; 0: all weights are trained",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations again in the backward pass: less memory, more time"
    )
    dropout: Share = Field(default=0.2, description="dropout of embeddings and residuals")
    learning_rate: float = Field(
        default=1e-3, gt=0, description="peak learning rate of AdamW; with `init` by default 3e-4"
    )
    warmup_steps: int = Field(
        default=20,
        ge=0,
        description="steps of the first epoch over which the learning rate rises; default: 20, with `init` 100",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    batch_tokens: PositiveInt = Field(default=8192, description="tokens in one optimiser step")
    max_epochs: PositiveInt = Field(default=30, description="passes over the fine-tuning data, at most")
    patience: PositiveInt = Field(default=3, description="epochs without a better validation metric before it stops")
    pretrain_epochs: int = Field(default=1, ge=0, description="passes over the shop's own text before fine-tuning")

    @model_validator(mode="before")
    @classmethod
    def _start_given_model_gently(cls, given: Any) -> Any:
        """Change a pre-trained model at a lower rate, and after a longer warm-up: else the first steps undo a part."""
        if isinstance(given, dict) and given.get("init") is not None:
            return {"learning_rate": PRETRAINED_RATE, "warmup_steps": PRETRAINED_WARMUP} | given
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSection:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        if self.lora_rank and self.init is None:
            raise ValueError("lora_rank adapts a given model: set init too, or lora_rank to 0")
        return self


class TrainRecommend(TrainSection):
    """Training of the recommender."""

    coding: Literal["item_tokens", "titles"] = Field(
        default="item_tokens", description="how a product is written in tokens: one token of its own, or its title"
    )
    titled: bool = Field(
        default=True,
        description="a product token's embedding is its title's plus a learned part; false: the learned part alone",
    )
    neighbours: bool = Field(
        default=True,
        description="also score what is bought together and bought again (item_tokens); false: GPT-2 alone",
    )
    newcomers: bool = Field(
        default=True, description="list products that nobody has bought yet by their titles (item_tokens)"
    )
    pretrain_epochs: int = Field(
        default=0,
        ge=0,
        description="passes over the shop's own text before fine-tuning; default: 1 with titles, else 0",
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, description="peak learning rate of AdamW; with `init` by default 3e-4"
    )
    batch_tokens: PositiveInt = Field(default=4096, description="tokens in one optimiser step, at most")
    max_epochs: PositiveInt = Field(default=100, description="passes over the fine-tuning data, at most")
    round_epochs: PositiveInt = Field(
        default=12,
        description="passes in which the learning rate falls to 0; another round follows where the validation metric "
        "has risen by more than 1% at its end",
    )
    patience: PositiveInt = Field(
        default=4, description="epochs of the first round without a better validation metric before it stops"
    )
    processes: PositiveInt = Field(
        default=1,
        description="Spark tasks that train together; all executors must mount the folder models.recommend",
    )
    refit: bool = Field(
        default=False, description="after the evaluation, train again on everything, also on the held-out purchases"
    )

    @model_validator(mode="before")
    @classmethod
    def _pretrain_titles(cls, given: Any) -> Any:
        """Pre-train by default only with titles: for product tokens, random words are the better start."""
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
    token_dropout: Share = Field(default=0.2, description="share of a review's tokens that a training step hides")
    learning_rate: float = Field(
        default=2e-3, gt=0, description="peak learning rate of AdamW; with `init` by default 3e-4"
    )
    batch_tokens: PositiveInt = Field(default=2048, description="tokens in one optimiser step")
    pretrain_epochs: int = Field(
        default=3,
        ge=0,
        description="passes over the text of all reviews before fine-tuning; default: 3, with `init` 1",
    )
    max_epochs: PositiveInt = Field(default=3, description="passes over the rated reviews, at most")
    min_steps: int = Field(
        default=150,
        ge=0,
        description="optimiser steps, at least, unless it stops early; few reviews are passed more often",
    )
    ngrams: bool = Field(default=True, description="also train a linear classifier of n-grams")
    lexicon: bool = Field(default=True, description="also use VADER's English lexicon where it knows the words")

    @model_validator(mode="before")
    @classmethod
    def _train_given_model_less(cls, given: Any) -> Any:
        """Pre-train a given model for one pass only: it is large."""
        if isinstance(given, dict) and given.get("init") is not None:
            return {"pretrain_epochs": 1} | given
        return given


class TrainAnswers(TrainSection):
    """Training of the answers' model."""

    n_embd: PositiveInt = Field(default=192, description="width")
    n_head: PositiveInt = Field(default=6, description="attention heads; divides n_embd")
    vocab_size: int = Field(
        default=4000, ge=400, description="size of the tokenizer that is trained on the shop's answers and articles"
    )
    dropout: Share = Field(
        default=0.3, description="dropout of embeddings and residuals; with less, the model remembers single answers"
    )
    learning_rate: float = Field(
        default=3e-3, gt=0, description="peak learning rate of AdamW; with `init` by default 3e-4"
    )
    batch_tokens: PositiveInt = Field(default=2048, description="tokens in one optimiser step, at most")
    max_epochs: PositiveInt = Field(default=12, description="passes over the past answers, at most")
    min_steps: int = Field(
        default=1000, ge=0, description="optimiser steps, at least; few answers are passed more often"
    )


class TrainSettings(Section):
    """Training of the models."""

    seed: int = Field(default=0, ge=0, description="seed of everything random in training")
    max_customers: PositiveInt = Field(
        default=200_000,
        description="customers whose histories GPT-2 learns from, drawn by a hash; what all others bought is counted. "
        "200,000 fit into memory; an epoch of more reads as many after the other from Parquet",
    )
    max_minutes: float = Field(
        default=480,
        gt=0,
        description="most minutes of the recommender's fine-tuning; it ends earlier where validation stops rising. "
        "In the last quarter the learning rate falls to 0. A refit repeats the epochs and takes as long again",
    )
    dp_epsilon: float | None = Field(
        default=None,
        gt=0,
        description="trains GPT-2 of the recommender and of the sentiment model with differential privacy of this "
        "epsilon (DP-SGD, `pip install 'regulars[dp]'`): for each customer of the recommender, for each review of the "
        "sentiment model. One example at a time, for one round (`recommend.round_epochs`), without pre-training",
    )
    dp_delta: float | None = Field(
        default=None, gt=0, lt=1, description="delta of that privacy; default: 1 / n^1.1 for n customers or reviews"
    )
    dp_clip_norm: float = Field(default=1.0, gt=0, description="norm to which the gradient of each example is clipped")
    dp_batch: PositiveInt = Field(
        default=256, description="examples of a step with differential privacy, on average; at most a quarter of all"
    )
    recommend: TrainRecommend = TrainRecommend()
    sentiment: TrainSentiment = TrainSentiment()
    answers: TrainAnswers = TrainAnswers()

    @model_validator(mode="after")
    def _trains_privately(self) -> TrainSettings:
        if self.dp_epsilon is None:
            return self
        if self.recommend.processes > 1:
            raise ValueError("dp_epsilon needs one process: set recommend.processes to 1, or remove dp_epsilon")
        if self.recommend.refit:
            raise ValueError("dp_epsilon: a refit spends the budget twice. Set recommend.refit to false")
        for name, section in (("recommend", self.recommend), ("sentiment", self.sentiment)):
            if section.pretrain_epochs and "pretrain_epochs" in section.model_fields_set:
                raise ValueError(f"dp_epsilon: pre-training learns without noise. Set {name}.pretrain_epochs to 0")
        return self
