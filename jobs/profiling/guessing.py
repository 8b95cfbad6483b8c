"""Guesses which contract table a shop's file is, and which column of it fills each contract column.

`regulars init` writes the guesses into regulars.yaml. A guess is sure only if the column's name is unmistakable, its
values fit, and no other column or form of the values competes; every other guess carries a question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import schemas
from jobs.config.input_settings import TITLE
from jobs.profiling.column_names import COLUMN_NAMES, FILE_NAMES, ONLY_TIME, OTHER_TIMES, normalise
from jobs.profiling.source_files import SourceColumn, SourceFile, quoted_name
from jobs.profiling.time_forms import time_form
from jobs.profiling.value_forms import (
    CANCELLED,
    VIEWED,
    boolean_form,
    entity_form,
    id_form,
    mask,
    number_form,
    rating_form,
    read_number,
)

#: Values of a column that the forms look at.
_LOOK_AT = 2000
_SHOWN = 3
#: Unused columns that a question names.
_LISTED = 12
#: A column with a larger share of blank rows says nothing.
_EMPTY = 0.98
#: A table that fits a file so well, compared with the best one, is asked for.
_NEAR = 0.8
#: With so many rows, some customer must come twice.
_ENOUGH = 100
#: A file without one needed column is still taken for a table with so many columns of strong names; with so many
#: where its own name says the table too.
_STRONG, _STRONG_WITH_NAME = 3, 2
_ADDRESS = r"[^@\s]+@[^@\s]+\.[^@\s]+"
_MAIL_NAME = r"(^|_)(e_?mail|mail)(_?(address|adresse))?$"
#: Columns without which a file is no such table.
_NEEDED = {
    "purchases": ("purchased_at", "item_id"),
    "items": ("item_id", "title"),
    "reviews": ("text",),
    "searches": ("query",),
    "questions": ("text", "answer"),
    "articles": ("title", "body"),
    "optouts": ("user_id",),
    "customers": ("user_id",),
    "events": ("user_id", "item_id", "kind", "happened_at"),
}


@dataclass(frozen=True)
class ColumnGuess:
    """What fills one contract column: an expression over `source`, its reason, and what the shop must confirm."""

    column: str
    #: Spark SQL or a column's name; None where nothing was found.
    expression: str | None
    reason: str
    samples: tuple[str, ...] = ()
    #: Empty where the guess is sure.
    question: str = ""
    source: str | None = None
    #: Whether the expression is only proposed, in a comment, because it states something the files do not say.
    proposed: bool = False


@dataclass(frozen=True)
class OrdersAndLines:
    """Orders and their lines in two files: the SQL that joins them, and a file with the columns of both."""

    orders: SourceFile
    lines: SourceFile
    query: str
    joined: SourceFile


@dataclass(frozen=True)
class TableGuess:
    """One file as a contract table, with a guess for each column."""

    table: str
    file: SourceFile
    columns: tuple[ColumnGuess, ...]
    questions: tuple[str, ...]
    #: The two files that the query of purchases joins, if `file` is both of them.
    join: OrdersAndLines | None = None


@dataclass(frozen=True)
class _Reading:
    """A source column read as a contract column: its expression, the form of its values, and a question."""

    source: SourceColumn
    score: int
    sql: str
    form: str
    question: str = ""


def guess_tables(
    files: Sequence[SourceFile], named: Mapping[str, Sequence[SourceFile]] | None = None
) -> tuple[list[TableGuess], list[str]]:
    """Return one guess for each contract table that the files contain, and questions about the rest.

    `named` has files of which the shop said the table. Orders and order lines in two files are joined as purchases.
    Of several files that look like the same table the best one is taken, and the others become questions. A file that
    fits two tables nearly as well carries the question which one it is.
    """
    questions: list[str] = []
    chosen: dict[str, tuple[float, SourceFile]] = {}

    def choose(table: str, score: float, file: SourceFile) -> None:
        if table not in chosen:
            chosen[table] = (score, file)
            return
        kept, left = sorted([chosen[table], (score, file)], key=lambda one: -one[0])
        questions.append(f"{left[1].place} looks like {table} too: does it belong beside {kept[1].place}?")
        chosen[table] = kept

    join = find_orders_and_lines([*files, *(named or {}).get("purchases", ())])
    in_join = [] if join is None else [join.orders, join.lines]
    if join is not None:
        choose("purchases", float("inf"), join.joined)
    for table, of_table in (named or {}).items():
        for file in of_table:
            if file not in in_join:
                choose(table, 1000 + _table_score(table, file), file)
    unknown = []
    for file in files:
        if file in in_join:
            continue
        scores = {table: _table_score(table, file) for table in schemas.INPUTS}
        table = max(scores, key=lambda t: scores[t])
        rivals = [t for t in schemas.INPUTS if t != table and scores[t] >= _NEAR * scores[table]]
        if scores[table] <= 0:
            unknown.append(file)
            continue
        if rivals:
            questions.append(f"is {file.place} a table of {table}, or of {' or '.join(rivals)}?")
        choose(table, scores[table], file)
    for file in unknown:
        nearest = _nearest_table(file)
        if nearest is not None and nearest not in chosen:
            choose(nearest, 0.0, file)
        else:
            questions += [_unknown(file), *file.questions]
    guesses = []
    for table in schemas.INPUTS:
        if table in chosen:
            guess = _guess(table, chosen[table][1], with_title=table == "purchases" and "items" not in chosen)
            guesses.append(replace(guess, join=join) if join and guess.file is join.joined else guess)
    return guesses, questions


def _nearest_table(file: SourceFile) -> str | None:
    """Return the table that the file is in spite of one needed column that was not found; None if there is none.

    Lines without a header say nothing but by the name of their file.
    """
    found = {}
    for table, needed in _NEEDED.items():
        has_hint = re.search(FILE_NAMES[table], normalise(file.name)) is not None
        best = {column: _best(table, column, file) for column in COLUMN_NAMES[table]}
        strong = sum(score >= 2 for score in best.values())
        enough = strong >= (_STRONG_WITH_NAME if has_hint else _STRONG)
        is_near = enough and sum(not best[column] for column in needed) == 1
        if is_near or (has_hint and not file.has_names):
            found[table] = (has_hint, strong)
    return max(found, key=lambda table: found[table]) if found else None


def _unknown(file: SourceFile) -> str:
    """Say what is known of a file that looks like no table, and how to name its table."""
    by_table = {
        table: {column: _readings(table, column, file) for column in COLUMN_NAMES[table]} for table in schemas.INPUTS
    }
    table = max(by_table, key=lambda t: sum(bool(found) for found in by_table[t].values()))
    found = {column: max(r, key=lambda one: one.score).source.name for column, r in by_table[table].items() if r}
    missing = " and ".join(column for column in _NEEDED[table] if column not in found)
    nearest = ""
    if found and missing:
        columns = ", ".join(f"{source} ({column})" for column, source in found.items())
        nearest = f" As {table} it has {columns}; it lacks {missing}."
    return (
        f"{file.place} looks like no table that Regulars reads: what does it hold?{nearest} If it is one, name its "
        f"table, such as {table if nearest else 'purchases'}={file.place}"
    )


def _table_score(table: str, file: SourceFile) -> float:
    """Return how well the file fits: found columns that the table needs, minus missing ones, plus its name."""
    readings = {column: _readings(table, column, file) for column in COLUMN_NAMES[table]}
    best = {column: max((r.score for r in found), default=0) for column, found in readings.items()}
    hint = 2.0 if re.search(FILE_NAMES[table], normalise(file.name)) else 0.0
    marks = _NEEDED[table]
    if any(not best[column] for column in marks):
        return 0.0
    if table == "optouts":
        is_list = len(file.columns) == 1 and best["user_id"] >= 2
        return 3.0 + hint if hint or is_list else 0.0
    if table == "events" and not any({*r.source.values} <= {"view", "cart", "wish"} for r in readings["kind"]):
        return 0.0  # a log with purchases in it is a table of purchases
    if table == "customers":
        return _customers_score(readings["user_id"], file) if hint else 0.0
    if table == "searches" and best["query"] < 2:
        return 0.0
    if table == "reviews" and not (hint or best["rating"]):
        return 0.0
    if table == "purchases" and not best["user_id"] and not hint:
        return 0.0
    others = [c for c in COLUMN_NAMES[table] if c not in marks and c != TITLE]
    score = sum(best[c] for c in marks) + sum(best[c] for c in others) / 2 + hint
    if table == "items":
        key = max(readings["item_id"], key=lambda r: r.score).source
        foreign = max(_best("purchases", c, file) for c in ("user_id", "purchased_at"))
        score -= 2 * foreign + (2 if key.distinct < 0.9 else 0)
    if table in ("purchases", "articles"):
        score -= 2 * (_best("reviews", "rating", file) >= 2) + 2 * (_best("searches", "query", file) >= 2)
    if table == "items":
        score -= 4 * (_best("searches", "query", file) >= 2)
    if table == "articles" and not hint:
        score -= 2 + 2 * (_best("reviews", "user_id", file) > 0)
    return score


def _customers_score(ids: Sequence[_Reading], file: SourceFile) -> float:
    """Return how well a file whose name says customers fits: one row a customer, and nothing that is an event."""
    key = max(ids, key=lambda reading: reading.score).source
    is_event = any(_best("purchases", column, file) for column in ("item_id", "order_id"))
    return 4.0 if key.distinct > 0.95 and len(file.columns) > 1 and not is_event else 0.0


def _best(table: str, column: str, file: SourceFile) -> int:
    return max((reading.score for reading in _readings(table, column, file)), default=0)


def _guess(table: str, file: SourceFile, with_title: bool) -> TableGuess:
    contract = schemas.contract(table)
    names = [*contract.column_names, *([TITLE] if with_title else [])]
    taken: dict[str, str] = {}
    guesses: dict[str, ColumnGuess] = {}
    # Unmistakable columns choose first, so that a weak name never takes a column from a strong one.
    for column in sorted(names, key=lambda c: -_best(table, c, file)):
        may_share = column == TITLE or (column == "item_id" and with_title)
        readings = [r for r in _readings(table, column, file) if may_share or r.source.name not in taken]
        guesses[column] = _choose(table, column, readings)
        source = guesses[column].source
        if source is not None:
            taken[source] = column
    if with_title and guesses[TITLE].expression is None and guesses["item_id"].expression is not None:
        item = guesses["item_id"]
        guesses[TITLE] = ColumnGuess(
            TITLE,
            item.expression,
            "no column names the product, so its id is its name",
            item.samples,
            "is it readable?",
            item.source,
        )
    _fill_gaps(table, file, guesses)
    if contract.further_columns == "all":
        further = {normalise(s.name): s for s in file.columns if s.name not in taken}
        guesses |= {name: _further(name, source) for name, source in further.items() if name not in guesses}
        names = list(guesses)
    return TableGuess(
        table, file, tuple(guesses[name] for name in names), (*file.questions, *_row_questions(table, file, guesses))
    )


def _further(name: str, source: SourceColumn) -> ColumnGuess:
    """Keep a column of customers under its normalised name; one of e-mail addresses only if the shop says so."""
    plain = source.name if source.sql == quoted_name(source.name) else source.sql
    if _holds_addresses(source):
        reason = f"{source.name} holds e-mail addresses, which no rule and no report needs"
        question = "Is it needed, for example by privacy.name_columns?"
        return ColumnGuess(name, plain, reason, _samples(source), question, source.name, proposed=True)
    return ColumnGuess(name, plain, f"{source.name}, kept for rules and reports", _samples(source), "", source.name)


def _holds_addresses(source: SourceColumn) -> bool:
    """Whether the name says e-mail, or more values than not are addresses. A yes or no is consent to mail."""
    values = source.values[:_LOOK_AT]
    addresses = sum(re.fullmatch(_ADDRESS, value.strip()) is not None for value in values)
    is_named = re.search(_MAIL_NAME, normalise(source.name)) is not None and boolean_form(values) is None
    return addresses > len(values) / 2 or (is_named and source.kind != "boolean")


def _choose(table: str, column: str, readings: Sequence[_Reading]) -> ColumnGuess:
    if not readings:
        return ColumnGuess(column, None, "no column of the file fits")
    ranked = sorted(readings, key=lambda r: (-r.score, bool(r.question), r.source.blank > 0.5, len(r.source.name)))
    best = ranked[0]
    rivals = [r.source.name for r in ranked[1:] if r.score == best.score]
    questions = [best.question] if best.question else []
    if best.score < 2:
        questions.append("is that right?")
    if rivals:
        questions.append(f"or is it {' or '.join(rivals[:3])}?")
    if (
        column == "user_id"
        and len(best.source.values) >= _ENOUGH
        and best.source.distinct > 0.95
        and table not in ("optouts", "customers")
    ):
        questions.append("almost every row has another one: is it the customer, or the order?")
    if best.source.blank > 0.5 and _is_required(table, column):
        questions.append(f"{best.source.blank:.0%} of its rows are empty: is that right?")
    form = "" if best.form in ("", "text", "plain number", "stars", "yes or no") else f"; its values are {best.form}"
    return ColumnGuess(
        column,
        best.source.name if best.sql == quoted_name(best.source.name) else best.sql,
        f"{'' if best.score >= 2 else 'perhaps '}{best.source.name}, by its name{form}",
        _samples(best.source),
        " ".join(questions),
        best.source.name,
    )


def meaning(table: str, column: str) -> str:
    """Return what a contract column holds, in a few words."""
    if column == TITLE and table == "purchases":
        return "product's name"
    if column not in schemas.contract(table).column_names:
        return "further column"
    return re.split(r"[;,:(]", schemas.contract(table).column(column).doc)[0].strip() or column


def _is_required(table: str, column: str) -> bool:
    return column in schemas.contract(table).required


def _samples(source: SourceColumn) -> tuple[str, ...]:
    shapes = dict.fromkeys(mask(value) for value in source.values[:_LOOK_AT])
    return tuple(list(shapes)[:_SHOWN])


def _readings(table: str, column: str, file: SourceFile) -> list[_Reading]:
    """Return every source column whose name and values could be the contract column."""
    names = COLUMN_NAMES[table][column]
    found = []
    for source in file.columns:
        name = normalise(source.name)
        score = 3 if name == column else max(names.score(name), names.score(_without_prefix(name, table)))
        is_time = column.endswith("_at")
        is_empty = not source.values or source.blank > _EMPTY
        if not score or source.kind == "nested" or is_empty or (is_time and re.search(OTHER_TIMES, name)):
            continue
        reading = _READERS.get(column, _read_time if is_time else _read_id if column.endswith("_id") else _read_text)(
            source
        )
        if reading is not None:
            sql, form, question = reading
            found.append(_Reading(source, score, sql.replace("{0}", source.sql), form, question))
    if not found and column.endswith("_at") and column in schemas.contract(table).required:
        found = [
            _Reading(source, 1, reading[0].replace("{0}", source.sql), *reading[1:])
            for source, reading in ((source, _read_date(source)) for source in file.columns)
            if reading is not None
        ]
    if column.endswith("_at") and len(found) == 1 and re.fullmatch(ONLY_TIME, normalise(found[0].source.name)):
        return [replace(found[0], score=2)]  # the only time of an event is when it happened
    if table == "optouts" and not found and len(file.columns) == 1:
        return [_Reading(one, 1, one.sql, "", "") for one in file.columns]
    return found


def _without_prefix(name: str, table: str) -> str:
    """Return the name without the table's own or an order line's, as in reviews.text and lineitem_sku."""
    return re.sub(rf"^({table}|line_?item|order_line)_(?=\w)", "", name)


_Read = tuple[str, str, str]


def _read_time(source: SourceColumn) -> _Read | None:
    if source.kind == "time":
        return "{0}", "", ""
    form = time_form(source.values[:_LOOK_AT], serial_days=True)
    if form is None:
        return None
    question = f"{form.name} or {' or '.join(form.rivals)}?" if form.rivals else ""
    if form.name == "days of a spreadsheet":
        question = "are these days since 1899-12-30, as in a spreadsheet?"
    return form.sql, form.name, question


def _read_date(source: SourceColumn) -> _Read | None:
    """Read times that show by their values alone: a number may be anything."""
    is_other = re.search(OTHER_TIMES, normalise(source.name)) or source.kind == "number" or source.blank > _EMPTY
    if is_other or all(value.isdigit() for value in source.values[:_LOOK_AT]):
        return None
    return _read_time(source)


def _read_id(source: SourceColumn) -> _Read | None:
    if source.kind in ("time", "boolean") or _mean_length(source) > 80:
        return None
    form = id_form(source.values[:_LOOK_AT])
    sql = form.sql
    if source.kind == "number" and form.name != "text":
        sql = "CAST(try_cast({0} AS DECIMAL(38,0)) AS STRING)"
    return sql, form.name, form.question


def _read_text(source: SourceColumn) -> _Read | None:
    values = source.values[:_LOOK_AT]
    if source.kind != "text" or sum(any(c.isalpha() for c in v) for v in values) < len(values) / 2:
        return None
    form = entity_form(values)
    return (form.sql, form.name, "") if form else ("{0}", "", "")


def _read_number(source: SourceColumn) -> _Read | None:
    if source.kind == "number":
        return "{0}", "", ""
    form = number_form(source.values[:_LOOK_AT]) if source.kind == "text" else None
    return (form.sql, form.name, form.question) if form else None


def _read_quantity(source: SourceColumn) -> _Read | None:
    """Read whole numbers only: a column of amounts has fractions."""
    found = _read_number(source)
    decimal = "," if found is not None and found[1] == "decimal comma" else "."
    numbers = [read_number(value, decimal) for value in source.values[:_LOOK_AT]]
    fractions = sum(number is not None and number != int(number) for number in numbers)
    return found if fractions <= 0.1 * len(numbers) else None


def _read_rating(source: SourceColumn) -> _Read | None:
    form = rating_form(source.values[:_LOOK_AT]) if source.kind in ("text", "number") else None
    return (form.sql, form.name, form.question) if form else None


def _read_boolean(source: SourceColumn) -> _Read | None:
    if source.kind == "boolean":
        return "{0}", "", ""
    form = boolean_form(source.values[:_LOOK_AT]) if source.kind in ("text", "number") else None
    return (form.sql, form.name, form.question) if form else None


def _mean_length(source: SourceColumn) -> float:
    return sum(map(len, source.values)) / max(len(source.values), 1)


_READERS: dict[str, Callable[[SourceColumn], _Read | None]] = {
    "quantity": _read_quantity,
    "unit_price": _read_number,
    "price": _read_number,
    "rating": _read_rating,
    "available": _read_boolean,
}


def _fill_gaps(table: str, file: SourceFile, guesses: dict[str, ColumnGuess]) -> None:
    """Propose something for needed columns that the file lacks: a hash as id; the rest in comments, as questions."""
    contract = schemas.contract(table)
    for column in contract.required:
        if guesses[column].expression is not None:
            continue
        if column in contract.key and column in ("review_id", "question_id", "article_id"):
            parts = [g.source for c, g in guesses.items() if g.source and c != column]
            quoted = ", ".join(next(s.sql for s in file.columns if s.name == part) for part in parts)
            if parts:
                guesses[column] = ColumnGuess(
                    column,
                    f"sha2(concat_ws('|', {quoted}), 256)",
                    "no column names it, so a hash of the row's other values does",
                    question="two equal rows count once: is that right?",
                )
            continue
        constant = (
            "timestamp'2020-01-01'" if column.endswith("_at") else f"'unknown {meaning(table, column).split()[0]}'"
        )
        guesses[column] = ColumnGuess(
            column,
            constant if column.endswith(("_at", "_id")) else None,
            "no column of the file has such a name",
            question=f"which column, or which constant, is it?{_unused(file, guesses)}",
            proposed=True,
        )


def _unused(file: SourceFile, guesses: Mapping[str, ColumnGuess]) -> str:
    """Name the columns that no guess uses; those of lines without a header with the shapes of their values."""
    used = {guess.source for guess in guesses.values()}
    names = [
        column.name if file.has_names else f"{column.name} ({' | '.join(_samples(column))})"
        for column in file.columns
        if column.name not in used
    ]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f" Unused columns: {', '.join(names[:_LISTED])}{more}" if names else ""


def _row_questions(table: str, file: SourceFile, guesses: dict[str, ColumnGuess]) -> list[str]:
    """Ask about rows that the shop may want to leave out."""
    questions = []
    key = guesses.get("user_id")
    source = next((c for c in file.columns if key is not None and c.name == key.source), None)
    if source is not None and 0.01 < source.blank <= 0.5:
        questions.append(
            f'{source.blank:.0%} of the rows have no {source.name} and go to quarantine; where: "{source.sql} IS NOT '
            f'NULL" leaves them out of the count. Is that wanted?'
        )
    if table == "purchases":
        if _best("reviews", "rating", file) >= 2:
            questions.append("the file has ratings: are its rows purchases?")
        questions += [question for column in file.columns for question in _state_questions(column)]
    return questions


def _state_questions(column: SourceColumn) -> list[str]:
    """Ask about a column of few words that marks some rows as cancelled, or as views instead of purchases."""
    words = {value.strip().lower() for value in column.values} if column.distinct < 0.1 else set()
    cancelled, viewed = sorted(words & set(CANCELLED)), sorted(words & set(VIEWED))
    if not cancelled and not viewed:
        return []
    listed = ", ".join(f"'{word}'" for word in cancelled + viewed)
    return [
        f'{column.name} marks rows that are no purchases; where: "lower({column.sql}) NOT IN ({listed})" leaves them '
        "out. Is that wanted?"
    ]


#: Columns of purchases that an order line has, whatever the order calls by the same name.
_OF_LINES = ("item_id", "quantity", "unit_price", TITLE)


def find_orders_and_lines(files: Sequence[SourceFile]) -> OrdersAndLines | None:
    """Return the first pair of orders and order lines: neither alone says who bought what. None without such a pair."""
    found = [
        (file, {c: _best("purchases", c, file) for c in ("order_id", "user_id", "purchased_at", "item_id")})
        for file in files
    ]
    heads = [f for f, has in found if has["order_id"] and has["user_id"] and has["purchased_at"] and not has["item_id"]]
    lines = [f for f, has in found if has["order_id"] and has["item_id"] >= 2 and not has["user_id"]]
    return _joined(heads[0], lines[0]) if heads and lines else None


def _joined(orders: SourceFile, lines: SourceFile) -> OrdersAndLines:
    """Join the two by the order's id. Of columns with one name, the lines' is taken for what only a line says."""
    ours = {r.source.name for column in _OF_LINES for r in _readings("purchases", column, lines)}
    taken = {column.name.lower(): ("l", column) for column in lines.columns}
    for column in orders.columns:
        if column.name not in ours or column.name.lower() not in taken:
            taken[column.name.lower()] = ("h", column)
    columns = [(alias, column) for alias, column in taken.values() if column.kind != "nested"]
    listed = ",\n  ".join(f"{alias}.{column.sql} AS {quoted_name(column.name)}" for alias, column in columns)
    query = f"SELECT\n  {listed}\nFROM orders h JOIN order_lines l ON h.{_order_key(orders)} = l.{_order_key(lines)}"
    joined = SourceFile(
        (*orders.paths, *lines.paths),
        "query",
        {},
        tuple(replace(column, sql=quoted_name(column.name)) for _, column in columns),
        lines.rows,
        (
            f"{orders.place} says who bought and {lines.place} says what: the query joins them. Is that right?",
            *orders.questions,
            *lines.questions,
        ),
    )
    return OrdersAndLines(orders, lines, query, joined)


def _order_key(file: SourceFile) -> str:
    """Return the column, quoted for SQL, that looks most like the order's id."""
    return max(_readings("purchases", "order_id", file), key=lambda reading: reading.score).source.sql
