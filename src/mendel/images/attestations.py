"""Attestations of an image: media types, in-toto statements, and the origin of a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mendel.images.entities import ImagePlan
from mendel.values import Digest, to_json

CYCLONEDX = "application/vnd.cyclonedx+json"
IN_TOTO = "application/vnd.in-toto+json"
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_LABEL_TAG = "com.classifier.git_tag"
_LABEL_COMMIT = "com.classifier.git_commit"
_LABEL_URL = "com.classifier.git_url"
_LABEL_LOCK = "com.mendel.lock"


class _Release(msgspec.Struct):
    commit: str | None = None


class _Manifest(msgspec.Struct):
    release: _Release | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrigin:
    """
    The repository, commit and lock that an image was built from.

    Attributes:
        repository: The URL of the git repository, without credentials; None without a remote.
        commit: The full commit id for a release, 8 digits for a working tree; None outside of a repository.
        tag: The release tag; None when a working tree was built.
        lock: The digest of the lock; None when the image was built without a lock.
    """

    repository: str | None = None
    commit: str | None = None
    tag: str | None = None
    lock: Digest | None = None

    @classmethod
    def of(cls, plan: ImagePlan) -> BuildOrigin:
        """Read the origin from the labels and the manifest of *plan*."""
        labels = plan.labels
        release = msgspec.json.decode(plan.manifest, type=_Manifest).release or _Release()
        lock = labels.get(_LABEL_LOCK)
        return cls(
            repository=labels.get(_LABEL_URL),
            commit=release.commit or labels.get(_LABEL_COMMIT),
            tag=labels.get(_LABEL_TAG),
            lock=None if lock is None else Digest(lock),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The name and digest of the artefact that a statement describes."""

    name: str
    digest: Digest


def render_statement(subjects: Sequence[Subject], *, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Write an in-toto Statement v1 as canonical JSON: equal arguments give equal bytes."""
    return to_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": one.name, "digest": {"sha256": one.digest.hex}} for one in subjects],
            "predicateType": predicate_type,
            "predicate": dict(predicate),
        }
    )


def subject_name(plan: ImagePlan) -> str:
    """
    Give the image's name in statements: ``repository/classifier``.

    The name omits registry and prefix, so that statements stay the same wherever the image is pushed.
    """
    return f"{plan.name.repository}/{plan.name.classifier}"
