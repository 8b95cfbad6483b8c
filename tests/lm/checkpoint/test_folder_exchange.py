"""Two folders take each other's names in one step."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from lm.checkpoint.folder_exchange import exchange_folders


def file_system(path):
    """The type of the file system of a path."""
    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype


def test_exchange_swaps_folders_in_one_step(tmp_path, monkeypatch):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    inodes = {name: (tmp_path / name).stat().st_ino for name in ("old", "new")}
    if not exchange_folders(tmp_path / "old", tmp_path / "new"):
        assert file_system(tmp_path) not in ("ext4", "xfs", "btrfs", "tmpfs")
        pytest.skip("this file system cannot exchange folders")
    assert (tmp_path / "old/file").read_text() == "new"
    assert (tmp_path / "new/file").read_text() == "old"
    assert (tmp_path / "old").stat().st_ino == inodes["new"]
    with pytest.raises(FileNotFoundError):
        exchange_folders(tmp_path / "old", tmp_path / "nothing")
    monkeypatch.chdir(tmp_path)
    assert exchange_folders(Path("old"), Path("new"))
    assert (tmp_path / "old/file").read_text() == "old"
