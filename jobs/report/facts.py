"""The facts of one night. `run.json`, the page and the line on the terminal are all made of them.

No fact holds a customer's id. Texts of customers are redacted. A list is named by the first digits of its prompt's
hash, which the table `recommendations` has too.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

#: What a reader of the tables finds after the night.
Outcome = Literal["published", "carried", "kept", "failed"]
#: `before`: older than the store's first night.
DayState = Literal["published", "carried", "failed", "missing", "before"]


class Facts(BaseModel):
    """Base class: unknown fields are left out, so a later release reads older files."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class InputAge(Facts):
    """How fresh one input is: hours from its newest used row to the end of run_date."""

    table: str
    hours: float
    rows: int
    #: Median of the earlier dates of the strip; None without any.
    usual_hours: float | None = None


class Day(Facts):
    """One date of the strip."""

    run_date: date
    state: DayState
    seconds: float | None = None
    tokens: int | None = None
    cost: float | None = None
    #: Shares by label and by segment, empty where the date has none.
    labels: dict[str, float] = {}
    segments: dict[str, float] = {}


class ListedItem(Facts):
    """One product of a list, with what explains it where the table has such columns."""

    rank: int
    title: str
    previous_rank: int | None = None
    reason: str | None = None


class ListExample(Facts):
    """One customer's list before and after; `prompt_hash` names it."""

    prompt_hash: str
    before: list[ListedItem]
    after: list[ListedItem]


class ItemCount(Facts):
    """A product and the number of lists that it entered or left."""

    title: str
    lists: int


class ListChanges(Facts):
    """What customers see differently since the newest earlier date. Shares are of the customers with lists."""

    customers: int
    #: Rows of all lists.
    rows: int
    changed: float
    unchanged: float
    first: float
    #: The earlier date; None where there is none.
    since: date | None = None
    entered: list[ItemCount] = []
    left: list[ItemCount] = []
    examples: list[ListExample] = []


class CategoryLabels(Facts):
    """Reviews of one product category and the share that is negative."""

    category: str
    reviews: int
    negative: float


class Complaint(Facts):
    """A negative review in the customer's redacted words."""

    title: str
    p_negative: float
    rating: int | None
    text: str


class Opinions(Facts):
    """The labels of the date."""

    reviews: int
    labels: dict[str, float]
    disagreements: float | None = None
    categories: list[CategoryLabels] = []
    categories_left_out: int = 0
    complaints: list[Complaint] = []


class InputRows(Facts):
    """The outcomes of one input's rows; `read` is the sum of the others."""

    table: str
    read: int
    outcomes: dict[str, int]


class RejectedRows(Facts):
    """New rows of `quarantine` by one rule."""

    table: str
    rule: str
    rows: int


class TaskWork(Facts):
    """The requests of one task."""

    task: str
    reused: int
    scored: int
    late: int
    tokens: int
    model_seconds: float


class Replay(Facts):
    """Lists of an earlier date, judged by the purchases after it.

    Each figure is a mean over the customers who have a list and bought something, with its 95% bootstrap interval.
    """

    lists_of: date
    days: int
    k: int
    customers: int
    hit: tuple[float, float, float]
    recall: tuple[float, float, float]


class Outcomes(Facts):
    """One outcome of the experiment: means of both groups, relative difference and its interval."""

    name: str
    treated: float
    control: float
    relative: float
    low: float
    high: float


class Experiment(Facts):
    """Treated against control customers so far."""

    starts_on: date
    days_seen: int
    horizon_days: int
    treated: int
    control: int
    verdict: str
    outcomes: list[Outcomes]


class NightFacts(Facts):
    """Everything that the report of one night says."""

    outcome: Outcome
    run_id: str
    run_date: date
    store: str
    started_at: datetime
    finished_at: datetime
    exit_code: int = 0
    #: The message of a night that did not publish, and notes about the others.
    reason: str = ""
    notes: list[str] = []
    command: str
    #: The date whose data readers find if this one has none.
    newest_published: date | None = None
    deadline: str | None = None
    deadline_margin_seconds: float | None = None
    seconds: dict[str, float] = {}
    #: Rows of each table as computed, the control group's lists among them.
    rows: dict[str, int] = {}
    input_ages: list[InputAge] = []
    inputs: list[InputRows] = []
    rejected: list[RejectedRows] = []
    tasks: list[TaskWork] = []
    currency: str = ""
    cost: float | None = None
    days: list[Day] = []
    changes: ListChanges | None = None
    opinions: Opinions | None = None
    replays: list[Replay] = []
    experiment: Experiment | None = None
    versions: dict[str, str] = {}

    @property
    def tokens(self) -> int:
        """Tokens that went through all models."""
        return sum(task.tokens for task in self.tasks)

    @property
    def wall_seconds(self) -> float:
        """Seconds from the start of the run to its end."""
        return (self.finished_at - self.started_at).total_seconds()
