"""The configuration file, `regulars.yaml`: every key, its type, its default and what it means.

The descriptions are the manual of the file. `jobs/config/config.py` reads the file and words the messages about
mistakes.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from jobs.config.input_settings import TITLE, Input
from jobs.config.strict_model import Positive, Section, Share, literal, scalars
from jobs.config.train_settings import TrainSettings
from schemas import INPUTS, contract

Star = Annotated[int, Field(ge=1, le=5)]


class Models(Section):
    """Checkpoints: a folder (which `regulars train` writes), a URI, or a hub id such as gpt2 or hf://org/name."""

    recommend: str = Field(default="./models/recommend", description="model of the lists")
    sentiment: str = Field(default="./models/sentiment", description="model of the review labels")
    answers: str | None = Field(
        default=None, description="model of the answers to customers' questions; without it none are written"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="what the night computes in; auto: bfloat16 where the hardware has it, else float32;"
        " float32: lists are the same to the last bit on any batch",
    )


class RecommendSettings(Section):
    """How lists are made."""

    k: Positive = Field(default=10, description="products per customer")
    spares: int = Field(
        default=5, ge=0, description="candidates kept beyond k, so that lists survive sold-out products"
    )
    prompt_tokens: int = Field(default=256, ge=16, description="budget of one prompt, in the model's tokens")
    history_events: int = Field(
        default=50, ge=1, le=100_000, description="newest events of a customer that a prompt may use"
    )
    exclude_purchased: bool = Field(default=True, description="never list what the customer bought before")
    language: Literal["en", "zh"] = Field(default="en", description="language of the prompt's template")
    beams: Positive | None = Field(
        default=None, description="beams of the title decoder; default: chosen by the engine"
    )


class SentimentSettings(Section):
    """How reviews are labelled."""

    max_tokens: int = Field(default=256, ge=8, description="longest text in tokens; longer ones keep head and tail")
    negative_stars: list[Star] = Field(default=[1, 2], description="ratings that count as negative")
    positive_stars: list[Star] = Field(default=[4, 5], description="ratings that count as positive")
    disagree_confidence: float = Field(
        default=0.8, ge=0, le=1, description="probability from which text contradicts stars"
    )
    min_confidence: float = Field(
        default=0, ge=0, le=1, description="withhold a label (null) whose own probability is below; 0: never"
    )
    lookback_days: int = Field(default=0, ge=0, description="label reviews of so many days before run_date again")

    @model_validator(mode="after")
    def _stars_are_apart(self) -> SentimentSettings:
        both = set(self.negative_stars) & set(self.positive_stars)
        if both:
            raise ValueError(f"{min(both)} is in negative_stars and in positive_stars: take it out of one")
        return self


class AnswerSettings(Section):
    """How customers' questions are answered."""

    prompt_tokens: int = Field(default=320, ge=64, description="budget of one prompt, in the model's tokens")
    max_answer_tokens: int = Field(default=256, ge=8, description="longest answer, in the model's tokens")
    candidates: Positive = Field(default=6, description="samples of each question, of which the best is kept")
    temperature: float = Field(default=0.5, ge=0, description="of sampling; 0 takes the likeliest token")
    top_p: float = Field(default=0.95, gt=0, le=1, description="share of the likeliest tokens that are sampled from")
    seed: int = Field(default=0, ge=0, description="seed of sampling")
    articles: Positive = Field(default=3, description="articles published with an answer or a refusal")
    min_confidence: float | None = Field(
        default=None, ge=0, le=1, description="refuse below it; default: what 95% of the training's questions reach"
    )
    lookback_days: int = Field(default=0, ge=0, description="answer questions of so many days before run_date again")


class LedgerSettings(Section):
    """How results of the language model are kept."""

    wave_minutes: float = Field(
        default=5.0, gt=0, description="a finished wave of about so many minutes is kept on a crash"
    )
    max_age_days: int = Field(
        default=30, ge=0, description="a list is scored again when its catalogue is older than this"
    )


class GateSettings(Section):
    """What a night may differ from the nights before it; beyond these limits nothing is published."""

    dates: Positive = Field(default=7, description="newest published dates before run_date that it is held against")
    min_dates: Positive = Field(default=3, description="with fewer published dates before it a night is not judged")
    min_rows: Positive = Field(default=100, description="tables and label mixes of fewer rows are not judged")
    max_drop: float = Field(
        default=0.3, ge=0, le=1, description="share by which a table's rows may fall below their smallest number"
    )
    max_rise: float = Field(
        default=1.0, ge=0, description="share by which a table's rows may rise above their largest number"
    )
    max_label_shift: float = Field(
        default=0.15, ge=0, le=1, description="how far each label's share may be from its share in those dates"
    )
    max_failures: int = Field(
        default=20, ge=0, description="requests of one task that a night's model may fail on; they are quarantined"
    )


class PublishSettings(Section):
    """How dates are replaced."""

    keep_publishes: int = Field(
        default=30, ge=0, description="publishes for which what they replaced is kept for `regulars rollback`"
    )
    at_deadline: Literal["carry", "keep"] = Field(
        default="carry",
        description="when --deadline passes: publish, customers who were not scored keeping the list of the date "
        "before (carry), or publish nothing (keep)",
    )
    format: Literal["parquet", "delta"] = Field(
        default="parquet",
        description="delta: every published date is also committed to Delta tables below `to`, for object stores",
    )
    to: str | None = Field(
        default=None, min_length=1, description="folder or URI of the Delta tables, such as s3://bucket/shop"
    )
    options: dict[str, str] = Field(
        default={},
        description="options of the deltalake library for that storage, such as {AWS_ENDPOINT_URL: ...}; credentials "
        "are better in the environment",
    )

    @model_validator(mode="after")
    def _delta_has_a_place(self) -> PublishSettings:
        if (self.format == "delta") != (self.to is not None):
            raise ValueError(
                "format: delta and `to` need each other: name the folder or URI of the Delta tables, such as "
                "to: s3://bucket/shop, or leave both out"
            )
        return self


class GcSettings(Section):
    """What `regulars gc` keeps."""

    ledger_days: Positive = Field(
        default=90, description="dates so far back from the newest published one can be repeated without the model"
    )


class LoyaltySettings(Section):
    """Measures of loyalty, and the experiment that shows whether the lists bring customers back."""

    control_share: Share = Field(
        default=0.0, description="share of customers whose lists are computed but not published: the control group"
    )
    key: str = Field(
        default="regulars", min_length=1, description="key of the hash that decides a customer's group; never change it"
    )
    starts_on: date | None = Field(
        default=None, description="first run_date from which the control group's lists are withheld"
    )
    horizon_days: Positive = Field(
        default=28, description="days after starts_on that are judged; before their end no winner is called"
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="confidence of the intervals and of a winner")
    power: float = Field(default=0.8, gt=0.5, lt=1, description="power behind detectable effects and sample sizes")
    uplift_to_detect: float = Field(
        default=0.02, gt=0, description="relative uplift for which the needed number of customers is reported"
    )
    fit_customers: Positive = Field(default=50_000, description="customers that the BG/NBD model is fitted on, at most")
    min_repeat_customers: Positive = Field(
        default=100, description="with fewer returning customers among them p_alive stays null"
    )

    @model_validator(mode="after")
    def _start_is_fixed_beforehand(self) -> LoyaltySettings:
        if self.control_share and self.starts_on is None:
            raise ValueError(
                "control_share needs starts_on: write the first run_date whose lists are withheld, so that the window "
                "that decides is fixed before anyone sees it"
            )
        return self


class Config(Section):
    """The whole file."""

    store: str = Field(description="folder or URI of the tables, the ledger and the staging area")
    timezone: str = Field(description="the shop's IANA time zone, in which dates begin and end")
    inputs: dict[str, Input] = Field(
        description="input tables; purchases, and items or purchases.columns.title; for sentiment alone reviews"
    )
    models: Models = Models()
    recommend: RecommendSettings = RecommendSettings()
    sentiment: SentimentSettings = SentimentSettings()
    answers: AnswerSettings = AnswerSettings()
    train: TrainSettings = TrainSettings()
    ledger: LedgerSettings = LedgerSettings()
    gate: GateSettings = GateSettings()
    publish: PublishSettings = PublishSettings()
    gc: GcSettings = GcSettings()
    loyalty: LoyaltySettings = LoyaltySettings()
    spark: dict[str, str] = Field(default={}, description="further settings of the Spark session")

    @field_validator("timezone")
    @classmethod
    def _iana(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError(f"{value} is not an IANA time zone: write one such as Europe/London or Asia/Shanghai")
        return value

    @field_validator("spark", mode="before")
    @classmethod
    def _spark_texts(cls, value: object) -> object:
        given = scalars(value, "Spark setting: value, such as {spark.driver.memory: 8g}")
        return {key: literal(setting) for key, setting in given.items()}

    @field_validator("inputs")
    @classmethod
    def _inputs_make_a_night(cls, inputs: dict[str, Input]) -> dict[str, Input]:
        for table in inputs:
            if table not in INPUTS:
                raise ValueError(f"{table} is not an input table; {did_you_mean(table, INPUTS)}")
        if not {"purchases", "reviews"} & set(inputs):  # with reviews alone the sentiment model is trained and judged
            raise ValueError("purchases is missing: name the table of what customers bought, with its path")
        if "purchases" in inputs and "items" not in inputs and TITLE not in (inputs["purchases"].columns or {}):
            raise ValueError(
                "items is missing: name the catalogue, or map purchases.columns.title to the column with the "
                "product's name so that the catalogue is derived from purchases"
            )
        return inputs

    @model_validator(mode="after")
    def _columns_fit_contracts(self) -> Config:
        for table, source in self.inputs.items():
            if source.columns is None:
                continue
            for name in source.columns:
                if name not in columns_of(table):
                    raise ValueError(
                        f"inputs.{table}.columns.{name} is not a column of {table}; "
                        f"{did_you_mean(name, columns_of(table))}"
                    )
            missing = [name for name in contract(table).required if name not in source.columns]
            if missing:
                raise ValueError(
                    f"inputs.{table}.columns lacks {', '.join(missing)}: map each to a column or an expression"
                )
        return self


def columns_of(table: str) -> tuple[str, ...]:
    """Columns that `inputs.<table>.columns` may map."""
    return contract(table).column_names + ((TITLE,) if table == "purchases" else ())


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Suggest the nearest of `choices`, and list them all."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"There are {', '.join(known)}."
