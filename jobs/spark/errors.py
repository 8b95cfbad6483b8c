"""What a user can mend: each message names the table, file or key and the mend."""

from __future__ import annotations

import errno

#: What the JVM says of ENOSPC.
_NO_SPACE = "No space left on device"


class UserError(Exception):
    """A mistake or a state that the user can mend; shown as one message, never as a stack trace."""

    exit_code = 2


class UsageError(UserError):
    """The command line is wrong."""


class ConfigurationError(UserError):
    """The configuration file is wrong: the message names the key and the file."""


class DiskFull(UserError):
    """The store's disk or Spark's own has no room left."""


class GateRefused(UserError):
    """The night's output failed a quality gate; the old data stays published."""

    exit_code = 4


class InputError(UserError):
    """An input table is missing, unreadable, empty or not of its contract's shape."""

    exit_code = 5


class BadFile(InputError):
    """A file of an input table cannot be read; `file` is its URI."""

    def __init__(self, message: str, file: str) -> None:
        super().__init__(message)
        self.file = file


class StoreBusy(UserError):
    """Another run holds the store: try again later."""

    exit_code = 75


class DeltaTablesBehind(UserError):
    """The date is published in the store, but the Delta tables that follow it could not be written."""

    exit_code = 75


def disk_full(error: BaseException) -> DiskFull | None:
    """Tell an error that a full disk was the cause of, here or in the JVM, from all others."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _NO_SPACE in str(cause):
            return DiskFull(
                "no space is left on a disk that the command writes to: the store's, or the one where Spark spills "
                "(spark.local.dir, by default /tmp). Nothing was published, the old data stays. Make room (regulars gc "
                "frees what the store no longer needs) or set another `store` or `spark: {spark.local.dir: ...}`, then "
                "run the same command again: it goes on where it stopped."
            )
        cause = cause.__cause__ or cause.__context__
    return None
