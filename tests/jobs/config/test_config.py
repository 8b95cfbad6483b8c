"""The configuration file: valid values are read exactly, every mistake names key, file and remedy."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from jobs.config.__main__ import page
from jobs.config.config import load
from jobs.config.settings import Config
from jobs.config.strict_model import Section
from jobs.spark.errors import ConfigurationError
from jobs.training.differential_privacy import private_settings, refuse_private_answers
from lm.train.private_steps import PrivacyBudget
from lm.train.training_state import TrainingError
from tests import ROOT

PURCHASES = {"path": "data/purchases"}
RIGHT: dict[str, Any] = {
    "store": "./store",
    "timezone": "Europe/London",
    "inputs": {"purchases": PURCHASES, "items": {"path": "data/items"}},
}


def write(tmp_path: Path, content: object) -> Path:
    file = tmp_path / "regulars.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


def error_of(tmp_path: Path, content: object, *overrides: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, content), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    config = load(write(tmp_path, RIGHT))
    assert config.recommend.k == 10
    assert config.recommend.exclude_purchased
    assert config.sentiment.negative_stars == [1, 2]
    assert config.train.sentiment.vocab_size == 8000
    assert config.train.recommend.coding == "item_tokens"
    assert config.inputs["purchases"].format == "parquet"
    assert config.inputs["purchases"].columns is None
    assert config.ledger.max_age_days == 30


@pytest.mark.parametrize(
    ("given", "epochs"),
    [
        ({}, (0, 3)),
        ({"recommend": {"coding": "titles"}, "sentiment": {"init": "gpt2"}}, (1, 1)),
        (
            {
                "recommend": {"coding": "titles", "pretrain_epochs": 0},
                "sentiment": {"pretrain_epochs": 2, "init": "gpt2"},
            },
            (0, 2),
        ),
    ],
)
def test_default_epochs_depend_on_coding_and_init(
    tmp_path: Path, given: dict[str, object], epochs: tuple[int, int]
) -> None:
    train = load(write(tmp_path, RIGHT | {"train": given})).train
    assert (train.recommend.pretrain_epochs, train.sentiment.pretrain_epochs) == epochs


def test_a_given_model_is_trained_gently(tmp_path: Path) -> None:
    train = load(write(tmp_path, RIGHT | {"train": {"recommend": {"init": "gpt2", "lora_rank": 8}}})).train
    assert (train.recommend.learning_rate, train.recommend.warmup_steps) == (3e-4, 100)
    assert (train.answers.learning_rate, train.answers.warmup_steps) == (3e-3, 20)
    chosen = {"init": "gpt2", "learning_rate": 0.01}
    assert load(write(tmp_path, RIGHT | {"train": {"sentiment": chosen}})).train.sentiment.learning_rate == 0.01
    assert "set init too" in error_of(tmp_path, RIGHT | {"train": {"recommend": {"lora_rank": 8}}})


def test_the_example_of_the_design(tmp_path: Path) -> None:
    config = load(write(tmp_path, """
store: ./store
timezone: Europe/London
inputs:
  purchases:
    path: data/online_retail.csv.gz
    format: csv
    options: {header: true}
    where: "CustomerID IS NOT NULL AND Quantity > 0"
    columns:
      user_id: "CAST(CAST(CustomerID AS DOUBLE) AS BIGINT)"
      item_id: StockCode
      purchased_at: "to_timestamp(InvoiceDate)"
      quantity: Quantity
      unit_price: UnitPrice
      order_id: InvoiceNo
      title: Description
  searches: {path: data/searches}
models: {recommend: models/shop, sentiment: models/sentiment}
recommend: {k: 10, prompt_tokens: 256, exclude_purchased: true}
"""))  # fmt: skip
    purchases = config.inputs["purchases"]
    assert purchases.options == {"header": True}
    assert (purchases.columns or {})["title"] == "Description"
    assert purchases.paths == [str(tmp_path / "data/online_retail.csv.gz")]
    assert config.models.recommend == str(tmp_path / "models/shop")


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = RIGHT | {"inputs": RIGHT["inputs"] | {"reviews": {"path": ["a/*.csv", "/abs/b", "hdfs://host/c"]}}}
    file = write(tmp_path, content)
    monkeypatch.chdir(tmp_path.parent)
    config = load(Path(tmp_path.name) / file.name, ["train.recommend.init=./start"])
    assert config.store == str(tmp_path / "store")
    assert config.inputs["items"].path == str(tmp_path / "data/items")
    assert config.inputs["reviews"].paths == [str(tmp_path / "a/*.csv"), "/abs/b", "hdfs://host/c"]
    assert config.models.sentiment == str(tmp_path / "models/sentiment")
    assert config.train.recommend.init == str(tmp_path / "start")


def test_the_folder_of_the_file_is_no_glob(tmp_path: Path) -> None:
    """Brackets, braces and stars in its name are literal; those of the path itself stay a glob."""
    folder = tmp_path / "shop [eu] {run_date} *"
    folder.mkdir()
    config = load(write(folder, RIGHT), ["inputs.items.path=items/[ab]*"])
    assert config.inputs["items"].path == f"{tmp_path}/shop \\[eu\\] \\{{run_date\\}} \\*/items/[ab]*"
    assert config.inputs["items"].for_date(date(2026, 3, 1)).place == f"{folder}/items/[ab]*"
    assert config.store == f"{folder}/store"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("gpt2", "gpt2"),
        ("hf://openai-community/gpt2", "openai-community/gpt2"),
        ("./gpt2", "{folder}/gpt2"),
        ("models/shop", "{folder}/models/shop"),
        ("existing", "{folder}/existing"),
        ("hdfs://host/models", "hdfs://host/models"),
    ],
)
def test_models_are_folders_uris_or_hub_ids(tmp_path: Path, written: str, read: str) -> None:
    (tmp_path / "existing").mkdir()
    config = load(write(tmp_path, RIGHT), [f"models.recommend={written}"])
    assert config.models.recommend == read.format(folder=tmp_path)


def test_overrides(tmp_path: Path) -> None:
    config = load(
        write(tmp_path, RIGHT),
        [
            "recommend.k=20",
            "recommend.exclude_purchased=false",
            "train.recommend.learning_rate=1e-4",
            "sentiment.negative_stars=[1]",
            "spark.spark.sql.shuffle.partitions=4",
            "inputs.purchases.options.spark.x=1",
            "inputs.purchases.where=a = 'b=c'",
        ],
    )
    assert config.recommend.k == 20
    assert not config.recommend.exclude_purchased
    assert config.train.recommend.learning_rate == 1e-4
    assert config.sentiment.negative_stars == [1]
    assert config.spark == {"spark.sql.shuffle.partitions": "4"}
    assert config.inputs["purchases"].options == {"spark.x": 1}
    assert config.inputs["purchases"].where == "a = 'b=c'"


def test_scalars_in_columns_are_sql_literals(tmp_path: Path) -> None:
    items = {"path": "i", "columns": {"item_id": "id", "title": "name", "available": True, "price": 1}}
    config = load(write(tmp_path, RIGHT | {"inputs": {"purchases": PURCHASES, "items": items}}))
    assert (config.inputs["items"].columns or {})["available"] == "true"
    assert (config.inputs["items"].columns or {})["price"] == "1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recomend": {}}, "recomend is not a key; did you mean recommend?"),
        ({"recommend": {"exclude_purchase": True}}, "exclude_purchase is not a key; did you mean exclude_purchased?"),
        ({"train": {"recommend": {"n_heads": 2}}}, "train.recommend.n_heads is not a key; did you mean n_head?"),
        ({"recommend": {"k": "ten"}}, "recommend.k must be a whole number, it is text"),
        ({"recommend": {"k": 0}}, "recommend.k: it should be greater than or equal to 1"),
        ({"recommend": {"exclude_purchased": "no"}}, "recommend.exclude_purchased must be true or false, it is text"),
        ({"recommend": {"language": "fr"}}, "recommend.language: it should be 'en' or 'zh'"),
        ({"recommend": None}, "recommend must be a mapping of keys to values, it is empty"),
        ({"timezone": "London"}, "timezone: London is not an IANA time zone: write one such as Europe/London"),
        ({"store": 5}, "store must be text"),
        ({"store": "s3a://shop/store"}, "store: s3a:// is an object store, where a rename is not atomic"),
        ({"store": "gs://shop/store"}, "publish to gs:// with publish.format: delta"),
        ({"sentiment": {"negative_stars": [1, 4]}}, "sentiment: 4 is in negative_stars and in positive_stars"),
        ({"train": {"sentiment": {"n_head": 3}}}, "n_embd (128) must be a multiple of n_head (3)"),
        ({"inputs": {"items": PURCHASES}}, "inputs: purchases is missing"),
        ({"inputs": {"purchases": PURCHASES}}, "inputs: items is missing: name the catalogue, or map purchases.col"),
        ({"inputs": RIGHT["inputs"] | {"review": PURCHASES}}, "review is not an input table; did you mean reviews?"),
        ({"inputs": RIGHT["inputs"] | {"reviews": {}}}, "inputs.reviews: name exactly one of path, table, query and"),
        ({"inputs": RIGHT["inputs"] | {"reviews": {"path": "a", "table": "b"}}}, "query and jdbc, not path and table"),
        (
            {"inputs": RIGHT["inputs"] | {"reviews": {"table": "b", "format": "csv"}}},
            "inputs.reviews: format goes with path, not with table: remove format",
        ),
        (
            {"inputs": RIGHT["inputs"] | {"reviews": {"query": "SELECT 1", "max_bad_files": 1}}},
            "inputs.reviews: max_bad_files goes with path, not with query",
        ),
        (
            {"inputs": RIGHT["inputs"] | {"reviews": {"path": "a", "json_fields": "text string"}}},
            "inputs.reviews: json_fields goes with format: json",
        ),
        ({"inputs": RIGHT["inputs"] | {"reviews": {"path": "a/{date}"}}}, "reviews.path: {date} is not a placeholder"),
        ({"inputs": RIGHT["inputs"] | {"reviews": {"path": "a/{run_date:%H}"}}}, "{run_date:%H} has an unknown format"),
        (
            {"inputs": RIGHT["inputs"] | {"reviews": {"path": "a", "where": "day = '{{ ds }}'"}}},
            "inputs.reviews.where: { ds } is not a placeholder; write {run_date}, {run_date-7d}",
        ),
        (
            {"inputs": RIGHT["inputs"] | {"reviews": {"path": "a", "where": "day = {run_date:%Y-%m-%d}"}}},
            "{run_date:%Y-%m-%d} must be in quotes",
        ),
        (
            {"inputs": RIGHT["inputs"] | {"searches": {"path": "x", "columns": {"query": "'{run_date}'"}}}},
            "inputs.searches.columns: query: {run_date} is known in path, where and query only",
        ),
        ({"sources": {"Order-Lines": PURCHASES}}, "sources: Order-Lines: name a source with a-z, 0-9 and _"),
        ({"sources": {"orders": {"query": "SELECT 1"}}}, "sources.orders.query is not a key"),
        ({"sources": {"orders": {}}}, "sources.orders: name exactly one of path, table and jdbc"),
        (
            {"sources": {"orders": PURCHASES}, "inputs": RIGHT["inputs"] | {"reviews": {"table": "Orders"}}},
            "inputs.reviews.table: Orders is the name of a source too; read a source with a query, and",
        ),
        ({"sources": {"o": {"jdbc": {"url": "jdbc:x:y"}}}}, "sources.o.jdbc: give exactly one of table and query"),
        ({"sources": {"o": {"jdbc": {"url": "x", "tabel": "o"}}}}, "sources.o.jdbc.tabel is not a key; did you mean"),
        ({"sources": {"o": {"jdbc": {"url": "pg://h", "table": "o"}}}}, "jdbc.url: a JDBC URL begins with jdbc:"),
        (
            {"sources": {"o": {"jdbc": {"url": "jdbc:pg://h/d?user=hunter2", "table": "o"}}}},
            "sources.o.jdbc.url: take user and password out of the URL",
        ),
        (
            {"sources": {"o": {"jdbc": {"url": "jdbc:pg://h/d", "table": "o", "password_env": "hunter-2"}}}},
            "sources.o.jdbc.password_env: give the name of an environment variable, such as SHOP_DB_PASSWORD, never",
        ),
        (
            {"sources": {"o": {"jdbc": {"url": "jdbc:pg://h/d", "table": "o"}, "options": {"password": "hunter2"}}}},
            "sources.o: options.password: a secret here would",
        ),
        ({"inputs": RIGHT["inputs"] | {"reviews": {"path": 3}}}, "inputs.reviews.path: give a path, or a list of"),
        ({"inputs": RIGHT["inputs"] | {"reviews": {"path": []}}}, "inputs.reviews.path: give a path, or a list of"),
        (
            {"inputs": RIGHT["inputs"] | {"reviews": {"path": "x", "colums": {}}}},
            "inputs.reviews.colums is not a key; did you mean columns?",
        ),
        (
            {"inputs": RIGHT["inputs"] | {"optouts": {"path": "x", "columns": {"user": "u"}}}},
            "inputs.optouts.columns.user is not a column of optouts; did you mean user_id?",
        ),
        (
            {"inputs": RIGHT["inputs"] | {"searches": {"path": "x", "columns": {"user_id": "u"}}}},
            "inputs.searches.columns lacks query, searched_at: map each",
        ),
        ({"spark": {"a": [1]}}, "spark: give a mapping of Spark setting: value"),
        ({"store_umask": 23}, 'store_umask: write the umask in quotes, such as "027"'),
        ({"store_umask": "rwx"}, "store_umask: it should match pattern"),
    ],
)
def test_mistakes_name_key_file_and_remedy(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    message = error_of(tmp_path, RIGHT | changes)
    assert says in message
    assert str(tmp_path / "regulars.yaml") in message
    assert message.endswith("Correct the file (or --set), then run the command again.")
    assert "hunter" not in message


def test_one_message_names_all_mistakes(tmp_path: Path) -> None:
    message = error_of(tmp_path, {"inputs": {"purchases": {}}, "colour": 1})
    for says in ("store is missing", "timezone is missing", "inputs.purchases: name exactly", "colour is not a key"):
        assert says in message


def test_values_are_not_quoted(tmp_path: Path) -> None:
    assert "hunter2" not in error_of(tmp_path, RIGHT | {"recommend": {"k": "hunter2"}, "password": "hunter2"})
    assert "hunter2" not in error_of(tmp_path, "store: hunter2\n  timezone: x")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("recommend.k", "--set recommend.k: write it as --set a.b=c"),
        ("=3", "write it as --set a.b=c"),
        ("store.x=3", "--set store.x: store is a single value"),
        ("recommend.k=[1", "--set recommend.k: its value is not YAML"),
        ("recommend.kk=1", "recommend.kk is not a key"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, says: str) -> None:
    assert says in error_of(tmp_path, RIGHT, override)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no keys: it needs at least store, timezone and inputs"),
        ("- a", "holds no keys"),
        ("store: a\nstore: b", "line 2, column 1: the key store is written twice"),
        ("store: [", "is not YAML: line 1"),
        ("a:\n  where: `行为` = 'buy'", "line 2, column 10: found character '`' that cannot start any token (a value"),
        ("a: @x", "a value that begins with @ must be in double quotes"),
        ("where: note = 'a: b", "a value that has a colon and a space must be in double quotes"),
        ("path: {run_date}/items", "a value that begins with one of { [ * & ! ' must be in double quotes as a whole"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, says: str) -> None:
    assert says in error_of(tmp_path, text)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"there is no configuration file .*none\.yaml: name yours with --config"
    ):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"store: caf\xe9")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load(tmp_path / "latin.yaml")


def test_every_key_is_documented() -> None:
    def undocumented(section: type[BaseModel], at: str) -> list[str]:
        found = []
        for name, key in section.model_fields.items():
            if isinstance(key.annotation, type) and issubclass(key.annotation, Section):
                found += undocumented(key.annotation, f"{at}{name}.")
            elif not key.description:
                found.append(at + name)
        return found

    assert undocumented(Config, "") == []


def test_the_committed_page_is_that_of_the_settings(tmp_path: Path) -> None:
    readme = (ROOT / "jobs/config/README.md").read_text(encoding="utf-8")
    assert readme == page(), "write it again: python -m jobs.config > jobs/config/README.md"
    for row in (
        "| `recommend.k` | whole number, at least 1 | `10` | products per customer |",
        "| `inputs.<table>.path` | text or list of text |  | file, folder, glob",
        "| `sources.<name>.jdbc.url` | text | required |",
        "| `recommend.language` | `en` or `zh` | `en` |",
        "| `train.sentiment.dropout` | number, at least 0, below 1 | `0.3` |",
        "| `loyalty.starts_on` | date |  |",
    ):
        assert row in readme
    smallest, columns = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert load(write(tmp_path, smallest)).inputs["items"].paths == [str(tmp_path / "data/items")]
    assert yaml.safe_load(columns)["columns"]["available"] is True


def test_a_mapping_may_take_over_another(tmp_path):
    file = tmp_path / "regulars.yaml"
    file.write_text(
        "store: s\ntimezone: UTC\ninputs:\n"
        "  purchases: &file {path: a.csv, format: csv, columns: {user_id: u, item_id: i, purchased_at: t, title: n}}\n"
        "  searches:\n    <<: *file\n    columns: {user_id: u, query: q, searched_at: t}\n"
    )
    config = load(file)
    assert (config.inputs["searches"].format, config.inputs["searches"].columns["query"]) == ("csv", "q")
    assert config.inputs["searches"].paths == config.inputs["purchases"].paths


def test_the_configurations_of_the_pages_are_right(tmp_path):
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "lm/README.md")]
    blocks = [block for page in pages for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    whole = [block for block in blocks if block.startswith("store:")]
    assert len(whole) == 3
    for number, block in enumerate(whole):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        assert {source.format for source in load(file).inputs.values()} == {"csv"}


def test_the_sections_in_the_pages_of_the_rooms_are_right(tmp_path):
    """Each YAML block of the pages of `jobs/` is some sections of a configuration file."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "jobs").glob("*/README.md"))]
    # an excerpt begins with a comment
    blocks = [block for page in pages for block in re.findall(r"```yaml\n(?! *#)(.*?)```", page, re.DOTALL)]
    assert len(blocks) == 8
    for block in blocks:
        sections = RIGHT | yaml.safe_load(block)
        if "rules" in sections:  # conditions on customers need their table
            sections["inputs"] = sections["inputs"] | {"customers": {"path": "c"}, "reviews": {"path": "r"}}
        load(write(tmp_path, sections))


def test_the_file_for_prometheus_is_a_local_one_that_the_exporter_reads(tmp_path: Path) -> None:
    config = load(write(tmp_path, RIGHT | {"report": {"prometheus": "metrics/regulars.prom"}}))
    assert config.report.prometheus == str(tmp_path / "metrics/regulars.prom")
    for wrong in ("metrics.txt", "hdfs://host/regulars.prom"):
        assert "report.prometheus" in error_of(tmp_path, RIGHT | {"report": {"prometheus": wrong}})


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ({"recommend": {"processes": 2}}, "set recommend.processes to 1"),
        ({"recommend": {"refit": True}}, "Set recommend.refit to false"),
        ({"recommend": {"coding": "titles"}}, "Set recommend.pretrain_epochs to 0"),
        ({"sentiment": {"pretrain_epochs": 2}}, "Set sentiment.pretrain_epochs to 0"),
    ],
)
def test_what_learns_without_noise_is_refused_beside_differential_privacy(
    tmp_path: Path, train: dict[str, Any], reason: str
) -> None:
    assert reason in error_of(tmp_path, RIGHT | {"train": train | {"dp_epsilon": 8}})


def test_settings_of_differential_privacy_reach_the_trainings(tmp_path: Path) -> None:
    train = load(write(tmp_path, RIGHT | {"train": {"dp_epsilon": 2, "dp_batch": 64}})).train
    private = private_settings(train)
    assert private == {"privacy": PrivacyBudget(epsilon=2.0, batch=64), "pretrain_epochs": 0}
    assert private_settings(train.model_copy(update={"dp_epsilon": None})) == {}
    with pytest.raises(TrainingError, match="the answers' model has no training with differential privacy"):
        refuse_private_answers(train)


def test_a_command_to_go_on_with_reads_the_same_file_and_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, RIGHT).rename(tmp_path / "shop one.yaml")
    config = load(file, ["store=./store3", "models.sentiment=null"])
    said = f"regulars status --config '{file}' --set store=./store3 --set models.sentiment=null --from 2026-03-01"
    assert config.command("status", "--from 2026-03-01") == said


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    assert f"store: {tmp_path}/store is a file, not a folder" in error_of(tmp_path, RIGHT)


def test_misspelt_keys_and_columns_are_named_together_each_with_its_closest_name(tmp_path: Path) -> None:
    wrong = RIGHT | {"timezome": "UTC", "recomend": {}}
    wrong["inputs"] = RIGHT["inputs"] | {"purchases": PURCHASES | {"columns": {"purchasedat": "t", "itemid": "i"}}}
    said = error_of(tmp_path, wrong)
    assert "timezome is not a key; did you mean timezone?" in said
    assert "recomend is not a key; did you mean recommend?" in said
    assert "inputs.purchases.columns.purchasedat is not a column of purchases; did you mean purchased_at?" in said
    assert "inputs.purchases.columns.itemid is not a column of purchases; did you mean item_id?" in said
    assert "one of" not in said
