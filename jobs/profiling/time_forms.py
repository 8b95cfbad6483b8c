"""Recognises how a column writes its times, and gives the Spark SQL expression that reads them.

`regulars init` and `regulars doctor --rows` use it on sampled values. Pure Python: no Spark session is needed.
Patterns are those of Spark 4: https://spark.apache.org/docs/latest/sql-ref-datetime-pattern.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

#: Years that a shop's event can have; a reading that gives others is wrong.
_FIRST_YEAR, _LAST_YEAR = 1990, 2100
#: A form must read at least this share of the values.
_LEAST_SHARE = 0.9
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY = r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? "

#: Name of the order, regular expression of the date, and Spark's pattern of it.
_Y, _M, _D = r"(?P<y>\d{4})", r"(?P<m>\d{1,2})", r"(?P<d>\d{1,2})"
_YY = r"(?P<y>\d{2})"
_SHORT = rf"(?P<b>{'|'.join(_MONTHS)})"
_LONG = "(?P<b>january|february|march|april|may|june|july|august|september|october|november|december)"
_DATES = (
    ("year-month-day", rf"{_Y}-{_M}-{_D}", "yyyy-M-d"),
    ("year/month/day", rf"{_Y}/{_M}/{_D}", "yyyy/M/d"),
    ("year.month.day", rf"{_Y}\.{_M}\.{_D}", "yyyy.M.d"),
    ("year month day without separators", r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})", "yyyyMMdd"),
    ("year年month月day日", rf"{_Y}年{_M}月{_D}日", "yyyy年M月d日"),
    ("day.month.year", rf"{_D}\.{_M}\.{_Y}", "d.M.yyyy"),
    ("day/month/year", rf"{_D}/{_M}/{_Y}", "d/M/yyyy"),
    ("month/day/year", rf"{_M}/{_D}/{_Y}", "M/d/yyyy"),
    ("day-month-year", rf"{_D}-{_M}-{_Y}", "d-M-yyyy"),
    ("month-day-year", rf"{_M}-{_D}-{_Y}", "M-d-yyyy"),
    ("month day, year", rf"{_M} {_D}, {_Y}", "M d, yyyy"),
    ("day.month.year of two digits", rf"{_D}\.{_M}\.{_YY}", "d.M.yy"),
    ("day/month/year of two digits", rf"{_D}/{_M}/{_YY}", "d/M/yy"),
    ("month/day/year of two digits", rf"{_M}/{_D}/{_YY}", "M/d/yy"),
    ("day-month-year of two digits", rf"{_D}-{_M}-{_YY}", "d-M-yy"),
    ("day-month name-year", rf"{_D}-{_SHORT}-{_Y}", "d-MMM-yyyy"),
    ("day-month name-year of two digits", rf"{_D}-{_SHORT}-{_YY}", "d-MMM-yy"),
    ("day month name year", rf"{_D} {_SHORT} {_Y}", "d MMM yyyy"),
    ("day full month name year", rf"{_D} {_LONG} {_Y}", "d MMMM yyyy"),
    ("month name day, year", rf"{_SHORT} {_D}, {_Y}", "MMM d, yyyy"),
    ("full month name day, year", rf"{_LONG} {_D}, {_Y}", "MMMM d, yyyy"),
)
_TIME = re.compile(
    r"(?:(?P<sep>T|, | )(?P<H>\d{1,2}):(?P<M>\d{2})(?P<sec>:(?P<S>\d{2}))?(?P<frac>[.,]\d{1,9})?(?P<ap> ?[AP]M)?)?"
    r"(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}))?",
    re.IGNORECASE,
)
_COMPACT_TIME = re.compile(r"[T ]?(?P<H>\d{2})(?P<M>\d{2})(?P<S>\d{2})?")
_C_TIME = re.compile(rf"{_SHORT} +{_D} (?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d) (?P<zone>UTC|GMT) {_Y}", re.IGNORECASE)
#: Numbers since 1970: name, digits before the decimal point, units a second, and Spark's expression.
_EPOCHS = (
    ("seconds since 1970", (9, 10), 1, "timestamp_seconds(try_cast({0} AS DOUBLE))"),
    ("milliseconds since 1970", (12, 13), 10**3, "timestamp_millis(try_cast({0} AS BIGINT))"),
    ("microseconds since 1970", (15, 16), 10**6, "timestamp_micros(try_cast({0} AS BIGINT))"),
    ("nanoseconds since 1970", (18, 19), 10**9, "timestamp_micros(try_cast({0} AS BIGINT) DIV 1000)"),
)
#: Spreadsheets count days since this one; 20,000 to 73,000 are 1954 to 2099.
_SERIAL_START, _SERIAL_DAYS = datetime(1899, 12, 30), (20_000.0, 73_000.0)
_SERIAL_SQL = "timestamp_ntz'1899-12-30 00:00:00' + make_dt_interval(0, 0, 0, round(try_cast({0} AS DOUBLE) * 86400))"


@dataclass(frozen=True)
class TimeForm:
    """How a column writes its times. `sql` reads it, with {0} for the column; "{0}" where Spark reads it as it is."""

    name: str
    sql: str
    #: Share of the values that the form reads.
    share: float
    #: Names of the other forms that read as many values, but as other times: the shop must say which is meant.
    rivals: tuple[str, ...] = ()


def time_form(values: Sequence[str], serial_days: bool = False) -> TimeForm | None:
    """Return the form that reads most of `values` (no blank ones); None if none reads at least 90% of them.

    `serial_days` allows the day numbers of spreadsheets, such as 46082.59, which only a time column's name tells from
    other numbers. Of two orders of day and month that read all values the one whose times are closer to the file's
    order comes first, and the other is its rival.
    """
    if not values:
        return None
    found = [*_numeric_forms(values, serial_days), *_written_forms(values)]
    found = [(form, times) for form, times in found if form.share >= _LEAST_SHARE]
    if not found:
        return None
    best = max(form.share for form, _ in found)
    ranked = sorted(((f, t) for f, t in found if f.share == best), key=lambda one: -_sortedness(one[1]))
    form, times = ranked[0]
    rivals = tuple(other.name for other, theirs in ranked[1:] if theirs != times)
    return TimeForm(form.name, form.sql, form.share, rivals)


def read_times(values: Sequence[str], name: str) -> list[datetime | None]:
    """Read `values` by the form called `name`, as Spark reads them by its expression; None for those it cannot read.

    Times with a zone are in UTC, the others have none. Raises KeyError if no form has the name.
    """
    found = dict(
        [(f.name, times) for f, times in _numeric_forms(values, serial_days=True)]
        + [(f.name, times) for f, times in _written_forms(values)]
    )
    return found[name]


def _sortedness(times: Sequence[datetime | None]) -> float:
    """Return how often a time is followed by one within a week of it: files mostly lie in the order of time."""
    known = [time.replace(tzinfo=None) for time in times if time is not None]
    steps = [abs(b - a) for a, b in pairwise(known)]
    return sum(step <= timedelta(days=7) for step in steps) / max(len(steps), 1)


def _numeric_forms(values: Sequence[str], serial_days: bool) -> Iterator[tuple[TimeForm, list[datetime | None]]]:
    numbers = [_number(value) for value in values]
    for name, digits, units, sql in _EPOCHS:
        times = [
            None if n is None or not digits[0] <= len(str(int(abs(n)))) <= digits[1] else _since_1970(n, units)
            for n in numbers
        ]
        yield TimeForm(name, sql, _share(times)), times
    if serial_days:
        times = [
            None
            if n is None or not _SERIAL_DAYS[0] <= n <= _SERIAL_DAYS[1]
            else _SERIAL_START + timedelta(seconds=round(n * 86400))
            for n in numbers
        ]
        yield TimeForm("days of a spreadsheet", _SERIAL_SQL, _share(times)), times


#: No time is as large, in whatever unit.
_LARGEST = 1e21


def _number(value: str) -> float | None:
    """Return the value as a number; None if it is none, and for dates such as 20260301, which are eight digits."""
    if not re.fullmatch(r"\d+(\.\d+)?([eE]\+?\d+)?", value) or len(value) > 25:
        return None
    number = int(value) if value.isdigit() else float(value)
    return number if number < _LARGEST else None


def _since_1970(number: float, units: int) -> datetime | None:
    try:
        microseconds = int(number) * 10**6 // units if isinstance(number, int) else int(number / units * 10**6)
        return _plausible(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds))
    except OverflowError:  # no calendar reaches so far
        return None


def _written_forms(values: Sequence[str]) -> Iterator[tuple[TimeForm, list[datetime | None]]]:
    weekday = re.compile(_WEEKDAY, re.IGNORECASE)
    bare = [weekday.sub("", value.strip()) for value in values]
    has_weekday = any(b != v.strip() for b, v in zip(bare, values, strict=True))
    column = f"regexp_replace({{0}}, '{_WEEKDAY}', '')" if has_weekday else "{0}"
    matches = [_C_TIME.fullmatch(value) for value in bare]
    if any(matches):
        times = [m and _time(m, m) for m in matches]
        sql = f"try_to_timestamp({column}, 'MMM d HH:mm:ss z yyyy')"
        yield TimeForm("month name day time zone year", sql, _share(times)), times
    for name, expression, pattern in _DATES:
        compiled = re.compile(expression, re.IGNORECASE)
        times, clocks = [], []
        for value in bare:
            date = compiled.match(value)
            rest = value[date.end() :] if date else ""
            clock = _TIME.fullmatch(rest) or (_COMPACT_TIME.fullmatch(rest) if pattern == "yyyyMMdd" else None)
            time = _time(date, clock) if date and clock else None
            times.append(time)
            if time is not None and clock is not None:
                clocks.append(clock)
        if clocks:
            yield TimeForm(name, _sql(column, pattern, clocks), _share(times)), times


def _share(times: Sequence[datetime | None]) -> float:
    return sum(time is not None for time in times) / len(times)


def _time(date: re.Match[str], clock: re.Match[str]) -> datetime | None:
    """Return the time that the groups of both matches name; None if there is none, or its year is implausible."""
    parts = date.groupdict() | clock.groupdict()
    year = int(parts["y"]) + (2000 if len(parts["y"]) == 2 else 0)
    month = _MONTHS.index(parts["b"][:3].lower()) + 1 if parts.get("b") else int(parts["m"])
    hour = int(parts.get("H") or 0)
    if parts.get("ap"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts["ap"].strip().lower() == "pm" else 0)
    microsecond = int((parts.get("frac") or ".0")[1:7].ljust(6, "0"))
    try:
        time = datetime(
            year, month, int(parts["d"]), hour, int(parts.get("M") or 0), int(parts.get("S") or 0), microsecond
        )
        zone = (parts.get("zone") or "").strip().upper()
        return _plausible(time.replace(tzinfo=_offset(zone)).astimezone(UTC) if zone else time)
    except (ValueError, OverflowError):
        return None


def _offset(zone: str) -> timezone:
    if zone in ("Z", "UTC", "GMT"):
        return UTC
    digits = zone[1:].replace(":", "").ljust(4, "0")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-size if zone[0] == "-" else size)


def _plausible(time: datetime) -> datetime | None:
    return time if _FIRST_YEAR <= time.year <= _LAST_YEAR else None


def _sql(column: str, date: str, clocks: Sequence[re.Match[str]]) -> str:
    """Return the expression that reads the date pattern with the times of day that were seen."""
    seen = [clock.groupdict() for clock in clocks]
    separators = {c["sep"] for c in seen if c.get("sep")}
    is_iso = date == "yyyy-M-d" and separators <= {" ", "T"} and not any(c.get("ap") for c in seen)
    if is_iso and column == "{0}" and not any((c.get("frac") or "").startswith(",") for c in seen):
        return "{0}"  # the reader's own cast
    compact = [clock for clock in clocks if "sep" not in clock.re.groupindex]
    if compact:
        with_seconds = any(clock["S"] for clock in compact)
        separator = next((clock.group()[0] for clock in compact if clock.group()[0] in "T "), "")
        return f"try_to_timestamp({column}, '{date}{_literal(separator)}HHmm{'ss' if with_seconds else ''}')"
    patterns = [date + _clock_pattern(seen, separator) for separator in sorted(separators)] or [date]
    readings = [f"try_to_timestamp({column}, '{p}')" for p in patterns]
    return readings[0] if len(readings) == 1 else f"coalesce({', '.join(readings)})"


def _clock_pattern(seen: Sequence[dict[str, str | None]], separator: str) -> str:
    """Return the pattern of the times of day; parts that some values lack are in brackets."""
    some = [c for c in seen if c.get("sep") in (separator, None)]
    with_clock = [c for c in some if c.get("sep")]
    zones = [(c.get("zone") or "") for c in some]
    half = [c.get("ap") for c in with_clock]
    clock = f"{_literal(separator)}{'h' if any(half) else 'H'}:mm"
    clock += _optional(":ss", [c.get("sec") for c in with_clock])
    fractions = [c.get("frac") for c in with_clock]
    if any(fractions):
        clock += _optional((next(f for f in fractions if f) or ".")[0] + "SSSSSSSSS", fractions)
    if any(half):
        clock += (" " if (next(h for h in half if h) or "").startswith(" ") else "") + "a"
    clock = _optional(clock, [c.get("sep") for c in some])
    return clock + (_optional(_zone_pattern(next(z for z in zones if z)), zones) if any(zones) else "")


def _zone_pattern(zone: str) -> str:
    letters = "z" if zone.strip().isalpha() and len(zone.strip()) > 1 else "XXX" if ":" in zone else "X"
    if re.fullmatch(r"[+-]\d{4}", zone.strip()):
        letters = "XX"
    return (" " if zone.startswith(" ") else "") + letters


def _optional(pattern: str, present: Sequence[str | None]) -> str:
    """Return the pattern, in brackets if some values lack it, or nothing if all do."""
    return "" if not any(present) else pattern if all(present) else f"[{pattern}]"


def _literal(separator: str) -> str:
    return "''T''" if separator.upper() == "T" else separator
