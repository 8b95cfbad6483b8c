"""Scans the source of one table: maps, validates and deduplicates its rows, writes them and counts every outcome.

With the rows that earlier nights kept, only new files are read. Their customers' kept rows come beside them, so that
duplicates and returns are found as in a scan of everything. Part of `jobs/inputs/reader.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from pyspark.sql import Column, Observation, SparkSession
from pyspark.sql import functions as F

from jobs.config.input_settings import InputSettings
from jobs.inputs import optouts
from jobs.inputs.column_mapping import (
    further_columns,
    input_columns,
    map_columns,
    refuse_schema_drift,
    warn_of_empty_columns,
)
from jobs.inputs.freshness import freshness
from jobs.inputs.known_rows import LATER_PART, KnownInputs, TableNotes, hash_of_columns
from jobs.inputs.later_rows import mark_later, note_rule_if_later, write_apart
from jobs.inputs.new_rows import NewRows
from jobs.inputs.quarantine import FILE_UNREADABLE
from jobs.inputs.returns import HAS_RETURN, mark_returned_products, net_returns
from jobs.inputs.row_accounting import (
    ReadTable,
    RowAccount,
    count_written,
    decide_outcome,
    is_copy,
    keep_written_rows,
    number_copies,
    refuse_imbalance,
    reject_unknown_ids,
)
from jobs.inputs.row_warnings import warn_of_emptied_columns, warn_of_unknown_ids
from jobs.inputs.validation import MARKS, RULE, emptied, emptied_rules, validate_rows
from jobs.sources.charsets import has_undecoded_text, refuse_undecoded_text
from jobs.sources.expressions import column_named
from jobs.sources.file_source import OpenedSource, refuse_broken_off_files
from jobs.sources.file_versions import StartFromNothing, versions_of_files
from jobs.sources.source_errors import translating_errors
from jobs.sources.sources import open_source
from jobs.spark import files
from jobs.spark.errors import BadFile, GateRefused

#: Outcomes whose rows are not written.
_DROPPED = ("opted_out", "outside_window")


@dataclass(frozen=True)
class Scan:
    """One scan: the table, its source, the tables that were read before, and where its rows are written.

    `end` is the first instant after the run date. `keyed` is the keyed hash of a text. `pseudonym` replaces ids of
    customers, if given.
    """

    spark: SparkSession
    table: str
    source: InputSettings
    tables: Mapping[str, ReadTable]
    end: datetime
    path: str
    keyed: Callable[[str], str]
    pseudonym: Callable[[Column], Column] | None = None
    #: What earlier nights kept of the table, if only what is new is to be read.
    known: KnownInputs | None = None
    #: Whether to note what the next night needs to read only what is new.
    takes_notes: bool = False

    @property
    def key(self) -> str:
        """The source in messages."""
        return f"inputs.{self.table}"


def read_table(scan: Scan) -> ReadTable:
    """Scan one source once, write its used and rejected rows, and count every row's outcome.

    An unreadable file is excluded and the scan starts again, up to `max_bad_files` times. Raises BadFile beyond that,
    the errors of `read_inputs`, and StartFromNothing where the kept rows are of other files or columns.
    """
    excluded_files: list[str] = []
    while True:
        try:
            return _scan(scan, excluded_files)
        except BadFile as bad:
            if len(excluded_files) >= scan.source.max_bad_files or bad.file in excluded_files:
                raise
            excluded_files.append(bad.file)


def _scan(scan: Scan, excluded_files: Sequence[str]) -> ReadTable:
    table, source, spark = scan.table, scan.source, scan.spark
    with_title = table == "purchases" and ("items" not in scan.tables or source.maps_title)
    columns = input_columns(table, with_title)
    read, undecoded, opted_out, decided, copies, returns = (Observation() for _ in range(6))

    opened = open_source(spark, table, source, excluded_files)
    notes = refuse_schema_drift(spark, table, source, opened)
    new = _new_rows(scan, opened)
    versions = new.versions if new else _versions(scan, opened)
    unread = [*excluded_files, *(new.old_files if new else ())]
    with translating_errors(table, source, scan.key, scan=True):
        refuse_broken_off_files(spark, source, scan.key, unread)
    raw = map_columns(new.of_new_files(opened.rows) if new else opened.rows, table, source, with_title)
    names = [*(column.name for column in columns), *further_columns(raw, table)]
    if new is None:
        notes += warn_of_empty_columns(table, source, raw)
    raw = raw.observe(undecoded, F.count_if(has_undecoded_text(raw)).alias("rows"))
    rows = validate_rows(raw, table, columns)
    rows = rows.observe(read, F.count(F.lit(1)).alias("rows"))
    if scan.takes_notes:
        rows = note_rule_if_later(rows, table, scan.end)
    rows = reject_unknown_ids(rows, table, scan.tables)
    rows = optouts.mark_opted_out(rows, scan.tables)
    rows = decide_outcome(rows.observe(opted_out, optouts.matched_ids()), table, scan.end).observe(
        decided,
        *(F.count_if(F.col("__outcome") == outcome).alias(outcome) for outcome in _DROPPED),
        *(F.count_if(F.col("__outcome").isNull() & F.col(emptied(rule))).alias(rule) for rule in emptied_rules(table)),
    )
    if scan.takes_notes:
        rows = mark_later(rows)
    rows = keep_written_rows(rows, table, names)
    if new is not None:
        with translating_errors(table, source, scan.key, scan=True):
            rows = new.with_kept_rows(rows, names)
    rows = number_copies(rows, table, names).observe(
        copies,
        F.count_if(is_copy()).alias("duplicates"),
        F.count_if(is_copy() & F.col("__of_another")).alias("of_others"),
    )
    rows = rows.where(~is_copy())
    kept = [*names, *MARKS]
    if table == "purchases":
        rows, kept = mark_returned_products(rows), [*kept, HAS_RETURN]
        rows = rows.observe(returns, F.count_if(HAS_RETURN).alias("rows"))
    has_ids = new is None and "user_id" in kept and table != optouts.TABLE  # opt-outs are compared before
    if scan.pseudonym is not None and has_ids:
        rows = rows.withColumn("user_id", scan.pseudonym(F.col("user_id")))
    rows = rows.select(*map(column_named, kept))

    with translating_errors(table, source, scan.key, scan=True):
        if scan.takes_notes and new is None:
            write_apart(spark, rows, scan.path, f"{scan.path}{LATER_PART}")
        else:
            rows.write.mode("overwrite").parquet(files.uri(scan.path))
    written = spark.read.schema(rows.schema).parquet(files.for_reading(scan.path))
    returned, before_returns = 0, None
    if table == "purchases" and returns.get["rows"]:
        before_returns = written.where(F.col(RULE).isNull())
        written, returned = net_returns(spark, written, f"{scan.path}_with_returns")
    used_alone = None
    if new is not None:
        segments = new.whole()
        used_alone, before_returns, returned = segments.used(), segments.valid(), segments.returned()
        written = used_alone.unionByName(segments.rejected())
    counted = count_written(written, table)
    rejected_by_rule = counted.rejected
    dropped = {outcome: decided.get[outcome] for outcome in _DROPPED}
    account = RowAccount(
        int(read.get["rows"]),
        counted.used,
        sum(rejected_by_rule.values()),
        **dropped,
        duplicates=copies.get["duplicates"],
        returned=returned,
    )
    emptied_by_rule = {rule: decided.get[rule] for rule in emptied_rules(table) if decided.get[rule]}
    matched = optouts.keyed_numbers(opted_out.get["matched"], scan.keyed)
    notes += refuse_undecoded_text(table, source, account.read, int(undecoded.get["rows"]))
    if new is not None:
        account, emptied_by_rule = new.whole_account(account), new.whole_emptied(emptied_by_rule)
        matched |= new.matched(scan.keyed)
    _refuse_imbalance(scan, account)
    notes += warn_of_emptied_columns(table, account, emptied_by_rule)
    notes += warn_of_unknown_ids(table, account, rejected_by_rule)
    noted = None
    if versions is not None:
        changed = new.changed_customers if new else 0
        hash_ = hash_of_columns(opened.rows)
        noted = TableNotes(
            versions,
            hash_,
            asdict(account),
            emptied_by_rule,
            sorted(matched),
            changed,
            len(excluded_files),
            copies.get["of_others"] + (new.notes.of_others if new else 0),
        )
    return ReadTable(
        written,
        account,
        rejected_by_rule | ({FILE_UNREADABLE: len(excluded_files)} if excluded_files else {}),
        excluded_files=tuple(excluded_files),
        emptied_by_rule=emptied_by_rule,
        freshness=freshness(counted.days),
        newest_at=counted.newest_at,
        notes=notes,
        opted_out_ids=matched,
        before_returns=before_returns,
        noted=noted,
        changed=new.changed if new else None,
        used_alone=used_alone,
    )


def _new_rows(scan: Scan, opened: OpenedSource) -> NewRows | None:
    if scan.known is None:
        return None
    find = NewRows.find
    return find(scan.spark, scan.table, scan.known, scan.tables, scan.path, opened.rows, scan.pseudonym, scan.end)


def _versions(scan: Scan, opened: OpenedSource) -> Mapping[str, str] | None:
    """The versions of the source's files, where the next night is to compare them."""
    if not scan.takes_notes or scan.source.kind != "path":
        return None
    return versions_of_files(scan.spark, opened.rows.inputFiles())


def _refuse_imbalance(scan: Scan, account: RowAccount) -> None:
    try:
        refuse_imbalance(scan.table, account)
    except GateRefused as error:
        if scan.known is None:
            raise
        raise StartFromNothing(f"{scan.key}: {error}") from error
