"""Arrays of a safetensors file as views of the mapped file, which the workers of a host share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import safe_open


def mapped_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name. Raises OSError and SafetensorError where the file cannot be read."""
    with safe_open(str(file), framework="pt") as opened:  # of all frameworks torch alone gives views, not copies
        return {name: opened.get_tensor(name).numpy() for name in opened.keys()}  # noqa: SIM118 - no dict
