"""What a user can mend: each message names the table, file or key and the mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake or a state that the user can mend; shown as one message, never as a stack trace."""

    exit_code = 2


class UsageError(UserError):
    """The command line is wrong."""


class ConfigurationError(UserError):
    """The configuration file is wrong: the message names the key and the file."""


class GateRefused(UserError):
    """The night's output failed a quality gate; the old data stays published."""

    exit_code = 4


class InputError(UserError):
    """An input table is missing, unreadable, empty or not of its contract's shape."""

    exit_code = 5


class StoreBusy(UserError):
    """Another run holds the store: try again later."""

    exit_code = 75
