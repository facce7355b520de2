"""Fetch the registered version that a URI of the form ``models:/NAME@production`` names."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mendel.errors import InvalidValue, VersionNotFound
from mendel.serving import read_version_directory, write_version_directory
from mendel.values import ModelName, Stage, VersionRef, VersionUuid

if TYPE_CHECKING:
    from mendel.client.client import Client
    from mendel.registry import VersionRecord

_URI: Final = re.compile(r"models:/(?P<model>[^/@]+)(?:[@/](?P<version>[^/@]+))?")


def fetch_version(client: Client, uri: str, into: Path) -> Path:
    """
    Download the version that *uri* names into a directory below *into*, unless the directory exists already.

    Args:
        uri: ``models:/NAME@STAGE``, ``models:/NAME@N``, the same with a slash for the @, or ``models:/UUID``.

    Returns:
        The directory with ``version.json`` and ``artifact/``.

    Raises:
        InvalidValue: *uri* has another form.
        ModelNotFound, VersionNotFound: The registry has no such version.
    """
    record = find_version(client, uri)
    place = into / f"{record.ref.model}-{record.number}-{record.artifact_digest.hex[:16]}"
    if place.is_dir() and read_version_directory(place).version == record.served:
        return place
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=into) as scratch:
        tree, draft = Path(scratch) / "tree", Path(scratch) / "version"
        client.download(record.artifact_digest, tree)
        write_version_directory(draft, record.ref.model, record.served, tree)
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
    return place


def find_version(client: Client, uri: str) -> VersionRecord:
    """Find the version that *uri* names, as for :func:`fetch_version`; of several in a stage, the newest."""
    found = _URI.fullmatch(uri)
    if found is None:
        raise InvalidValue(
            f"{uri!r} does not name a model.", remedy="Write models:/NAME@production, models:/NAME@N or models:/UUID."
        )
    model, version = found["model"], found["version"]
    if version is None:
        return client.get_model_by_uuid(VersionUuid(model))
    if version.isascii() and version.isdigit():
        return client.version(VersionRef(ModelName(model), int(version)))
    if version not in set(Stage):
        raise InvalidValue(f"{version!r} is not a stage.", remedy=f"Choose one of: {', '.join(Stage)}.")
    records = [record for record in client.versions(model) if record.stage == version]
    if not records:
        raise VersionNotFound(
            f"Model {model!r} has no version in the stage {version!r}.",
            remedy=f"List its versions with: mendel models versions {model}",
        )
    return max(records, key=lambda record: record.number)
