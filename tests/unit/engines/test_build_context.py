"""The directory an engine builds from, and what an archive says of itself."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from mendel.adapters.engines import belongs
from mendel.adapters.engines.build_context import pack_pip
from mendel.errors import Corrupt
from mendel.images.image_archives import archive_references

DIGEST, OTHER = ("sha256:" + letter * 64 for letter in "ab")


def archive(path: Path, *named: tuple[str, str]) -> Path:
    manifests = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": 1,
            "annotations": {"org.opencontainers.image.ref.name": name},
        }
        for name, digest in named
    ]
    content = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("index.json")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return path


def test_an_archive_tells_its_names(tmp_path):
    """Every name of the one image, sorted."""
    path = archive(tmp_path / "a.tar", ("risk/credit:v1", DIGEST), ("risk/credit:latest", DIGEST))
    assert archive_references(path) == ("risk/credit:latest", "risk/credit:v1")


@pytest.mark.parametrize("named", [(), (("a:1", DIGEST), ("b:1", OTHER))])
def test_an_archive_holds_one_image(tmp_path, named):
    """None, or two, is refused: which one to load would be a guess."""
    with pytest.raises(Corrupt, match="exactly 1"):
        archive_references(archive(tmp_path / "a.tar", *named))


def test_what_is_no_archive_is_refused(tmp_path):
    """Anything else is an error that names the file."""
    (tmp_path / "a.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(Corrupt, match=r"a\.tar"):
        archive_references(tmp_path / "a.tar")


def test_pip_is_packed_the_same_twice(tmp_path):
    """Equal bytes, or no engine's cache would know the step again; and it can be run from."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = pack_pip(tmp_path / "one"), pack_pip(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert "pip/__main__.py" in zipfile.ZipFile(one).namelist()


@pytest.mark.parametrize(
    ("labels", "ours"),
    [
        ({"com.classifier.repository": "risk", "com.classifier.git_url": "https://example.org/risk"}, True),
        ({"com.classifier.repository": "risk", "com.classifier.git_url": "https://example.org/other"}, False),
        ({"com.classifier.repository": "risk"}, False),
        ({"com.classifier.repository": "risk-extra", "com.classifier.git_url": "https://example.org/risk"}, False),
        ({}, False),
    ],
)
def test_an_image_belongs_by_repository_and_origin(labels, ours):
    """A name that begins the same, or another origin, makes it somebody else's."""
    assert belongs(labels, "risk", "https://example.org/risk") is ours
