"""Disks that do not take what is written, told in a sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mendel.adapters.oci.layout.disk_errors import translated_write_errors
from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import StoreUnavailable
from mendel.images.image_archives import write_archive


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "is full, so the image was not made"),
        (errno.EDQUOT, "is full, so the image was not made"),
        (errno.EACCES, "cache, so the image was not made: Permission denied"),
        (errno.EROFS, "cache, so the image was not made: Read-only file system"),
    ],
)
def test_what_a_disk_says_is_said(tmp_path: Path, number: int, says: str) -> None:
    """A full disk, and one that may not be written, is named with what to do."""
    with (
        pytest.raises(StoreUnavailable, match=says) as told,
        translated_write_errors(tmp_path, lost="the image was not made"),
    ):
        raise OSError(number, os.strerror(number), str(tmp_path / "cache"))
    assert told.value.remedy


def test_a_missing_file_stays_a_defect(tmp_path: Path) -> None:
    """What is our own mistake keeps its traceback."""
    with pytest.raises(FileNotFoundError), translated_write_errors(tmp_path, lost="the image was not made"):
        (tmp_path / "nowhere").read_bytes()


def test_a_layout_where_none_can_be(tmp_path: Path) -> None:
    """A place that takes no directory is named, whatever is written first."""
    (tmp_path / "file").write_text("")
    layout = Layout(tmp_path / "file" / "images")
    with pytest.raises(StoreUnavailable, match="cannot be created"):
        layout.put(b"{}")
    with pytest.raises(StoreUnavailable, match="cannot be created"), layout.growing():
        pass


def test_an_archive_where_none_can_be(workshop: Any, tmp_path: Path) -> None:
    """A directory, or a place in none, takes no archive, and nothing of it is left."""
    image = workshop.build()
    (tmp_path / "out").mkdir()
    for into in (tmp_path / "out", tmp_path / "nowhere" / "x.tar"):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(StoreUnavailable, match=f"{into} cannot be written"):
            write_archive(workshop.layout, image.digest, ("a/b:latest",), into)
        assert sorted(tmp_path.iterdir()) == before
