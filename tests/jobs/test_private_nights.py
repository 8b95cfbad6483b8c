"""A shop with marks in ids and texts: no byte that its trainings and nights write has one, whatever ends them."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import Tokenizer

from jobs.inputs.validation import clean_id
from tests.erasable import search
from tests.nights import Shop

pytestmark = pytest.mark.faults

#: What redaction takes out of any text.
EMAIL, PHONE, CARD = "theremin.player@example.org", "+44 7911 123456", "4539 1488 0343 6467"
#: A name of the input customers, and one that its customer writes in an introduction.
NAME, INTRODUCED = "Zinnia Quixwood", "Thaddeus Wrexford"
PERSONAL = (EMAIL, PHONE, CARD, *NAME.split(), *INTRODUCED.split())
#: Words that fewer than `privacy.min_customers` customers wrote or received: a model must not know them.
SEARCHED, REVIEWED, ANSWERED = "blorvextraq", "wumpfizzlegok", "krantovibblesh"
QUICK = (
    *(
        f"train.{task}.{key}"
        for task in ("recommend", "sentiment", "answers")
        for key in ("n_embd=16", "n_layer=1", "n_head=2", "max_epochs=1")
    ),
    *(f"train.{task}.min_steps=20" for task in ("sentiment", "answers")),
)


@dataclass(frozen=True)
class Marked:
    """The shop, the settings of all its commands, its customers' ids, and where Spark logs and works."""

    shop: Shop
    settings: tuple[str, ...]
    ids: list[str]
    events: Path
    scratch: Path


def append(shop: Shop, table: str, column: str, words: str, first: int, count: int) -> None:
    """Append words to a text of `count` customers."""
    (path,) = (shop.folder / "data" / table).glob("*.parquet")
    rows = pd.read_parquet(path)
    written = rows[rows[column].notna() & rows.user_id.notna()]
    chosen = written.drop_duplicates("user_id").sort_values("user_id").index[first : first + count]
    assert len(chosen) == count
    rows.loc[chosen, column] = rows.loc[chosen, column] + words
    rows.to_parquet(path)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Marked:
    """The marked shop with its models trained, after a training that was killed."""
    shop = Shop(tmp_path_factory.mktemp("shop"), customers=400, days=30, trains=True)
    for table, column in (("reviews", "text"), ("searches", "query"), ("questions", "text"), ("questions", "answer")):
        append(shop, table, column, f" write to {EMAIL} or call {PHONE}", 0, 12)
        append(shop, table, column, f" my card is {CARD}, my name is {INTRODUCED}", 12, 12)
    for table, column, word in (
        ("searches", "query", SEARCHED),
        ("reviews", "text", REVIEWED),
        ("questions", "answer", ANSWERED),
    ):
        append(shop, table, column, f" {word} {word}", 24, 4)
    data = [pd.read_parquet(shop.folder / "data" / table) for table in ("purchases", "searches", "reviews")]
    ids = sorted({clean_id(one) for one in pd.concat(data).user_id.dropna()} - {""})
    people = pd.DataFrame({"user_id": ids, "name": NAME})
    people.to_parquet(shop.folder / "data" / "customers.parquet")
    for table, column in (("reviews", "text"), ("questions", "answer")):
        append(shop, table, column, f" Yours, {NAME}", 0, 40)
    events, scratch = tmp_path_factory.mktemp("events"), tmp_path_factory.mktemp("scratch")
    settings = (
        *QUICK,
        "models.answers=./models/answers",
        "inputs.customers.path=data/customers.parquet",
        "privacy.name_columns=[name]",
        "privacy.pseudonyms=true",
        "spark.spark.eventLog.enabled=true",
        f"spark.spark.eventLog.dir=file://{events}",
        f"spark.spark.local.dir={scratch}",
    )
    store = shop.folder / "store"
    options = ("--as-of", str(shop.day), "--task", "all")
    for fault, code in (("inputs-read", -signal.SIGKILL), ("", 0)):
        process = shop.start(store, *settings, fault=fault, command="train", options=options)
        said, _ = process.communicate(timeout=1800)
        assert process.returncode == code, said
        assert not any(mark in said for mark in (*ids, *PERSONAL))
    return Marked(shop, settings, ids, events, scratch)


def test_no_model_knows_a_customer(marked: Marked) -> None:
    models = marked.shop.folder / "models"
    assert {path.name for path in models.iterdir()} == {"recommend", "sentiment", "answers"}
    assert any(models.rglob("*.safetensors"))
    assert search(models, [*marked.ids, *PERSONAL, SEARCHED, REVIEWED, ANSWERED]) == []
    texts = [pd.read_parquet(marked.shop.folder / "data" / table) for table in ("items", "articles")]
    own = " ".join(" ".join(map(str, table.to_numpy().ravel())) for table in texts).lower()
    for path in models.rglob("tokenizer.json"):
        tokens = {token.strip("Ġ").lower() for token in Tokenizer.from_file(str(path)).get_vocab()}
        pieces = {
            token for token in tokens if len(token) > 4 and any(token in w for w in (SEARCHED, REVIEWED, ANSWERED))
        }
        assert {piece for piece in pieces if piece not in own} == set(), path
    assert [path for path in models.rglob("*") if path.stat().st_mode & 0o077] == []


def test_no_id_and_no_address_leaves_the_inputs(marked: Marked, tmp_path: Path) -> None:
    shop, store, figures, lineage = marked.shop, tmp_path / "store", tmp_path / "r.prom", tmp_path / "lineage.json"
    transport = {"type": "file", "log_file_path": str(lineage), "append": True}
    (tmp_path / "client.yml").write_text(json.dumps({"transport": transport}))
    settings = (
        *marked.settings,
        "report.write=true",
        f"report.prometheus={figures}",
        f"report.openlineage={tmp_path / 'client.yml'}",
    )
    assert len(marked.ids) > 300
    marks = [*marked.ids, *PERSONAL]

    killed, said = shop.night(store, *settings, fault="requests-written")
    assert killed == -signal.SIGKILL, said
    (tmp_path / "headless.csv").write_text(f"{marked.ids[0]},P000001,2026-01-01 10:00:00,{EMAIL}\n")
    headless = (f"inputs.reviews.path={tmp_path / 'headless.csv'}", "inputs.reviews.format=csv")
    failed, why = shop.night(store, *settings, *headless)
    assert failed == 5, why
    assert not any((store / "work").iterdir())
    good, report = shop.night(store, *settings)
    assert good == 0, report

    lists = pd.read_parquet(store / "tables/recommendations")
    assert 300 < lists.user_id.nunique() <= len(marked.ids)
    assert len(pd.read_parquet(store / "tables/answers"))
    assert {path.name for path in (store / "reports").rglob("*.*") if path.is_file()} >= {"run.json", "index.html"}
    assert lineage.read_text().count("\n") == 5  # of the killed night only its beginning
    for text in (said, why, report, figures.read_text(), lineage.read_text()):
        assert not any(mark in text for mark in marks)
    for folder in (store, marked.events, marked.scratch, shop.folder / "store"):
        assert search(folder, marks) == []
    assert any(marked.events.rglob("*"))
    # A customer's own words are in their own rows alone: in the prompt, and in what weighed for their first product.
    own = ("tables/prompts/", "tables/recommendations/")
    assert {name for name in search(store, [SEARCHED, ANSWERED]) if not name.startswith(own)} == set()
    has_word = lists.astype(str).apply(lambda column: column.str.contains(SEARCHED))
    assert set(has_word.columns[has_word.any()]) <= {"reasons"}
    assert lists[has_word.any(axis=1)].user_id.nunique() <= 4
    written = [path for folder in (store, marked.scratch) for path in folder.rglob("*")]
    assert [path for path in written if path.stat().st_mode & 0o077] == []
