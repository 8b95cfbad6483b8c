"""What a night says of files that an earlier night read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.sources.file_versions import StartFromNothing, new_files, versions_of_files


def test_only_files_that_were_not_there_are_new(tmp_path: Path) -> None:
    old, new = tmp_path / "day=1 of March.parquet", tmp_path / "day=2.parquet"
    old.write_text("one")
    before = versions_of_files(None, [old.as_uri()])
    new.write_text("two")
    now = versions_of_files(None, [new.as_uri(), old.as_uri()])
    assert new_files("purchases", before, now) == [new.as_uri()]
    assert new_files("purchases", now, now) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [("size", "written again"), ("time", "written again"), ("text", "written again"), ("gone", "is gone")],
)
def test_a_changed_or_lost_file_is_named(tmp_path: Path, change: str, said: str) -> None:
    file = tmp_path / "part.parquet"
    file.write_text("one")
    before = versions_of_files(None, [file.as_uri()])
    if change == "size":
        file.write_text("longer")
    if change == "text":  # of equal size and time, as a copy that keeps both
        kept = file.stat()
        file.write_text("two")
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    if change == "time":
        os.utime(file, ns=(1, 1))
    now = {} if change == "gone" else versions_of_files(None, [file.as_uri()])
    with pytest.raises(StartFromNothing, match=rf"inputs.purchases: part.parquet.* {said}"):
        new_files("purchases", before, now)
