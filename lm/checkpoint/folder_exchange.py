"""The atomic exchange of two folders, so that a reader finds a folder's old or new files and never none."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h
_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


def exchange_folders(one: Path, other: Path) -> bool:
    """Exchange the names of two folders of one local file system, by Linux's renameat2.

    Returns False, with nothing changed, where the system or the file system has no such call. Raises OSError for
    every other failure, FileNotFoundError when a folder is missing.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, f"{one} and {other} cannot be exchanged: {os.strerror(code)}")
