"""Counter-based random numbers of the sample shop: each is a hash of a key, a purpose and a step.

A draw depends on no earlier draw, so a customer's rows do not depend on the block and numpy draws whole blocks.
The hash is splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

T = TypeVar("T")

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _mixed(values: Keys) -> Keys:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def keys(seed: int, kind: str, numbers: Ints) -> Keys:
    """Return a key (n,) for each numbered thing of a kind, such as customers or items."""
    salt = (seed * _GOLDEN + zlib.crc32(kind.encode())) & _MASK
    return _mixed(_mixed(numbers.astype(np.uint64) + np.uint64(salt)))


def hashed(key: Keys, purpose: str, step: Ints | int = 0) -> Keys:
    """Return 64 random bits (n,) for the purpose; `step` numbers repeated draws for the same purpose."""
    salt = zlib.crc32(purpose.encode()) << 32
    if isinstance(step, int):
        return _mixed(key + np.uint64((salt + step) * _GOLDEN & _MASK))
    return _mixed(key + (np.uint64(salt) + step.astype(np.uint64)) * np.uint64(_GOLDEN))


def uniform(key: Keys, purpose: str, step: Ints | int = 0) -> Floats:
    """Draw (n,) uniform numbers in [0, 1) with 53 bits."""
    return (hashed(key, purpose, step) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def exponential(key: Keys, purpose: str, step: Ints | int = 0) -> Floats:
    """Draw (n,) exponential numbers with mean 1."""
    return -np.log1p(-uniform(key, purpose, step))


def normal(key: Keys, purpose: str, step: Ints | int = 0) -> Floats:
    """Draw (n,) standard normal numbers (Box & Muller 1958)."""
    radius = np.sqrt(2 * exponential(key, purpose + " radius", step))
    return radius * np.cos(2 * np.pi * uniform(key, purpose + " angle", step))


class Dice:
    """Random choices for one text by a linear congruential generator (seeding Python's generator costs 10 µs)."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, n: int) -> int:
        """Draw an integer in [0, n)."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        return (self._state >> 33) % n

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of the options, all equally likely."""
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        """Return True with a probability of `percent` / 100."""
        return self.below(100) < percent

    def digits(self, n: int) -> str:
        """Draw n decimal digits."""
        return "".join(str(self.below(10)) for _ in range(n))
