"""Finds secrets in the section `spark`: they would reach the command line of Java, the event log and the store.

They belong into the environment of the command, which no other user and no log sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_KEY = re.compile(
    r"(?i)passw(or)?d|passphrase|pwd|secret|token|credential|sas\.fixed|(access|account|api|private|shared)[-._]?key"
)
#: Ends of keys whose value says where a secret is, or how it is got, and is none itself.
_NO_SECRET = re.compile(r"(?i)(provider|enabled|file|path|location|regex|type|class|alias|name|uri|url|endpoint|impl)$")
_SWITCH_OR_NUMBER = re.compile(r"(?i)true|false|\d+(\.\d+)?[a-z]*")
_USER_IN_URL = re.compile(r"(?i)\b(\w[\w+.-]*)://[^/@\s]+@")
_SECRET_PARAMETER = re.compile(r"(?i)[?&;](user|username|uid|password|pwd|\w*token|\w*secret)\s*=")
_SECRET_PROPERTY = re.compile(r"(?i)-D\S*(password|secret|token|credential)\w*=")
#: Schemes in which the part before @ is a container, as in abfss://container@account.
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")


def secret_in(settings: Mapping[str, str]) -> str | None:
    """Return the name of the first setting of Spark that holds a secret, None where none does."""
    return next((name for name, value in settings.items() if _is_secret(name, value)), None)


def remedy(name: str) -> str:
    """Where the secret of a setting belongs."""
    catalog = re.match(r"spark\.sql\.catalog\.([^.]+)\.(.+)", name)
    if catalog is not None:
        lake, key = catalog[1].upper(), re.sub(r"[^A-Z0-9_]", "_", catalog[2].upper().replace(".", "__"))
        return f"the environment variable PYICEBERG_CATALOG__{lake}__{key}"
    if "s3" in name.lower() or "aws" in name.lower():
        return "the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return "a file spark-defaults.conf that only this user reads, in the folder that SPARK_CONF_DIR names"


def _is_secret(name: str, value: str) -> bool:
    schemes = {found[1].lower() for found in _USER_IN_URL.finditer(value)}
    if schemes - set(_CONTAINERS) or _SECRET_PROPERTY.search(value):
        return True
    if _SECRET_PARAMETER.search(value) and "://" in value:
        return True
    is_value = not _NO_SECRET.search(name) and not _SWITCH_OR_NUMBER.fullmatch(value)
    return is_value and _SECRET_KEY.search(name) is not None
