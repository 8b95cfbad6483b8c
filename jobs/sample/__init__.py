"""Writes the sample shop: its input tables as Parquet and a `regulars.yaml` that is ready to run.

For anyone who wants to see a night before connecting a shop, and for the tests. Alone:

    regulars sample --out demo --customers 2000 --products 400 --days 60 --seed 0

The same arguments give the same bytes. Customers are written in blocks, so memory does not grow with the shop.
A customer's rows do not depend on the size of the blocks. `truth/` beside the data lists what was planted:
reviews whose words contradict their stars, personal data, and the article that answers each question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sample.browsing import events_table
from jobs.sample.catalogue import SampleCatalogue, build_catalogue
from jobs.sample.customers import draw_customers, simulate
from jobs.sample.events import CustomerBlock, Period, numbered, purchases_table
from jobs.sample.opinions import articles_table, questions_table, reviews_table
from jobs.sample.random import Ints, keys, uniform
from jobs.sample.searches import draw_searches, searches_table
from jobs.spark.errors import UsageError

FIRST_DAY = date(2026, 1, 1)
TIMEZONE = "Europe/London"
SAMPLE_TABLES = ("purchases", "searches", "reviews", "items", "questions", "articles", "optouts", "events")
_BLOCK_CUSTOMERS = 16_384  # customers whose events are in memory at a time
_OPTED_OUT_SHARE = 0.01
_HEADER = "# A sample shop, "

_TRUTHS = {
    "contradictions": pa.schema({"review_id": pa.string()}),
    "personal": pa.schema({"table": pa.string(), "kind": pa.string(), "value": pa.string()}),
    "answers": pa.schema({"question_id": pa.string(), "article_id": pa.string()}),
}


@dataclass(frozen=True)
class SampleInfo:
    """The written sample. `planted` counts rows by (table, kind): dirt, contradictions, personal data, opt-outs."""

    out: Path
    config: Path
    first_day: date
    last_day: date
    rows: dict[str, int]
    planted: dict[tuple[str, str], int]

    @property
    def run_date(self) -> date:
        """The date for a first night: the last one for which the shop has all events."""
        return self.last_day


_SMALL_SHOP_CUSTOMERS = 20_000
_SMALL_SHOP_SPARK = """
# For a shop this small: most of its night is Spark compiling plans that run once. Leave this out for a large one.
spark:
  spark.driver.defaultJavaOptions: "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
  spark.sql.shuffle.partitions: 4
"""

#: About as many customers ask enough questions for a training in 60 days.
_ANSWERED_SHOP_CUSTOMERS = 1_000
_ANSWERS = """
# For a training of minutes: one round of epochs for the lists, and a small model of answers. Leave these lines out for
# a shop of your own.
answers: {prompt_tokens: 160, max_answer_tokens: 96}
train: {recommend: {max_epochs: 12}, answers: {n_embd: 128, n_head: 4, min_steps: 700, dropout: 0.1}}
"""


def write_sample(
    out: str | Path,
    customers: int = 2000,
    products: int = 400,
    days: int = 60,
    seed: int = 0,
    *,
    block: int = _BLOCK_CUSTOMERS,
    replace: bool = True,
) -> SampleInfo:
    """Write `out`/data/<table>/part-*.parquet, `out`/truth/*.parquet and, last, `out`/regulars.yaml.

    Replaces an earlier sample in `out`, unless `replace` is false. `block` is the number of customers in memory at a
    time; it decides only how rows are spread over files. Raises UsageError where a number is too small, where `out`
    holds a configuration or tables that no sample wrote, or where it holds a sample that may not be replaced.
    """
    for name, value in (("customers", customers), ("products", products), ("days", days), ("block", block)):
        if value < 1:
            raise UsageError(f"--{name} is {value}: it must be 1 or more")
    out = Path(out)
    _clear(out, replace)
    period = Period(FIRST_DAY, days, TIMEZONE)
    catalogue = build_catalogue(products, days, seed)
    rows: Counter[str] = Counter(dict.fromkeys(SAMPLE_TABLES, 0))
    planted: Counter[tuple[str, str]] = Counter()
    _write(out, "items", 0, catalogue.table(), rows)
    _write(out, "articles", 0, articles_table(), rows)
    _write(out, "optouts", 0, _optouts_table(seed, np.arange(customers), planted), rows)
    with ExitStack() as stack:
        truths = {
            name: stack.enter_context(pq.ParquetWriter(out / "truth" / f"{name}.parquet", schema))
            for name, schema in _TRUTHS.items()
        }
        for part, first in enumerate(range(0, customers, block)):
            numbers = np.arange(first, min(first + block, customers))
            for name, table in _block_tables(catalogue, period, seed, numbers, planted):
                if name in truths:
                    truths[name].write_table(table)
                else:
                    _write(out, name, part, table, rows)
    config = out / "regulars.yaml"
    config.write_text(_configuration(period, customers, products, seed), encoding="utf-8")
    return SampleInfo(out, config, period.first_day, period.last_day, dict(rows), dict(planted))


def _block_tables(
    catalogue: SampleCatalogue, period: Period, seed: int, numbers: Ints, planted: Counter[tuple[str, str]]
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the tables and truths of a block of customers, and add the planted rows to `planted`."""
    people = draw_customers(seed, numbers, period.days, catalogue)
    block = CustomerBlock(catalogue, people, period, planted)
    bought = simulate(catalogue, people)
    yield "purchases", purchases_table(block, bought)
    yield "searches", searches_table(block, draw_searches(block, bought))
    yield "events", events_table(block, bought)
    reviews = reviews_table(block, bought, seed)
    yield "reviews", reviews.table
    yield "contradictions", pa.table({"review_id": reviews.contradictions})
    questions = questions_table(block, bought)
    yield "questions", questions.table
    yield "answers", questions.answered_by
    values = [(table, personal.kind, personal.value) for table, personal in block.personal]
    columns = zip(*values, strict=True) if values else ((), (), ())
    schema = _TRUTHS["personal"]
    yield "personal", pa.table(dict(zip(schema.names, map(list, columns), strict=True)), schema=schema)


def _optouts_table(seed: int, numbers: Ints, planted: Counter[tuple[str, str]]) -> pa.Table:
    drawn = uniform(keys(seed, "customer", numbers), "opted out")
    opted_out = numbers[drawn < _OPTED_OUT_SHARE]
    if not len(opted_out):
        opted_out = numbers[[drawn.argmin()]]  # a night refuses a list without customers
    planted["optouts", "opted_out"] += len(opted_out)
    return pa.table({"user_id": numbered("C", opted_out)})


def _write(out: Path, table: str, part: int, rows: pa.Table, counts: Counter[str]) -> None:
    folder = out / "data" / table
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / f"part-{part:05d}.parquet")
    counts[table] += rows.num_rows


def _clear(out: Path, replace: bool) -> None:
    """Delete an earlier sample if `replace` is true, else refuse it; refuse files that no sample wrote."""
    config = out / "regulars.yaml"
    if config.exists() and not config.read_text(encoding="utf-8", errors="replace").startswith(_HEADER):
        raise UsageError(f"{config} was not written by `regulars sample`: choose another folder with --out")
    if config.exists() and not replace:
        raise UsageError(f"{config} exists: choose another folder with --out, or replace the sample with --force")
    truth = out / "truth"  # made before the first table, so it also marks an interrupted sample
    parts = [path for table in SAMPLE_TABLES for path in (out / "data" / table).glob("*")]
    for path in parts:
        if not (truth.is_dir() and path.name.startswith("part-") and path.suffix == ".parquet"):
            raise UsageError(f"{path} was not written by `regulars sample`: choose another folder with --out")
    config.unlink(missing_ok=True)
    for path in parts:
        path.unlink()
    truth.mkdir(parents=True, exist_ok=True)


def _configuration(period: Period, customers: int, products: int, seed: int) -> str:
    """Return the text of the configuration file, with comments for newcomers."""
    inputs = "\n".join(f"  {table}: {{path: data/{table}}}" for table in SAMPLE_TABLES if table != "events")
    return f"""\
{_HEADER}{period.first_day} to {period.last_day}; a good run_date is {period.last_day}
# Written by: regulars sample --customers {customers} --products {products} --days {period.days} --seed {seed}
# Relative paths are relative to this file.

store: ./store                # the nightly tables and the ledger are written here
timezone: {period.timezone}       # in which a run_date begins and ends

# Where each table is read from; format is parquet unless stated, columns have the contract's own names.
# Only purchases and items are required.
inputs:
{inputs}
  # Views, carts and wishes. They enter the prompts of models that were trained with this line:
  # events: {{path: data/events}}

# Folders that `regulars train` writes, or a hub id such as gpt2.
models:
  recommend: ./models/recommend
  sentiment: ./models/sentiment
{_model_of_answers(customers, period)}
recommend: {{k: 10, exclude_purchased: true}}
{_ANSWERS if _has_answers(customers) else ""}{_SMALL_SHOP_SPARK if customers <= _SMALL_SHOP_CUSTOMERS else ""}"""


def _has_answers(customers: int) -> bool:
    return _ANSWERED_SHOP_CUSTOMERS <= customers <= _SMALL_SHOP_CUSTOMERS


def _model_of_answers(customers: int, period: Period) -> str:
    """Return the line that answers questions: as a comment where the shop has too few, or takes long to learn from."""
    if _has_answers(customers):
        return "  answers: ./models/answers\n"
    return (
        f"  # With this line questions are answered, after: regulars train --task answers --as-of {period.last_day}\n"
        "  # answers: ./models/answers\n"
    )
