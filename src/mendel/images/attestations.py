"""What is said about an image, beside it: media types, in-toto statements, and where a build came from."""

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
    Where the files of an image come from.

    Attributes:
        repository: URL of the git repository, without credentials.
        commit: The full commit, as far as it is known.
        tag: The release tag; None when the working tree was built.
        lock: Digest of the lock.
    """

    repository: str | None = None
    commit: str | None = None
    tag: str | None = None
    lock: Digest | None = None

    @classmethod
    def of(cls, plan: ImagePlan) -> BuildOrigin:
        """What *plan* tells of it: the commit in full for a release, abbreviated as its label has it otherwise."""
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
    """What a statement is about."""

    name: str
    digest: Digest


def render_statement(subjects: Sequence[Subject], *, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """An in-toto Statement v1 as canonical JSON: equal statements, equal bytes."""
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
    What statements call the image that *plan* makes: ``repository/classifier``.

    Without registry and prefix: wherever the image is pushed, its digest and what is said of it stay the same.
    """
    return f"{plan.name.repository}/{plan.name.classifier}"
