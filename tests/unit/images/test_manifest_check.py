"""The files of an image against its own list of files."""

from __future__ import annotations

import hashlib

import pytest

from mendel.images import check_files
from mendel.values import Digest, to_json

CODE, OTHER = (Digest(f"sha256:{letter * 64}") for letter in "ab")
MANIFEST = to_json({"format": 1, "files": [{"path": "model.py", "sha256": CODE, "size": 1, "part": "code"}]})
FILES = {"model.py": CODE, "mendel-manifest.json": Digest(f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ()),
        ({"model.py": OTHER}, (f"/app/model.py is {OTHER}, but mendel-manifest.json lists {CODE}",)),
        ({"model.py": None}, ("/app/model.py is not a regular file",)),
        ({"sitecustomize.py": OTHER}, ("/app/sitecustomize.py is not listed in mendel-manifest.json",)),
        (
            {"mendel-manifest.json": OTHER},
            ("/app/mendel-manifest.json in a container differs from the file in the code layer",),
        ),
    ],
)
def test_every_file_is_as_listed(changed, said):
    """A file that is changed, replaced by a link, added or hidden is named; an unchanged image has no fault."""
    assert check_files(MANIFEST, FILES | changed) == said


def test_a_file_that_is_gone_is_named():
    """A listed file must be there."""
    found = {name: digest for name, digest in FILES.items() if name != "model.py"}
    assert check_files(MANIFEST, found) == ("/app/model.py is missing, but mendel-manifest.json lists it",)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 1}', b'{"files": [{"path": "a"}]}', b"\xff"])
def test_a_list_that_cannot_be_read_is_a_fault(content):
    """No exception, one sentence."""
    (said,) = check_files(content, {})
    assert said.startswith("mendel-manifest.json of the image cannot be read")
