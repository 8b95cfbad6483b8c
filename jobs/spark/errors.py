"""Errors that a user can fix: each message names the table, file or key and the fix."""

from __future__ import annotations

import errno
import re

#: The JVM's text for the error ENOSPC.
_NO_SPACE = "No space left on device"
#: Signs of a missing file: Spark's, while it plans and while it reads, and the operating system's.
_NOT_FOUND = ("PATH_NOT_FOUND", "FILE_NOT_EXIST", "No such file or directory")
_DATE_FOLDER = re.compile(r"tables/\w+/run_date=\d{4}-\d\d-\d\d")


class UserError(Exception):
    """An error that the user can fix. The command line prints its message and no stack trace."""

    exit_code = 2


class UsageError(UserError):
    """The command line is wrong."""


class ConfigurationError(UserError):
    """The configuration file is wrong. The message names the key and the file."""


class DiskFull(UserError):
    """The disk of the store, or the disk where Spark spills, is full."""


class GateRefused(UserError):
    """The night's output failed a quality gate. The old data stays published."""

    exit_code = 4


class InputError(UserError):
    """An input table is missing, unreadable, empty or breaks its contract."""

    exit_code = 5


class BadFile(InputError):
    """A file of an input table cannot be read. `file` is its URI."""

    def __init__(self, message: str, file: str) -> None:
        super().__init__(message)
        self.file = file


class StoreBusy(UserError):
    """Another run holds the store. A later attempt can succeed."""

    exit_code = 75


class ModelChanged(UserError):
    """A training replaced a model folder while the command began. A later attempt can succeed."""

    exit_code = 75


class TablesChanged(UserError):
    """Another command replaced or took away published files that this one was reading. A later attempt can succeed."""

    exit_code = 75


class DeltaTablesBehind(UserError):
    """The store has published the date, but its Delta copy could not be written."""

    exit_code = 6


def tables_changed(error: BaseException) -> TablesChanged | None:
    """Return a TablesChanged error where a file of a published date was missing in a read; None for other causes."""
    cause: BaseException | None = error
    while cause is not None:
        folder = _DATE_FOLDER.search(str(cause))
        if folder and any(sign in str(cause) for sign in _NOT_FOUND):
            return TablesChanged(
                f"{folder[0]} was replaced or taken away while this command read it. Run the same command again."
            )
        cause = cause.__cause__ or cause.__context__
    return None


def disk_full(error: BaseException, published: str) -> DiskFull | None:
    """Return a DiskFull error where a full disk caused `error`, in Python or in the JVM; None for other causes.

    `published` is a sentence that says what the command has published.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _NO_SPACE in str(cause):
            return DiskFull(
                "no space is left on a disk that the command writes to: the store's, or the one where Spark spills "
                f"(spark.local.dir, by default /tmp). {published} Make room (regulars gc frees what the "
                "store no longer needs) or set another `store` or `spark: {spark.local.dir: ...}`. Then run the same "
                "command again: it goes on where it stopped."
            )
        cause = cause.__cause__ or cause.__context__
    return None
