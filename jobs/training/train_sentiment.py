"""Trains the sentiment model: collects rated reviews as arrays and runs `lm.sentiment.train_sentiment`.

Part of `regulars train --task sentiment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config.config import Config
from jobs.training import training_data
from jobs.training.differential_privacy import private_settings
from jobs.training.trainer import Figures, FiguresTable, TrainingContext

if TYPE_CHECKING:
    from lm.sentiment.train_sentiment import SentimentSettings
    from lm.train.canaries import Audit

NEEDED = ("reviews",)
LEARNS_FROM = "sentiment is learned from rated reviews"
OPTIONAL = True


def tables(config: Config) -> Sequence[str]:
    """Reviews, and what says which of them count."""
    return training_data.tables_of_reviews(config.inputs)


def train(context: TrainingContext) -> Figures:
    """Train on the reviews up to `as_of`, labelled by their stars."""
    from lm.sentiment.train_sentiment import train_sentiment

    config, reviews, settings = context.config, _reviews(context), _settings(context.config)
    return train_sentiment(
        reviews.texts,
        reviews.labels,
        settings,
        context.out,
        categories=reviews.categories,
        writers=reviews.writers,
        report=context.report,
        window={"as_of": context.last_day_known(config.train.sentiment.init), "reviews": len(reviews.texts)},
    )


def audit(context: TrainingContext, folder: Path) -> Audit:
    """Train a copy of the reviews with canaries into `folder`; returns what the model remembers."""
    from lm.sentiment.audit_sentiment import audit_sentiment

    reviews = _reviews(context)
    return audit_sentiment(
        reviews.texts,
        reviews.labels,
        _settings(context.config),
        folder,
        categories=reviews.categories,
        writers=reviews.writers,
        report=context.report,
    )


def _settings(config: Config) -> SentimentSettings:
    from lm.sentiment.train_sentiment import SentimentSettings

    return SentimentSettings(
        **config.train.sentiment.model_dump() | private_settings(config.train),
        seed=config.train.seed,
        language=config.recommend.language,
        label=config.sentiment.label,
        min_customers=config.privacy.min_customers,
    )


def _reviews(context: TrainingContext) -> training_data.LabelledReviews:
    stars = context.config.sentiment
    return training_data.collect_reviews(context.used, stars.negative_stars, stars.positive_stars)


def figures_table(figures: Figures) -> FiguresTable:
    """The model beside the majority class."""
    return FiguresTable(
        f"{figures['reviews']:,.0f} held-out reviews (a tenth of the texts, from all days)",
        {"model": "", "majority class": "majority_"},
        {"accuracy": "accuracy", "macro-F1": "macro_f1"},
    )
