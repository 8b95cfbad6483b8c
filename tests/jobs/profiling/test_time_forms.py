"""Forms of times: what is written is what is read, and an order of day and month that is not known is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.profiling.time_forms import read_times, time_form

#: 34 forms of times that exports have, as strftime writes them.
FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S+00:00",
    "%Y-%m-%dT%H:%M:%S+0000",
    "%Y-%m-%d %H:%M:%S UTC",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y.%m.%d %H:%M",
    "%Y%m%d",
    "%Y%m%d%H%M",
    "%Y%m%d%H%M%S",
    "%Y%m%dT%H%M%S",
    "%Y年%m月%d日",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y, %H:%M:%S",
    "%d.%m.%y",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%y %H:%M",
    "%d-%m-%Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %B %Y %H:%M",
    "%b %d, %Y",
    "%B %d, %Y",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S UTC %Y",
)
times = st.datetimes(datetime(1995, 1, 1), datetime(2090, 12, 31))


def truncated(time: datetime, form: str) -> datetime:
    """What is left of the time in the written form."""
    return datetime.strptime(time.strftime(form), form)


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
def test_what_strftime_writes_is_read_as_the_same_time_or_asked_for(form: str, data: st.DataObject) -> None:
    # strptime reads the year 69 as 1969
    drawn = times.map(lambda time: time.replace(year=2000 + time.year % 69, day=min(time.day, 28)))
    found = data.draw(st.lists(drawn if "%y" in form else times, min_size=20, max_size=40))
    values = [time.strftime(form) for time in found]
    result = time_form(values)
    assert result is not None
    expected = [truncated(time, form) for time in found]
    readings = {name: naive(read_times(values, name)) for name in (result.name, *result.rivals)}
    assert expected in readings.values()
    assert result.rivals or readings[result.name] == expected


def naive(found: list[datetime | None]) -> list[datetime | None]:
    return [time and time.replace(tzinfo=None) for time in found]


@pytest.mark.parametrize(("units", "name"), [(1, "seconds"), (10**3, "milli"), (10**6, "micro"), (10**9, "nano")])
@given(found=st.lists(times.map(lambda t: t.replace(microsecond=0, tzinfo=UTC)), min_size=1, max_size=20))
def test_numbers_since_1970_are_told_apart_by_their_digits(units: int, name: str, found: list[datetime]) -> None:
    values = [str(int(time.timestamp()) * units) for time in found]
    form = time_form(values)
    assert form is not None
    assert form.name.startswith(name)
    assert read_times(values, form.name) == found


def test_days_of_a_spreadsheet_are_times_only_where_the_caller_says_so() -> None:
    assert time_form(["46112.5"]) is None
    form = time_form(["46112.5"], serial_days=True)
    assert form is not None
    assert read_times(["46112.5"], form.name) == [datetime(2026, 3, 31, 12)]


def test_an_unknown_order_of_day_and_month_has_a_rival() -> None:
    ambiguous = time_form(["03/04/2026", "05/06/2026"])
    assert ambiguous is not None
    assert len(ambiguous.rivals) == 1
    known = time_form(["03/04/2026", "25/06/2026"])
    assert known is not None
    assert (known.name, known.rivals) == ("day/month/year", ())


def test_of_two_orders_the_one_in_the_files_order_comes_first() -> None:
    days = [datetime(2026, 1, 1) + timedelta(days=n) for n in range(12)]
    for form, name in (("%d/%m/%Y", "day/month/year"), ("%m/%d/%Y", "month/day/year")):
        found = time_form([day.strftime(form) for day in days])
        assert found is not None
        assert found.name == name
        assert found.rivals


@pytest.mark.parametrize("values", [["tea"], ["12.50", "3.99"], ["85123A"], ["2026-13-45"], ["31.02.2026"], [], ["12"]])
def test_what_is_no_time_has_no_form(values: list[str]) -> None:
    assert time_form(values) is None


def test_a_few_broken_values_do_not_hide_the_form() -> None:
    form = time_form(["31.12.2025 14:05"] * 19 + ["unknown"])
    assert form is not None
    assert form.share == 0.95
