"""Every key of the configuration file `regulars.yaml`: its type, its default and its meaning.

`python -m jobs.config` writes the manual of the file from these descriptions. `jobs/config/config.py` reads the file.
"""

from __future__ import annotations

import difflib
import re
import shlex
import zoneinfo
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from jobs.config.input_settings import TITLE, InputSettings, SourceSettings
from jobs.config.rule_settings import RuleSettings, contradiction
from jobs.config.secret_settings import Address, of_spark, of_storage, refuse_secrets
from jobs.config.strict_model import PositiveInt, Section, Share, require_scalars, scalar_text
from jobs.config.train_settings import TrainSettings
from schemas import INPUTS, contract

Star = Annotated[int, Field(ge=1, le=5)]


class Models(Section):
    """The models: a folder that `regulars train` writes, a URI, or a hub id such as gpt2 or hf://org/name."""

    recommend: Address = Field(default="./models/recommend", description="model that makes the lists")
    sentiment: Address | None = Field(
        default="./models/sentiment", description="model that labels reviews; null: no labels are written"
    )
    answers: Address | None = Field(
        default=None, description="model that answers customers' questions; without it no answers are written"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="number format of the night; auto: bfloat16 if the hardware has it, else float32; with float32 "
        "the lists are equal to the last bit for every batch size",
    )


class RecommendSettings(Section):
    """How the lists are computed."""

    k: PositiveInt = Field(default=10, description="products per customer")
    spares: int = Field(
        default=5, ge=0, description="candidates kept besides k; they replace products that are sold out later"
    )
    prompt_tokens: int = Field(default=256, ge=16, description="longest prompt, in the model's tokens")
    history_events: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="newest events of a customer that the prompt may use; by default as many as the model's training "
        "chose: 50, or 100 or 200 where buy again finds more of the validation purchases with them",
    )
    exclude_purchased: bool = Field(default=True, description="never list a product that the customer bought before")
    same_title: bool = Field(
        default=True,
        description="list one product of each title, and with exclude_purchased none with the title of a bought one; "
        "titles that differ in case, spacing, punctuation or width are the same",
    )
    disliked_stars: int = Field(
        default=2,
        ge=0,
        le=4,
        description="never list a product whose newest rating by the customer has at most so many stars; 0: list it",
    )
    after_bad_review: float = Field(
        default=0,
        ge=0,
        le=100,
        description="subtracted from the log-probability of products of the brand, and again of the category, of the "
        "product that the customer rated last, if that rating has at most disliked_stars; 0: nothing is",
    )
    all_customers: bool = Field(
        default=True, description="also make lists for the rows of inputs.customers that have no event"
    )
    language: Literal["en", "zh"] = Field(default="en", description="language of the prompt's template")
    beams: PositiveInt | None = Field(
        default=None, description="beams of the decoder of titles; by default the engine chooses"
    )
    reasons: Literal["none", "first", "all"] = Field(
        default="first",
        description="products of a list whose reasons are computed: the weight of each event of the prompt; "
        "none: no `reasons`, `because` and `parts`",
    )
    worker_memory: float = Field(
        default=2.0,
        gt=0,
        description="GB that a Python worker should stay within; with many products it scores fewer customers at once",
    )


class SentimentSettings(Section):
    """How reviews are labelled."""

    max_tokens: int = Field(
        default=256, ge=8, description="longest text in tokens; a longer one keeps its head and tail"
    )
    negative_stars: list[Star] = Field(default=[1, 2], description="ratings that count as negative")
    positive_stars: list[Star] = Field(default=[4, 5], description="ratings that count as positive")
    label: Literal["validated", "likeliest"] = Field(
        default="validated",
        description="likeliest: the most probable label; validated: rare labels are raised, if validation reviews of "
        "the training show a gain of macro-F1 beyond its standard error and no such loss of accuracy; a label of fewer "
        "than 30 of them is raised unless they show a loss",
    )
    disagree_confidence: float = Field(
        default=0.8, ge=0, le=1, description="smallest probability with which a text contradicts its stars"
    )
    min_confidence: float = Field(
        default=0, ge=0, le=1, description="labels with a smaller probability become null; 0: none do"
    )
    lookback_days: int = Field(default=0, ge=0, description="also label the reviews of this many days before run_date")

    @model_validator(mode="after")
    def _stars_are_apart(self) -> SentimentSettings:
        both = set(self.negative_stars) & set(self.positive_stars)
        if both:
            raise ValueError(f"{min(both)} is in negative_stars and in positive_stars: take it out of one")
        return self


class AnswerSettings(Section):
    """How customers' questions are answered."""

    prompt_tokens: int = Field(default=320, ge=64, description="longest prompt, in the model's tokens")
    max_answer_tokens: int = Field(default=256, ge=8, description="longest answer, in the model's tokens")
    candidates: PositiveInt = Field(default=6, description="sampled answers per question; the best one is kept")
    temperature: float = Field(default=0.5, ge=0, description="sampling temperature; 0 takes the most likely token")
    top_p: float = Field(
        default=0.95, gt=0, le=1, description="nucleus sampling: probability mass of the most likely tokens"
    )
    seed: int = Field(default=0, ge=0, description="seed of sampling")
    articles: PositiveInt = Field(default=3, description="articles published with each answer or refusal")
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="smaller confidence refuses to answer; default: reached by 95% of the questions of training",
    )
    lookback_days: int = Field(
        default=0, ge=0, description="also answer the questions of this many days before run_date"
    )


class LedgerSettings(Section):
    """How results of the language model are kept and reused."""

    wave_minutes: float = Field(
        default=5.0, gt=0, description="length of a wave of requests; a crash loses only the unfinished wave"
    )
    max_age_days: int = Field(
        default=30, ge=0, description="a list is scored again if its catalogue is older than this"
    )


class GateSettings(Section):
    """Limits on the difference between a night and earlier nights; beyond them nothing is published."""

    dates: PositiveInt = Field(
        default=7, description="number of the newest published dates before run_date to compare with"
    )
    min_dates: PositiveInt = Field(
        default=3, description="with fewer published dates before it, a night is not checked"
    )
    min_rows: PositiveInt = Field(default=100, description="tables and label shares with fewer rows are not checked")
    max_drop: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share by which a table may have fewer rows than its smallest date, and the list of opt-outs fewer "
        "customers than on the newest one",
    )
    max_rise: float = Field(
        default=1.0, ge=0, description="share by which a table may have more rows than its largest date"
    )
    max_label_shift: float = Field(
        default=0.15, ge=0, le=1, description="largest difference between a label's share and its share in those dates"
    )
    max_stale_days: int | None = Field(
        default=None,
        ge=0,
        description="days by which the newest row of an input may precede run_date; default: twice the usual gap "
        "between two days of that input, at least 2",
    )
    max_failures: int = Field(
        default=20, ge=0, description="requests of one task on which the model may fail; they are quarantined"
    )


class PublishSettings(Section):
    """How dates are published."""

    keep_publishes: int = Field(default=30, ge=0, description="number of publishes that `regulars rollback` can undo")
    rows_per_file: PositiveInt = Field(
        default=500_000,
        description="a table's date with more rows is several files of about this many, each written by its own task",
    )
    at_deadline: Literal["carry", "keep"] = Field(
        default="carry",
        description="when --deadline passes: carry publishes, and customers without a new list keep their last one; "
        "keep publishes nothing",
    )
    format: Literal["parquet", "delta"] = Field(
        default="parquet",
        description="delta also commits every published date to Delta tables below `to`, for object stores",
    )
    to: Address | None = Field(
        default=None, min_length=1, description="folder or URI of the Delta tables, such as s3://bucket/shop"
    )
    options: dict[str, str] = Field(
        default={},
        description="storage options of the deltalake library, such as {AWS_ENDPOINT_URL: ...}; none may hold a secret",
    )

    @field_validator("options")
    @classmethod
    def _options_have_no_secret(cls, options: dict[str, str]) -> dict[str, str]:
        refuse_secrets(options, of_storage)
        return options

    @model_validator(mode="after")
    def _delta_has_a_place(self) -> PublishSettings:
        if (self.format == "delta") != (self.to is not None):
            raise ValueError(
                "format: delta and `to` need each other: name the folder or URI of the Delta tables, such as "
                "to: s3://bucket/shop, or remove both"
            )
        return self


class IncrementalSettings(Section):
    """Nights that read and compute only what changed since the date before."""

    enabled: bool = Field(
        default=False,
        description="keep what a night read, so that the night of the next date reads only new files and later rows, "
        "and computes only the customers whom they concern; the tables are equal to those of a night from nothing",
    )
    full_every: PositiveInt = Field(
        default=30, description="number of dates after which a night starts from nothing again"
    )
    keep_dates: PositiveInt = Field(
        default=3, description="newest dates whose state is kept, for a date that is repeated or backfilled"
    )


class GcSettings(Section):
    """What `regulars gc` keeps."""

    ledger_days: PositiveInt = Field(
        default=90, description="days before the newest published date that can be repeated without the model"
    )


class RetentionSettings(Section):
    """How long `regulars gc` keeps published rows of customers, also in the trash and in Delta tables."""

    prompts_days: PositiveInt | None = Field(
        default=None, description="days before today for which the table prompts is kept; default: for ever"
    )
    tables_days: PositiveInt | None = Field(
        default=None,
        description="the same for every table with the column user_id, prompts too; counts and keyed hashes stay",
    )

    def days_of(self, table: str) -> int | None:
        """Return the days for which a table with customers' rows is kept; None: for ever."""
        limits = [self.tables_days, self.prompts_days if table == "prompts" else None]
        return min((days for days in limits if days is not None), default=None)


class ReportSettings(Section):
    """The report that each night writes below <store>/reports."""

    write: bool = Field(default=True, description="write a report of each night; `regulars report` writes one anyway")
    price_per_hour: float | None = Field(
        default=None, ge=0, description="price of one hour of the machine or cluster, for the cost of a night"
    )
    currency: str = Field(default="", max_length=8, description="currency of price_per_hour, such as EUR")
    prometheus: str | None = Field(
        default=None,
        description="text file with the figures of the last night for Prometheus' node exporter, such as "
        "/var/lib/node_exporter/regulars.prom",
    )
    openlineage: str | None = Field(
        default=None,
        description="configuration file of the OpenLineage client, to which each night sends its events; needs "
        "`pip install 'regulars[openlineage]'`",
    )
    examples: int = Field(default=10, ge=0, le=10, description="lists shown before and after, and complaints")
    replay_days: PositiveInt = Field(
        default=7, description="days of purchases after which the report judges the lists of a date"
    )

    @field_validator("prometheus")
    @classmethod
    def _exporter_reads_it(cls, path: str | None) -> str | None:
        if path is not None and ("://" in path or not path.endswith(".prom")):
            raise ValueError(f"{path[:80]} is not read by the node exporter: name a local file that ends in .prom")
        return path


class LoyaltySettings(Section):
    """Measures of loyalty, and the experiment that measures whether the lists bring customers back."""

    control_share: Share = Field(
        default=0.0, description="share of customers in the control group, whose lists are computed but not published"
    )
    key: str = Field(
        default="regulars", min_length=1, description="key of the hash that chooses a customer's group; never change it"
    )
    starts_on: date | None = Field(default=None, description="first run_date on which the control group gets no lists")
    horizon_days: PositiveInt = Field(
        default=28, description="days from starts_on that the experiment measures; no winner is named before their end"
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="confidence level of the intervals and of a winner"
    )
    power: float = Field(default=0.8, gt=0.5, lt=1, description="power for detectable effects and sample sizes")
    uplift_to_detect: float = Field(
        default=0.02, gt=0, description="relative uplift for which the report gives the needed number of customers"
    )
    fit_customers: PositiveInt = Field(
        default=50_000, description="largest number of customers that the BG/NBD model is fitted on"
    )
    min_repeat_customers: PositiveInt = Field(
        default=100, description="with fewer returning customers among them, p_alive is null"
    )

    @model_validator(mode="after")
    def _start_is_fixed_beforehand(self) -> LoyaltySettings:
        if self.control_share and self.starts_on is None:
            raise ValueError(
                "control_share needs starts_on: write the first run_date on which the control group gets no lists. The "
                "measured period is then fixed before anyone sees a result"
            )
        return self


class PrivacySettings(Section):
    """What protects customers' ids."""

    key_env: str = Field(
        default="REGULARS_KEY",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="name of the environment variable with the key of the keyed hashes that stand for ids",
    )
    key_file: str | None = Field(
        default=None,
        min_length=1,
        description="file with that key, where the variable is not set; without both, the file `key` in the store",
    )
    pseudonyms: bool = Field(
        default=False,
        description="replace user_id in every output by its keyed hash; `regulars identify` finds the id with the key; "
        "decide it before the first night of a store",
    )
    min_customers: PositiveInt = Field(
        default=5,
        description="a token of a trained tokenizer, an n-gram and a sentence of staff's answers are learned only if "
        "so many different customers wrote or received them; `because` names a search only if so many wrote it",
    )
    name_columns: list[str] = Field(
        default=[],
        description="columns of the input `customers` with names; each customer's names are taken out of their "
        "searches, reviews and questions, and of the answers that they got",
    )
    detector: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
        description="further detector of personal data: package.module.function of an installed package, from a text "
        "to (start, end, kind) of each find; lm/redaction/plugged_in.py shows one around Presidio",
    )


#: Schemes of file systems that copy and delete where a program asks for a rename.
_OBJECT_STORES = ("s3", "s3a", "s3n", "gs", "wasb", "wasbs", "abfs", "abfss", "adl", "oss", "cosn", "obs", "swift")


class Config(Section):
    """The whole file."""

    store: Address = Field(min_length=1, description="folder or hdfs:// URI of tables and ledger; no object store")
    timezone: str = Field(description="the shop's IANA time zone; its midnight separates dates")
    inputs: dict[str, InputSettings] = Field(
        description="input tables: purchases, and items or purchases.columns.title; reviews alone for labels only"
    )
    sources: dict[str, SourceSettings] = Field(
        default={}, description="tables of the shop by the names under which `inputs.<table>.query` reads them"
    )
    models: Models = Models()
    recommend: RecommendSettings = RecommendSettings()
    sentiment: SentimentSettings = SentimentSettings()
    answers: AnswerSettings = AnswerSettings()
    train: TrainSettings = TrainSettings()
    ledger: LedgerSettings = LedgerSettings()
    gate: GateSettings = GateSettings()
    publish: PublishSettings = PublishSettings()
    incremental: IncrementalSettings = IncrementalSettings()
    gc: GcSettings = GcSettings()
    retention: RetentionSettings = RetentionSettings()
    loyalty: LoyaltySettings = LoyaltySettings()
    privacy: PrivacySettings = PrivacySettings()
    store_umask: str = Field(
        default="077",
        pattern="^[0-7]{3}$",
        description='umask, as octal text, of every file that a command creates: "077" lets only this user read the '
        'store; "027" lets its group read the tables',
    )
    report: ReportSettings = ReportSettings()
    rules: list[RuleSettings] = Field(
        default=[],
        description="rules about the lists, in order; [the section on rules](../tables/README.md#rules) has examples",
    )
    spark: dict[str, str] = Field(
        default={}, description="further settings of the Spark session; none may hold a secret"
    )
    #: The values of `--set`, which are applied already; commands to go on with repeat them.
    _overrides: tuple[str, ...] = PrivateAttr(())
    _file: str = PrivateAttr("regulars.yaml")

    def options(self, config_file: str | None = None) -> str:
        """Return the options of a command that reads this configuration again: `--config` and each `--set`.

        `config_file` is by default the file that was read.
        """
        sets = (part for one in self._overrides for part in ("--set", one))
        return shlex.join(["--config", config_file or self._file, *sets])

    def command(self, name: str, options: str = "") -> str:
        """Return the command `regulars NAME` that reads this configuration again, with further `options`."""
        return f"regulars {name} {self.options()} {options}".rstrip()

    @field_validator("store")
    @classmethod
    def _store_has_atomic_renames(cls, value: str) -> str:
        scheme = value.partition(":")[0].lower()
        if scheme in _OBJECT_STORES:
            raise ValueError(
                f"{scheme}:// is an object store, where a rename is not atomic: set store to a folder or hdfs:// URI, "
                f"and publish to {scheme}:// with publish.format: delta and publish.to"
            )
        return value

    @field_validator("store_umask", mode="before")
    @classmethod
    def _umask_is_text(cls, value: object) -> object:
        if isinstance(value, int):  # YAML reads 027 as a number
            raise ValueError('write the umask in quotes, such as "027"')
        return value

    @field_validator("timezone")
    @classmethod
    def _iana(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError(f"{value[:80]} is not an IANA time zone: write one such as Europe/London or Asia/Shanghai")
        return value

    @field_validator("spark", mode="before")
    @classmethod
    def _spark_texts(cls, value: object) -> object:
        given = require_scalars(value, "Spark setting: value, such as {spark.driver.memory: 8g}")
        settings = {key: scalar_text(setting) for key, setting in given.items()}
        refuse_secrets(settings, of_spark)
        return settings

    @field_validator("sources")
    @classmethod
    def _names_of_sources(cls, sources: dict[str, SourceSettings]) -> dict[str, SourceSettings]:
        for name in sources:
            if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
                raise ValueError(f"{name[:80]}: name a source with a-z, 0-9 and _, such as order_lines")
        return sources

    @field_validator("inputs")
    @classmethod
    def _inputs_make_a_night(cls, inputs: dict[str, InputSettings]) -> dict[str, InputSettings]:
        for table, source in inputs.items():
            if table not in INPUTS:
                raise ValueError(f"{table[:80]} is not an input table; {did_you_mean(table, INPUTS)}")
            if source.allow_empty and table != "optouts":
                raise ValueError(f"{table}.allow_empty: the key is of optouts only, remove it")
        if "optouts" in inputs and inputs["optouts"].max_bad_files:
            raise ValueError("optouts.max_bad_files: a file that is left out would void its opt-outs; remove the key")
        if not {"purchases", "reviews"} & set(inputs):  # reviews alone are labelled
            raise ValueError("purchases is missing: name the table of what customers bought, with its path")
        if "purchases" in inputs and "items" not in inputs and TITLE not in (inputs["purchases"].columns or {}):
            raise ValueError(
                "items is missing: name the catalogue, or map purchases.columns.title to the column with the "
                "product's name so that the catalogue is derived from purchases"
            )
        return inputs

    @model_validator(mode="after")
    def _names_have_a_table(self) -> Config:
        if self.privacy.name_columns and "customers" not in self.inputs:
            raise ValueError("privacy.name_columns names columns of inputs.customers, which is missing: add that input")
        return self

    @model_validator(mode="after")
    def _models_have_their_tables(self) -> Config:
        if "purchases" in self.inputs:
            return self
        if self.models.sentiment is None:
            raise ValueError(
                "with reviews alone and models.sentiment: null there is nothing to write: name the folder of the model"
            )
        if self.models.answers is not None:
            raise ValueError(
                "inputs.purchases is missing: models.answers reads what a customer bought; name the table of what "
                "customers bought, or remove models.answers"
            )
        return self

    @model_validator(mode="after")
    def _rules_agree(self) -> Config:
        if problem := contradiction(self.rules, self.recommend.k):
            raise ValueError(f"rules: {problem}")
        for rule in self.rules:
            if rule.when is not None and "customers" not in self.inputs:
                raise ValueError(f"rules: {rule.name} has a condition `when`, which needs inputs.customers")
            if rule.kind == "disliked" and "reviews" not in self.inputs:
                raise ValueError(f"rules: {rule.name} is about ratings, which need inputs.reviews")
        return self

    @model_validator(mode="after")
    def _sources_hide_no_table(self) -> Config:
        for table, source in self.inputs.items():
            if source.table is not None and source.table.strip("`").lower() in self.sources:
                raise ValueError(
                    f"inputs.{table}.table: {source.table} is the name of a source too; read a source with a query, "
                    "and name the database of the catalog's table, such as default.orders"
                )
        return self

    @model_validator(mode="after")
    def _columns_fit_contracts(self) -> Config:
        for table, source in self.inputs.items():
            if source.columns is None:
                continue
            if mistaken := mistaken_columns(table, source.columns):
                raise ValueError("\n  ".join(mistaken))
            missing = [name for name in contract(table).required if name not in source.columns]
            if missing:
                raise ValueError(
                    f"inputs.{table}.columns lacks {', '.join(missing)}: map each to a column or an expression"
                )
        return self


def mappable_columns(table: str) -> tuple[str, ...]:
    """Return the columns that `inputs.<table>.columns` may map."""
    return contract(table).column_names + ((TITLE,) if table == "purchases" else ())


def _is_mistaken(table: str, name: str) -> bool:
    """Whether `name` is no column that may be mapped; a name much like a column's is taken for a misspelling."""
    known = mappable_columns(table)
    if name in known or contract(table).further_columns == "all":
        return False
    is_similar = bool(difflib.get_close_matches(name, known, n=1, cutoff=0.8))
    return contract(table).further_columns == "none" or is_similar


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Suggest the choice that is most similar to `name`; list all choices where none is."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}."


def mistaken_columns(table: str, names: Iterable[str]) -> list[str]:
    """Return a line for each of the names in `inputs.<table>.columns` that is no column of the table."""
    return [
        f"inputs.{table}.columns.{name} is not a column of {table}; {did_you_mean(name, mappable_columns(table))}"
        for name in names
        if _is_mistaken(table, name)
    ]
