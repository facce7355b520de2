"""A registered version as the source of an image: its artefact from the registry, its code from its release."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mendel.app.connect import connect
from mendel.app.images.build_source import Source, exported, release_of
from mendel.errors import Conflict, Unsupported
from mendel.images import SbomModelFacts
from mendel.projects import Git, Project
from mendel.serving import write_version_directory
from mendel.values import Digest, VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTree:
    """
    A registered version on this disk.

    Attributes:
        directory: Its ``version.json`` and ``artifact/``, as an image carries them.
    """

    ref: VersionRef
    digest: Digest
    directory: Path
    facts: SbomModelFacts


@contextmanager
def version_source(ref: VersionRef, project: Project, git: Git) -> Iterator[tuple[Source, VersionTree]]:
    """
    The release of *ref* as its tag exports it, and its artefact, until the block ends.

    Raises:
        VersionNotFound: The registry has no such version.
        Unsupported: It belongs to no release: there is no code to put into an image.
        Conflict: Its release is of another classifier.
    """
    with connect() as client, tempfile.TemporaryDirectory(prefix="mendel-version-") as scratch:
        record = client.version(ref)
        tag = None if record.release_tag is None else release_of(record.release_tag)
        if tag is None:
            raise Unsupported(
                f"{ref} belongs to no release, so nothing says with which code and wheels it runs.",
                remedy="Register it from a project: mendel tag, then mendel train.",
            )
        if tag.classifier != ref.model:
            raise Conflict(f"{ref} is registered as a version of {ref.model}, and released as {tag.classifier}.")
        tree, carried = Path(scratch) / "tree", Path(scratch) / "version"
        client.download(record.artifact_digest, tree)
        write_version_directory(carried, record.ref.model, record.served, tree)
        facts = SbomModelFacts(
            task=record.task,
            signature=record.signature,
            metrics=record.metrics,
            version=ref,
            description=record.description or "",
        )
        with exported(tag, project, git) as source:
            yield source, VersionTree(ref=ref, digest=record.artifact_digest, directory=carried, facts=facts)
