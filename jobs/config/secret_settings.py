"""Refuses secrets in the configuration: they would reach command lines, plans, event logs, reports and the store.

They belong into the environment of the command, which no other user and no log sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from jobs.config.strict_model import scalar_text

_SECRET_KEY = re.compile(
    r"(?i)passw(or)?d|passphrase|pwd|secret|token|credential|authorization|sas\.fixed|key\.list"
    r"|(access|account|api|customer|private|shared)[-._]?key|(^|[._-])pass$"
)
#: Keys whose value is a secret even where it is a number.
_PASSWORD = re.compile(r"(?i)(passw(or)?d|passphrase|pwd|secret)$|(^|[._-])pass$")
#: Ends of keys whose value says where a secret is, or how it is got, and is none itself.
_NO_SECRET = re.compile(r"(?i)(provider|enabled|file|path|location|regex|type|class|alias|name|uri|url|endpoint|impl)$")
_SWITCH, _NUMBER = re.compile(r"(?i)true|false"), re.compile(r"\d+(\.\d+)?[a-z]*")
_USER_IN_URL = re.compile(r"(?i)\b(\w[\w+.-]*)://[^/@\s]*@")
_USER_OF_ORACLE = re.compile(r"(?i)jdbc:oracle:\w+:[^@\s]+/[^@\s]*@")
_PARAMETER = r"(user|username|uid|password|pwd|sig|\w*token|\w*secret)\s*="
_SECRET_PARAMETER = re.compile(rf"(?i)://.*[?&;]{_PARAMETER}|jdbc:.*[?&;:,(]{_PARAMETER}")
#: A secret inside a value, as in -Dx.password=..., a JAAS configuration, a connection string or a key file's text.
_SECRET_PART = re.compile(
    r"(?i)-D\S*(password|secret|token|credential)\w*=|\b(password|passwd|pwd|accountkey|sharedaccesskey)\s*=\s*\S"
    r"|\bprivate[ _]key\b"
)
#: Schemes in which the part before @ is a container, as in abfss://container@account.
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")


def refuse_secrets(settings: Mapping[str, Any], place: Callable[[str], str], section: str = "") -> None:
    """Raise ValueError for the first setting that holds a secret; `place` says where a setting's secret belongs."""
    for name, value in settings.items():
        if _is_secret(name, scalar_text(value)):
            raise ValueError(
                f"{section}{name[:80]}: a secret here would reach command lines, event logs and the store. Give it in "
                f"{place(name)}, and take it out here"
            )


def without_secret(address: str) -> str:
    """Return a path or URI as it is. Raises ValueError where it has a user, a password or a signature."""
    if has_secret(address):
        raise ValueError(
            "take the user, the password or the key out of the address, which would reach event logs and the store. "
            f"Give it in {of_files(address)}"
        )
    return address


#: A path or URI that has no secret.
Address = Annotated[str, AfterValidator(without_secret)]


def has_secret(address: str) -> bool:
    """Whether a URL has a user, a password or a signature."""
    schemes = {found[1].lower() for found in _USER_IN_URL.finditer(address)}
    has_user = bool(schemes - set(_CONTAINERS)) or _USER_OF_ORACLE.search(address) is not None
    return has_user or _SECRET_PARAMETER.search(address) is not None


def of_spark(name: str) -> str:
    """Where the secret of a setting of Spark belongs."""
    catalog = re.match(r"spark\.sql\.catalog\.([^.]+)\.(.+)", name)
    if catalog is not None:
        lake, key = catalog[1].upper(), re.sub(r"[^A-Z0-9_]", "_", catalog[2].upper().replace(".", "__"))
        return f"the environment variable PYICEBERG_CATALOG__{lake}__{key}"
    return of_files(name)


def of_files(name: str) -> str:
    """Where the secret of a file system of Spark, or of a reader of Spark, belongs."""
    if re.search(r"(?i)\bs3|aws", name):
        return _AWS
    return "a file spark-defaults.conf that only this user reads, in the folder that SPARK_CONF_DIR names"


def of_storage(name: str) -> str:
    """Where the secret of a storage option of deltalake or pyiceberg belongs."""
    if re.search(r"(?i)\bs3|aws", name) or not re.search(r"(?i)azure|google|gcs", name):
        return f"{_AWS}, or those of another storage"
    return f"the environment variable {re.sub(r'[^A-Z0-9_]', '_', name.upper())}"


def of_database(_name: str) -> str:
    """Where the secret of a connection by JDBC belongs."""
    return "the environment variables that jdbc.user_env and jdbc.password_env name"


_AWS = "the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def _is_secret(name: str, value: str) -> bool:
    if has_secret(value) or _SECRET_PART.search(value):
        return True
    if _SWITCH.fullmatch(value) or not value:
        return False
    if _NUMBER.fullmatch(value) and not _PASSWORD.search(name):
        return False
    return _SECRET_KEY.search(name) is not None and _NO_SECRET.search(name) is None
