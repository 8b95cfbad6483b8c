"""Sampled rows: every form of a value has an expression that Spark evaluates as the form reads it; all rules show."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import Row

from jobs.config.input_settings import InputSettings
from jobs.inputs.row_checks import SampledInput, _broken_rules, sample_input, titles_of, unknown_ids
from jobs.inputs.validation import RULES
from jobs.profiling.time_forms import read_times, time_form
from jobs.profiling.value_forms import boolean_form, entity_form, id_form, mask, number_form, rating_form
from jobs.spark.errors import BadFile
from tests.jobs.profiling.test_time_forms import FORMATS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MOMENTS = [datetime(2026, 3, 31, 14, 5, 9), datetime(2025, 12, 7, 1, 30, 59), datetime(2024, 2, 29, 23, 59, 1)]


def write(path: Path, rows: list[list[str]], sep: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=sep).writerows(rows)
    return path


def sample(spark: SparkSession, table: str, path: Path, limit: int = 100, **more: Any) -> SampledInput:
    source = InputSettings.model_validate({"path": str(path), "format": "csv", **more})
    return sample_input(spark, table, source, limit)


def test_spark_reads_every_form_of_a_time_as_the_form_says(spark: SparkSession) -> None:
    numbers = [
        [str(int(m.replace(tzinfo=UTC).timestamp()) * unit) for m in MOMENTS] for unit in (1, 10**3, 10**6, 10**9)
    ]
    columns = [[m.strftime(form) for m in MOMENTS] for form in FORMATS]
    columns += [
        *numbers,
        ["46112.5868", "46000", "45351.25"],
        ["31.12.2025", "01.02.2026 14:05", "01.02.2026 14:05:09"],
    ]
    columns += [["3.1.2026 7:05", "31.12.2025 14:05", "1.2.2025 0:00"], ["2026-03-31T14:05:09+02:00"] * 3]
    forms = [time_form(values, serial_days=True) for values in columns]
    assert None not in forms
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    try:
        rows = spark.createDataFrame(list(zip(*columns, strict=True)), [f"c{n}" for n in range(len(columns))])
        readings = [f"CAST({form.sql.format(f'c{n}')} AS TIMESTAMP) AS t{n}" for n, form in enumerate(forms)]
        texts = [f"date_format(t{n}, 'yyyy-MM-dd HH:mm:ss') AS t{n}" for n in range(len(forms))]
        found = rows.selectExpr(*readings).selectExpr(*texts).collect()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "Europe/London")
    for number, (values, form) in enumerate(zip(columns, forms, strict=True)):
        expected = [time.strftime("%Y-%m-%d %H:%M:%S") for time in read_times(values, form.name)]
        assert [row[number] for row in found] == expected, (values, form)


@pytest.mark.parametrize(
    ("read", "values", "cast", "expected"),
    [
        (number_form, ["1.299,00", "-5,5"], "DECIMAL(12,2)", ["1299.00", "-5.50"]),
        (number_form, ["$1,299.00", "€5.5"], "DECIMAL(12,2)", ["1299.00", "5.50"]),
        (number_form, ["1'299.00", "3.10"], "DECIMAL(12,2)", ["1299.00", "3.10"]),
        (rating_form, ["4.1 out of 5 stars", "4.5 out of 5 stars"], "INT", ["4", "5"]),
        (rating_form, ["4,5", "1,0"], "INT", ["5", "1"]),
        (rating_form, ["★★★★☆", "★☆☆☆☆"], "INT", ["4", "1"]),
        (rating_form, ["8/10", "0/10"], "INT", ["4", "1"]),
        (rating_form, ["1", "0"], "INT", ["5", "1"]),
        (boolean_form, ["Ja ", "nein"], "BOOLEAN", ["true", "false"]),
        (boolean_form, ["17", "0"], "BOOLEAN", ["true", "false"]),
        (id_form, ["17850.0", "A1.0"], "STRING", ["17850", "A1"]),
        (id_form, ["6.93E+12", "85123A"], "STRING", ["6930000000000", "85123A"]),
        (entity_form, ["Tea &amp;lt; cup", "5 &#39;cups&#39;"], "STRING", ["Tea &lt; cup", "5 'cups'"]),
    ],
)
def test_spark_evaluates_the_expression_of_a_form(spark, read, values, cast, expected) -> None:
    form = read(values)
    assert form is not None
    rows = spark.createDataFrame([(value,) for value in values], ["odd name"])
    found = rows.selectExpr(f"CAST(CAST({form.sql.format('`odd name`')} AS {cast}) AS STRING) AS v").collect()
    assert [row.v for row in found] == expected


def test_all_rules_that_rows_break_show_with_counts_shapes_and_the_line_that_reads_them(spark, tmp_path) -> None:
    head = ["kunde", "artikel", "datum", "preis", "menge"]
    rows = [["17850.0", "a1", "31.12.2025 14:05", "1.299,00", "2"]] * 6 + [
        ["17850.0", "", "01.02.2026 09:00", "3,50", "0"]
    ]
    path = write(tmp_path / "p.csv", [head, *rows])
    columns = {
        "user_id": "kunde",
        "item_id": "artikel",
        "purchased_at": "datum",
        "unit_price": "preis",
        "quantity": "menge",
    }
    found = sample(spark, "purchases", path, columns=columns)
    assert (found.rows, found.rejected) == (7, 7)
    by_rule = {finding.rule: finding for finding in found.findings}
    assert {rule: finding.rows for rule, finding in by_rule.items()} == {
        "purchased_at_unparsable": 7,
        "unit_price_unparsable": 7,
        "item_id_not_null": 1,
        "quantity_not_zero": 1,
        "user_id": 7,
    }
    assert "try_to_timestamp(datum, 'd.M.yyyy H:mm')" in by_rule["purchased_at_unparsable"].remedy
    assert "regexp_replace(preis, '[^0-9,+-]', '')" in by_rule["unit_price_unparsable"].remedy
    assert by_rule["unit_price_unparsable"].examples == ("9.999,99", "9,99")
    assert by_rule["user_id"].is_warning
    assert "regexp_replace(kunde, '[.]0+ *$', '')" in by_rule["user_id"].remedy

    mended = columns | {
        finding.remedy.split(": ")[0].rpartition(".")[2]: finding.remedy.split(": ", 1)[1].split("   #")[0]
        for finding in found.findings
        if ".columns." in finding.remedy and "_null" not in finding.rule
    }
    again = sample(spark, "purchases", path, columns=mended)
    assert {finding.rule for finding in again.findings} == {"item_id_not_null", "quantity_not_zero"}
    assert again.ids["user_id"] == ("17850",)


def test_a_wrong_pattern_of_the_configuration_is_found_by_the_source_s_values(spark, tmp_path) -> None:
    path = write(tmp_path / "s.csv", [["who", "words", "at"], *[["u", "tea", "31.12.2025"]] * 3])
    columns = {"user_id": "who", "query": "words", "searched_at": "try_to_timestamp(at, 'yyyy-MM-dd')"}
    (finding,) = sample(spark, "searches", path, columns=columns).findings
    assert (finding.rule, finding.rows, finding.examples) == ("searched_at_not_null", 3, ("99.99.9999",))
    assert "try_to_timestamp(at, 'd.M.yyyy')" in finding.remedy


@pytest.mark.parametrize(
    ("unread", "expression", "remedy"),
    [
        (
            "31.02.2026",
            "try_to_timestamp(at, 'd.M.yyyy')",
            "searched_at is written as day.month.year, and these values are no such times: correct them, or leave "
            "these rows out with inputs.searches.where",
        ),
        (
            "soon",
            "try_to_timestamp(at, 'd.M.yyyy')",
            "searched_at is written as day.month.year, and these values are no such times: correct them, or leave "
            "these rows out with inputs.searches.where",
        ),
        (
            "28.02.2026",
            "try_to_timestamp(at, 'M/d/yyyy')",
            "inputs.searches.columns.searched_at: try_to_timestamp(at, 'd.M.yyyy')   # day.month.year",
        ),
    ],
)
def test_a_value_that_is_read_as_null_is_told_from_an_empty_one(unread: str, expression: str, remedy: str) -> None:
    """Where the expression fits all other values, the values are to be corrected."""
    days = [*["31.12.2025", "01.02.2026", "28.02.2026"] * 4, unread, "", ""]
    columns = {"user_id": "who", "query": "words", "searched_at": expression}
    source = InputSettings.model_validate({"path": "s.csv", "format": "csv", "columns": columns})
    broken = [[]] * 12 + [["searched_at_not_null"]] * 3
    rows = [Row(**{RULES: rules, "__mapped": Row(searched_at=None)}) for rules in broken]
    originals = [Row(__source0=day) for day in days]
    (finding,) = _broken_rules("searches", source, rows, {"searched_at": "at"}, originals)
    assert (finding.rows, finding.examples) == (3, (mask(unread),))
    assert finding.what == "searched_at is null: 1 unreadable, 2 empty"
    assert finding.remedy == remedy


def test_ids_that_miss_the_catalogue_only_by_their_spelling(spark, tmp_path) -> None:
    items = write(tmp_path / "i.csv", [["item_id", "title"], ["00123", "Tea"], ["AB9", "Cup"], ["7", "Pot"]])
    events = write(
        tmp_path / "p.csv",
        [["user_id", "item_id", "purchased_at"], *[["u1", item, "2026-03-01"] for item in ("123", "ab9", "7.0", "9")]],
    )
    optouts = write(tmp_path / "o.csv", [["user_id"], ["4711"]])
    sources = {
        table: InputSettings.model_validate({"path": str(path), "format": "csv"})
        for table, path in (("purchases", events), ("items", items), ("optouts", optouts))
    }
    samples = [sample_input(spark, table, source, 10) for table, source in sources.items()]
    shapes, unknown = unknown_ids(spark, samples, sources)
    assert (shapes.table, shapes.rule, shapes.examples) == ("optouts", "user_id", ("9999",))
    assert (unknown.table, unknown.rule, unknown.rows) == ("purchases", "unknown_item", 4)
    assert "4 of 4 products are not in items; 3 are there in another spelling" in unknown.what
    assert "capital letters" in unknown.remedy
    assert "leading zeros" in unknown.remedy


def test_a_file_that_ends_inside_quotes_is_found_beyond_the_sampled_rows(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "optouts.csv"
    path.write_text("user_id\n" + "".join(f"C{n}\n" for n in range(300)) + '"C300\nC301\n', encoding="utf-8")
    with pytest.raises(BadFile, match="ends inside quotes: the row of line 302"):
        sample(spark, "optouts", path, limit=10)


def test_titles_are_read_from_items_or_from_purchases_that_carry_them(spark: SparkSession, tmp_path: Path) -> None:
    rows = [["item_id", "title", "user_id"], ["POST", "Postage", "1"], ["2", "", "1"], ["POST", "Postage", "2"]]
    path = str(write(tmp_path / "rows.csv", rows))
    whole = InputSettings.model_validate({"path": path, "format": "csv"})
    untitled = whole.model_copy(update={"columns": {"item_id": "item_id", "user_id": "user_id"}})
    assert titles_of(spark, "items", whole) == {"POST": "Postage"}
    assert titles_of(spark, "purchases", untitled) == {}
