"""`regulars init`: layouts of shops, and what it finds and asks in each."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from jobs.commands.init import write_configuration
from jobs.config.config import load
from jobs.inputs.reader import read_inputs
from jobs.profiling.guessing import TableGuess, guess_tables
from jobs.profiling.source_files import read_files
from jobs.spark.errors import InputError, UsageError
from tests.jobs.commands.exports import (
    EXPORTS,
    LAYOUTS,
    START,
    csv_bytes,
    events,
    german,
    german_shop,
    spreadsheet,
    us_shop,
)


def guesses_for(folder: Path) -> tuple[dict[str, TableGuess], list[str]]:
    found, questions = guess_tables(read_files(sorted(folder.iterdir()), folder / "from_spreadsheets"))
    return {guess.table: guess for guess in found}, questions


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_no_column_is_mapped_wrong_without_a_question(layout, tmp_path: Path) -> None:
    expected = layout(tmp_path)
    found, _ = guesses_for(tmp_path)
    assert set(found) == set(expected)
    for table, columns in expected.items():
        for guess in found[table].columns:
            if guess.expression is not None and not guess.question:
                assert guess.source == columns.get(guess.column), (table, guess)


def test_nine_of_ten_columns_of_all_layouts_are_mapped_right(tmp_path: Path) -> None:
    right, wrong = [], []
    for layout in LAYOUTS:
        folder = tmp_path / layout.__name__
        folder.mkdir()
        expected = layout(folder)
        found, _ = guesses_for(folder)
        for table, columns in expected.items():
            sources = {g.column: g.source for g in found[table].columns} if table in found else {}
            for column, source in columns.items():
                (right if sources.get(column) == source else wrong).append((layout.__name__, table, column))
    assert len(right) >= 0.9 * (len(right) + len(wrong)), wrong


def written(folder: Path, *names: str, **more: Any) -> tuple[str, str]:
    """The configuration that init writes for the files of the folder, and what it prints."""
    console = Console(file=io.StringIO(), width=1000)
    files = [str(folder / name) for name in names] or sorted(map(str, folder.iterdir()))
    files = more.get("given", files)
    write_configuration(files, folder / "regulars.yaml", more.get("timezone"), more.get("force", False), console)
    return (folder / "regulars.yaml").read_text(encoding="utf-8"), console.file.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_the_written_file_is_a_configuration_and_shows_no_value_of_the_shop(layout, tmp_path: Path) -> None:
    expected = layout(tmp_path)
    text, printed = written(tmp_path, timezone="Europe/Berlin")
    config = load(tmp_path / "regulars.yaml")
    assert set(config.inputs) == set(expected)
    for source in config.inputs.values():
        assert all(Path(path).exists() for path in source.paths)
    for event in events(20):
        for value in (str(event["user"]), event["title"], event["text"]):
            assert value not in text + printed


def test_forms_of_the_german_shop_become_options_and_expressions(tmp_path: Path) -> None:
    german_shop(tmp_path)
    written(tmp_path)
    inputs = load(tmp_path / "regulars.yaml").inputs
    assert inputs["items"].options == {"sep": ";", "encoding": "windows-1252"}
    assert inputs["purchases"].columns["purchased_at"] == "try_to_timestamp(Bestelldatum, 'd.M.yyyy H:mm')"
    assert (
        inputs["purchases"].columns["unit_price"] == "replace(regexp_replace(Einzelpreis, '[^0-9,+-]', ''), ',', '.')"
    )
    assert inputs["items"].columns["available"].startswith("CASE WHEN lower(trim(lieferbar)) IN ('ja') THEN true")
    assert inputs["reviews"].columns["reviewed_at"] == "try_to_timestamp(datum, 'd.M.yyyy')"


def test_an_existing_configuration_is_kept_without_force(tmp_path: Path) -> None:
    us_shop(tmp_path)
    (tmp_path / "regulars.yaml").write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        written(tmp_path, "sales 2025.csv.gz")
    assert (tmp_path / "regulars.yaml").read_text() == "mine"
    text, _ = written(tmp_path, "sales 2025.csv.gz", force=True)
    assert "Customer ID" in text


def test_the_copy_of_a_spreadsheet_is_kept_without_force(tmp_path: Path) -> None:
    spreadsheet(tmp_path)
    written(tmp_path)
    (copy,) = (tmp_path / "from_spreadsheets").iterdir()
    copy.write_text("mine")
    (tmp_path / "regulars.yaml").unlink()
    with pytest.raises(InputError, match="--force"):
        written(tmp_path, "shop.xlsx")
    assert copy.read_text() == "mine"
    written(tmp_path, "shop.xlsx", force=True)
    assert "Purchase Date" in copy.read_text()


def test_an_unknown_time_zone_is_a_usage_error(tmp_path: Path) -> None:
    us_shop(tmp_path)
    with pytest.raises(UsageError, match="--timezone"):
        written(tmp_path, timezone="Berlin")


def test_lines_without_a_header_are_asked_for_it(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], e["at"].isoformat()] for e in events()]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(rows[0], rows[1:]))
    found, _ = guesses_for(tmp_path)
    asked = {guess.column: guess for guess in found["purchases"].columns}
    assert asked["purchased_at"].source == "_c2"
    assert asked["purchased_at"].question == "is that right?"
    assert asked["item_id"].proposed
    assert "Unused columns: _c0 (99999), _c1 (X9999)" in asked["item_id"].question
    assert "add such a line" in " ".join(found["purchases"].questions)
    (tmp_path / "orders.csv").rename(tmp_path / "export.csv")
    found, questions = guesses_for(tmp_path)
    assert not found
    assert f"name its table, such as purchases={tmp_path}/export.csv" in " ".join(questions)
    text, _ = written(tmp_path, given=[f"purchases={tmp_path}/export.csv"])
    assert "      # user_id: \"'unknown customer'\"" in text


@pytest.mark.parametrize(("missing", "column"), [("ArtNr", "item_id"), ("Belegdatum", "purchased_at")])
def test_a_table_without_one_needed_column_is_written_with_a_question(missing, column, tmp_path: Path) -> None:
    head = ["BelegNr", "KdNr", "ArtNr", "Menge", "Einzelpreis", "Belegdatum"]
    rows = [
        [e["order"], e["user"], e["item"], e["quantity"], german(e["price"]), e["at"].strftime("%d.%m.%Y")]
        for e in events()
    ]
    (tmp_path / "verkäufe.csv").write_bytes(csv_bytes(head, rows, ";"))
    found, questions = guesses_for(tmp_path)
    sources = {guess.column: guess.source for guess in found["purchases"].columns}
    assert (sources["item_id"], sources["purchased_at"], sources["user_id"]) == ("ArtNr", "Belegdatum", "KdNr")
    assert not questions
    place = head.index(missing)
    head[place] = "Xyz"
    rows = [[*row[:place], "heute", *row[place + 1 :]] for row in rows]
    (tmp_path / "verkäufe.csv").write_bytes(csv_bytes(head, rows, ";"))
    text, printed = written(tmp_path)
    assert f"      # {column}: " in text
    assert f"(?) {column}: no column of the file has such a name. which column, or which constant, is it?" in printed
    assert "Unused columns: Xyz" in printed


def test_what_is_known_of_a_file_that_looks_like_no_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(csv_bytes(["KdNr", "Xyz", "Menge"], [[e["user"], "a", 1] for e in events()], ";"))
    says = r"As purchases it has KdNr \(user_id\), .*; it lacks purchased_at and item_id\. If it is one, name its table"
    with pytest.raises(UsageError, match=says):
        written(tmp_path, "t.csv")


def test_a_named_table_is_taken_as_it_is_named(tmp_path: Path) -> None:
    """The file would be a table of purchases, by its columns and by its name."""
    rows = [[e["user"], e["item"], e["at"].isoformat()] for e in events()]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(["user_id", "item_id", "date"], rows))
    text, _ = written(tmp_path, given=[f"reviews={tmp_path}/orders.csv"])
    assert "\n  reviews:   # " in text
    assert "\n  purchases:" not in text
    assert "      # text: " in text


def test_a_guess_says_how_sure_it_is(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], e["at"].isoformat(), e["price"]] for e in events()]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(["user_id", "item_id", "date", "price"], rows))
    found, _ = guesses_for(tmp_path)
    reasons = {guess.column: guess.reason for guess in found["purchases"].columns}
    assert reasons["user_id"] == "user_id, by its name"
    assert reasons["unit_price"] == "perhaps price, by its name"


def test_an_almost_empty_column_of_times_is_no_time_of_purchase(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], "" if n % 100 else e["at"].isoformat()] for n, e in enumerate(events())]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(["user_id", "item_id", "zeitx"], rows))
    found, _ = guesses_for(tmp_path)
    (at,) = (guess for guess in found["purchases"].columns if guess.column == "purchased_at")
    assert at.source is None
    assert "zeitx" in at.question


def test_a_table_of_the_catalog(spark, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("jobs.spark.session.create_session", lambda *_, **__: spark)  # keeps its settings
    rows = [(e["user"], {"sku": e["item"]}, e["at"], e["text"]) for e in events()]
    schema = "customer_id long, item struct<sku: string>, ordered_at timestamp, comment string"
    (tmp_path / "regulars.yaml").write_text("spark: {spark.sql.shuffle.partitions: 4}")
    spark.createDataFrame(rows, schema).createOrReplaceGlobalTempView("orders")
    text, _ = written(tmp_path, given=["global_temp.orders"], force=True, timezone="Europe/London")
    purchases = load(tmp_path / "regulars.yaml").inputs["purchases"]
    assert (purchases.table, purchases.path) == ("global_temp.orders", None)
    assert purchases.columns["item_id"] == "item.sku"
    assert purchases.columns["purchased_at"] == "ordered_at"
    assert "Samples: X9999" in text
    assert load(tmp_path / "regulars.yaml").spark == {"spark.sql.shuffle.partitions": "4"}
    spark.catalog.dropGlobalTempView("orders")
    with pytest.raises(
        InputError, match=r"no table global_temp\.orders that Spark can read \(TABLE_OR_VIEW_NOT_FOUND\)"
    ):
        written(tmp_path, given=["global_temp.orders"], force=True, timezone="Europe/London")


def test_very_wide_files_and_very_long_values_take_seconds(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(",".join(f"c{n}" for n in range(20_000)) + "\n" + "1," * 19_999 + "1\n")
    with pytest.raises(InputError, match=r"wide\.csv has 20,000 columns; at most 1,000 are looked at"):
        written(tmp_path, "wide.csv")
    rows = [[e["user"], e["item"], e["at"].isoformat(), e["price"]] for e in events()]
    rows[7][3] = "1" * 5_000_000
    (tmp_path / "orders.csv").write_bytes(csv_bytes(["user_id", "item_id", "date", "price"], rows))
    text, _ = written(tmp_path, "orders.csv")
    assert len(text) < 10_000


def test_numbers_as_ids_are_written_without_a_fraction(tmp_path: Path) -> None:
    rows = pd.DataFrame(events(50)).rename(columns={"user": "user_id", "item": "item_id", "at": "purchased_at"})
    rows = rows.assign(order_id=rows.order.astype(float))[["user_id", "order_id", "item_id", "purchased_at"]]
    rows.to_parquet(tmp_path / "orders.parquet")
    found, _ = guesses_for(tmp_path)
    sql = {column.column: column.expression for column in found["purchases"].columns}
    assert sql["user_id"] == "user_id"
    assert sql["order_id"] == "CAST(try_cast(order_id AS DECIMAL(38,0)) AS STRING)"


def test_text_of_any_ending_is_read(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], e["at"].isoformat()] for e in events()]
    (tmp_path / "orders.tsv").write_bytes(csv_bytes(["user_id", "item_id", "purchased_at"], rows, "\t"))
    found, _ = guesses_for(tmp_path)
    assert found["purchases"].file.options["sep"] == "\t"


def test_control_characters_of_a_header_reach_neither_terminal_nor_file(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], e["at"].isoformat(), e["title"]] for e in events()]
    head = ["user_id", "item_id", "purchased_at", "title\x1b[31m\u2028store: evil"]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(head, rows))
    text, printed = written(tmp_path)
    assert "\x1b" not in text + printed
    assert load(tmp_path / "regulars.yaml").store == str(tmp_path / "store")


def test_a_file_that_fits_two_tables_carries_the_question(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], e["at"].isoformat(), e["quantity"], e["stars"], e["text"]] for e in events()]
    head = ["user_id", "item_id", "date", "quantity", "rating", "comment"]
    (tmp_path / "export.csv").write_bytes(csv_bytes(head, rows))
    _, questions = guesses_for(tmp_path)
    assert any(q.endswith("export.csv a table of reviews, or of purchases?") for q in questions), questions


@pytest.mark.parametrize("product", ["sku", "item_id"])
def test_orders_and_lines_in_two_files_are_a_question(product: str, tmp_path: Path) -> None:
    orders = [[e["order"], e["user"], e["at"].isoformat()] for e in events()]
    lines = [[e["order"], e["item"], e["quantity"]] for e in events()]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(["order_id", "customer_id", "ordered_at"], orders))
    (tmp_path / "order_lines.csv").write_bytes(csv_bytes(["order_id", product, "quantity"], lines))
    found, _ = guesses_for(tmp_path)
    assert found["purchases"].join.query.endswith("FROM orders h JOIN order_lines l ON h.order_id = l.order_id")
    assert "says what: the query joins them. Is that right?" in found["purchases"].questions[0]


def test_orders_and_lines_in_two_files_are_joined_with_a_question(spark, tmp_path: Path) -> None:
    """Both have an id, a note and a price; only the line's price is the product's."""
    orders = [[e["order"], e["user"], e["at"].isoformat(), 999, "x"] for e in events()]
    lines = [[n, e["order"], e["item"], e["quantity"], e["price"], "y"] for n, e in enumerate(events())]
    head = ["order_id", "customer_id", "ordered_at", "price", "note"]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(head, orders, ";"))
    head = ["id", "order id", "sku", "quantity", "price", "note"]
    (tmp_path / "order_lines.csv").write_bytes(csv_bytes(head, lines))
    text, printed = written(tmp_path, timezone="Europe/London")
    assert "order_lines.csv says what: the query joins them. Is that right?" in printed
    config = load(tmp_path / "regulars.yaml")
    assert set(config.inputs) == {"purchases"}
    assert config.sources["orders"].options == {"sep": ";"}
    assert "FROM orders h JOIN order_lines l ON h.order_id = l.`order id`" in text
    used = read_inputs(spark, config, date(2026, 12, 31), str(tmp_path / "work")).used["purchases"].collect()
    found = sorted((int(r.order_id), r.user_id, r.item_id, r.quantity, float(r.unit_price)) for r in used)
    assert found == [(e["order"], str(e["user"]), e["item"], e["quantity"], e["price"]) for e in events()]


def test_cancelled_orders_and_rows_without_customer_are_a_question_with_the_condition(tmp_path: Path) -> None:
    rows = [
        [
            e["user"] if n % 5 else "",
            e["item"],
            e["at"].isoformat(),
            e["title"],
            "storniert" if n % 9 == 0 else "bezahlt",
        ]
        for n, e in enumerate(events())
    ]
    (tmp_path / "orders.csv").write_bytes(csv_bytes(["user_id", "item_id", "purchased_at", "title", "state"], rows))
    found, _ = guesses_for(tmp_path)
    asked = " ".join(found["purchases"].questions)
    assert "lower(state) NOT IN ('storniert')" in asked
    assert "user_id IS NOT NULL" in asked


@pytest.mark.parametrize("name", EXPORTS)
def test_well_known_exports(name: str, tmp_path: Path) -> None:
    file, columns, expected = EXPORTS[name]
    rows = [[write(event) for write in columns.values()] for event in events()]
    (tmp_path / file).write_bytes(csv_bytes(list(columns), rows))
    found, _ = guesses_for(tmp_path)
    guesses = {guess.column: guess for guess in found["purchases"].columns}
    for column, source in expected.items():
        assert guesses[column].source == source, guesses[column]
    for guess in guesses.values():
        assert guess.source is None or guess.question or guess.source == expected.get(guess.column), guess
    asked = " ".join(found["purchases"].questions)
    assert ("'view'" in asked) == (name == "retailrocket")
    assert ("are its rows purchases" in asked) == (name == "films")


def test_nanoseconds_in_parquet_are_a_question(tmp_path: Path) -> None:
    frame = pd.DataFrame([{"user_id": "u1", "item_id": "i1", "title": "Tea", "purchased_at": pd.Timestamp(START)}])
    frame.astype({"purchased_at": "datetime64[ns]"}).to_parquet(tmp_path / "purchases.parquet")
    found, _ = guesses_for(tmp_path)
    assert "nanoseconds" in " ".join(found["purchases"].questions)


def test_the_newest_file_of_a_folder_shows_what_the_oldest_has_no_values_for(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    for day, price in (("2026-01-01", None), ("2026-01-02", 3.5)):
        rows = [
            {"user_id": f"u{n}", "item_id": "i1", "title": "Tea", "purchased_at": day, "price": price} for n in range(9)
        ]
        channel = {} if price is None else {"channel": "app"}
        pd.DataFrame([row | channel for row in rows]).to_parquet(tmp_path / f"orders/{day}.parquet")
    (found,) = read_files([tmp_path / "orders"], tmp_path)
    assert (found.paths, found.rows) == ((tmp_path / "orders",), 18)
    blank = {column.name: (column.kind, column.blank) for column in found.columns}
    assert (blank["price"], blank["channel"]) == (("number", 0.5), ("text", 0.5))


def test_a_folder_whose_files_are_written_in_two_ways_is_a_question(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    rows = [[e["user"], e["item"], e["at"].isoformat(), e["title"]] for e in events(30)]
    for name, separator in (("1", ","), ("2", ";")):
        content = csv_bytes(["user_id", "item_id", "purchased_at", "title"], rows, separator)
        (tmp_path / f"orders/{name}.csv").write_bytes(content)
    (found,) = read_files([tmp_path / "orders"], tmp_path)
    assert found.questions == (
        f"1.csv and 2.csv of {tmp_path / 'orders'} are written in two ways: may one input read both?",
    )


def test_monthly_files_of_equal_columns_are_one_input(tmp_path: Path) -> None:
    for month in (1, 2):
        rows = [[e["user"], e["item"], e["at"].isoformat(), e["title"]] for e in events(30)]
        (tmp_path / f"orders_{month}.csv").write_bytes(csv_bytes(["user_id", "item_id", "purchased_at", "title"], rows))
    written(tmp_path)
    assert len(load(tmp_path / "regulars.yaml").inputs["purchases"].paths) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.csv", None, "there is no file"),
        ("empty.csv", b"", "is empty"),
        ("orders.zip", b"PK", "unpack it"),
        ("orders.parquet", b"not parquet", "is not Parquet"),
        ("orders.xlsx", b"not excel", "is not a spreadsheet"),
        ("orders.json", b"{broken", "is not JSON"),
        ("orders.csv.gz", b"not gzip", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_remedy(name, content, says, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as raised:
        written(tmp_path, name)
    assert name in str(raised.value)


def test_a_delta_table_is_not_read_as_parquet(tmp_path: Path) -> None:
    (tmp_path / "orders/_delta_log").mkdir(parents=True)
    with pytest.raises(InputError, match="Delta"):
        written(tmp_path, "orders")


def test_what_is_no_table_of_a_shop_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "weather.csv").write_text("station,pressure\nA,1013\nB,1009\n")
    with pytest.raises(UsageError, match="weather"):
        written(tmp_path, "weather.csv")
