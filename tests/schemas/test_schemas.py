"""The data dictionary is complete and consistent. No JVM here: test_contracts checks the SQL of the rules."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import schemas
from schemas import INPUTS, OUTPUTS, contract
from schemas.__main__ import page

TABLES = INPUTS + OUTPUTS
TYPES = {
    "string", "int", "bigint", "double", "boolean", "timestamp", "date", "decimal(12,2)",
    "array<string>", "map<string,bigint>", "map<string,double>", "map<string,string>",
    "struct<gpt2:double,bought_together:double,bought_again:double,popular:double,like_its_title:double,rule:double>",
    "array<struct<kind:string,text:string,at:timestamp,weight:double>>",
}  # fmt: skip


def test_one_file_a_table() -> None:
    files = {path.stem for path in Path(schemas.__file__).parent.glob("*.py")}
    assert files - {"__init__", "__main__", "contract"} == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_contract_is_consistent(table: str) -> None:
    c = contract(table)
    assert c.table == table
    assert (import_module(f"schemas.{table}").__doc__ or "").splitlines()[0] == c.grain
    assert c.grain.startswith("One ")
    assert len(set(c.column_names)) == len(c.columns)
    assert set(c.key) <= set(c.column_names)
    assert all(column.doc for column in c.columns), "the data dictionary says what every column means"
    assert {column.type for column in c.columns} <= TYPES
    assert len({rule.name for rule in c.rules}) == len(c.rules)
    assert c.time_column is None or c.column(c.time_column).type == "timestamp"
    for relation in c.relations:
        assert relation.column in c.column_names
        assert relation.references in contract(relation.table).column_names


@pytest.mark.parametrize("table", TABLES)
def test_names_follow_the_design(table: str) -> None:
    for column in contract(table).columns:
        assert re.fullmatch(r"[a-z][a-z_]*", column.name)
        assert column.name.endswith("_at") == (column.type == "timestamp")
        assert column.name.endswith(("_on", "_date")) == (column.type == "date")
        if column.name.startswith("p_"):
            assert column.type == "double"


@pytest.mark.parametrize("table", INPUTS)
def test_an_input_row_is_identified_by_what_its_source_must_give(table: str) -> None:
    c = contract(table)
    assert c.key, "duplicates of an input are found by its key"
    assert c.partition_by == ()
    assert set(c.key) - set(c.required) <= {"order_id"}


@pytest.mark.parametrize("table", OUTPUTS)
def test_an_output_is_partitioned_by_run_date_in_the_folder_name_only(table: str) -> None:
    c = contract(table)
    assert c.partition_by == ("run_date",)
    assert "run_date" not in c.column_names


def test_columns_of_the_design() -> None:
    assert contract("purchases").column_names == (
        "user_id", "item_id", "purchased_at", "quantity", "unit_price", "order_id",
    )  # fmt: skip
    assert contract("purchases").required == ("user_id", "item_id", "purchased_at")
    assert contract("reviews").required == ("review_id", "user_id", "item_id", "text", "reviewed_at")
    assert contract("recommendations").key == ("user_id", "rank")
    assert contract("quarantine").column_names == ("table", "rule", "key_hash", "user_hash", "source_file", "detail")
    assert contract("quarantine").sort_columns == contract("quarantine").column_names
    assert contract("sentiments").sort_columns == ("review_id",)


def test_the_committed_page_is_that_of_the_contracts() -> None:
    readme = Path(schemas.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert readme == page(), "write it again: python -m schemas > schemas/README.md"
    for table in TABLES:
        assert all(f"| `{column.name}` | `{column.type}` |" in readme for column in contract(table).columns)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(KeyError, match="no table orders; there are purchases, "):
        contract("orders")
    with pytest.raises(KeyError, match="purchases has no column price; it has user_id, "):
        contract("purchases").column("price")


def test_no_spark_is_imported() -> None:
    code = (
        "import sys, schemas; [schemas.contract(t) for t in schemas.INPUTS + schemas.OUTPUTS];"
        "assert not {'pyspark', 'jobs', 'lm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(schemas.__file__).parents[1])
    assert done.returncode == 0
