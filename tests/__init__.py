"""Tests mirror the rooms of the house; files beside this one serve several of them."""

from pathlib import Path

#: The folder of the repository.
ROOT = Path(__file__).parent.parent
