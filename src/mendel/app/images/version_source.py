"""The source of a registered version's image: the artefact from the registry, the code from the release."""

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
    The files of a registered version on this disk.

    Attributes:
        directory: The directory with ``version.json`` and ``artifact/`` that goes into the image.
    """

    ref: VersionRef
    digest: Digest
    directory: Path
    facts: SbomModelFacts


@contextmanager
def version_source(ref: VersionRef, project: Project, git: Git) -> Iterator[tuple[Source, VersionTree]]:
    """
    Export the release of *ref* and download its artefact; both are deleted when the block ends.

    Raises:
        VersionNotFound: The registry has no such version.
        Unsupported: The version belongs to no release, so its code is unknown.
        Conflict: The version's release is a release of another classifier.
    """
    with connect() as client, tempfile.TemporaryDirectory(prefix="mendel-version-") as scratch:
        record = client.version(ref)
        tag = None if record.release_tag is None else release_of(record.release_tag)
        if tag is None:
            raise Unsupported(
                (
                    f"The version {ref} has no release tag, so Mendel does not know which code and wheels "
                    "to put into the image."
                ),
                remedy="Register a version from a project: run 'mendel tag', then 'mendel train'.",
            )
        if tag.classifier != ref.model:
            raise Conflict(
                f"{ref} is a version of the model {ref.model}, but its release tag {tag} belongs to "
                f"the classifier {tag.classifier}."
            )
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
