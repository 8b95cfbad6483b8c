"""Puts the date of the night into the paths and the SQL of the configuration.

`{run_date}` stands for the date as YYYY-MM-DD. `{run_date-730d}` is a number of days earlier or later, and
`{run_date:%Y/%m/%d}` has another format; `{run_date-1d:%Y%m%d}` has both.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

_ISO = "%Y-%m-%d"
_PLACEHOLDER = re.compile(r"\{run_date(?P<days>[+-]\d{1,5}d)?(?::(?P<format>[^{}]+))?\}")
#: Text in braces that a reader of the file takes for a placeholder. Paths also have alternatives, {a,b}, and escaped
#: braces; SQL has regular expressions, [0-9]{4} and \p{L}, and JSON.
_BRACES_OF_PATH = re.compile(r"(?<!\\)\$?\{[^{},]*\}")
_BRACES_OF_SQL = re.compile(r"(?<!\\[A-Za-z])\$?\{\s*[A-Za-z_][^{}\"',]*\}")
_DIRECTIVES = {"Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{2}", "d": r"\d{2}", "j": r"\d{3}"}
_DIRECTIVE = re.compile("%(.)")
#: A comment, a literal or a quoted name of SQL; else a placeholder.
_QUOTED = r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`"
_TOKEN = re.compile(f"{_QUOTED}|(?P<bare>{_PLACEHOLDER.pattern})", re.DOTALL)
_FORMS = "{run_date}, {run_date-7d}, {run_date:%Y/%m/%d} or {run_date-7d:%Y%m%d}"


def has_run_date(text: str) -> bool:
    """Whether the text has a placeholder of the date."""
    return _PLACEHOLDER.search(text) is not None


def check_path(text: str) -> None:
    """Raise ValueError if the path has text in braces that is neither a placeholder nor {a,b}."""
    _check(text, _BRACES_OF_PATH, "; before a brace that belongs to a file's name write \\")


def check_sql(text: str) -> None:
    """Raise ValueError if the SQL has an unknown placeholder, or one outside quotes that would be arithmetic."""
    _check(text, _BRACES_OF_SQL, "")
    fill_sql(text, date(2026, 12, 31))


def fill_path(text: str, run_date: date) -> str:
    """Return the path with `run_date` in place of its placeholders."""
    return _PLACEHOLDER.sub(lambda match: _text(match, run_date), text)


def fill_sql(text: str, run_date: date) -> str:
    """Return the SQL with `run_date` in place of its placeholders.

    Outside quotes `{run_date}` becomes DATE 'YYYY-MM-DD'. Raises ValueError if a format there gives more than digits.
    """

    def fill(token: re.Match[str]) -> str:
        if token["bare"] is None:
            return token[0] if token[0].startswith(("--", "/*")) else fill_path(token[0], run_date)
        value = _text(token, run_date)
        if token["format"] is None:
            return f"DATE '{value}'"
        if not value.isdigit():
            raise ValueError(f"{token[0]} must be in quotes: '{token[0]}'. Without them SQL would compute with it")
        return value

    return _TOKEN.sub(fill, text)


def glob_of_dates(path: str) -> str:
    """Return the path with a glob for any date in place of each placeholder."""
    return _PLACEHOLDER.sub(lambda match: _DIRECTIVE.sub("*", match["format"] or _ISO), path)


def dates_in(path: str, template: str) -> set[date]:
    """Return the run dates that the text of `path` may mean where `template` has its first placeholder."""
    placeholder = _PLACEHOLDER.search(template)
    if placeholder is None:
        return set()
    form = placeholder["format"] or _ISO
    pattern = re.sub(r"%(.)", lambda match: _DIRECTIVES[match[1]], re.escape(form))
    found = set()
    for text in re.findall(f"(?=({pattern}))", path):
        try:
            found.add(datetime.strptime(text, form).date() - _shift(placeholder))
        except ValueError:
            continue  # digits that are no date
    return found


def _check(text: str, braces: re.Pattern[str], more: str) -> None:
    for match in braces.finditer(text):
        known = _PLACEHOLDER.fullmatch(match[0])
        if known is None:
            raise ValueError(f"{match[0][:80]} is not a placeholder; write {_FORMS}{more}")
        directives = _DIRECTIVE.findall(known["format"] or _ISO)
        if not directives or not set(directives) <= set(_DIRECTIVES):
            raise ValueError(f"{match[0][:80]} has an unknown format; write %Y, %y, %m, %d and %j, such as {_FORMS}")


def _text(match: re.Match[str], run_date: date) -> str:
    return (run_date + _shift(match)).strftime(match["format"] or _ISO)


def _shift(match: re.Match[str]) -> timedelta:
    return timedelta(days=int((match["days"] or "0d")[:-1]))
