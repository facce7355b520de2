"""The labels of an image: seventeen of a release, always; and whether given ones belong to their tag."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import InvalidValue
from mendel.projects import without_credentials
from mendel.values import Digest, ReleaseTag, VersionRef, require_utc

UNKNOWN = "unknown"
"""Stands in a release's label where nobody knows the value; without a release such a label is left out."""

RELEASE_LABELS = (
    "com.classifier.git_branch",
    "com.classifier.git_commit",
    "com.classifier.git_tag",
    "com.classifier.name",
    "com.classifier.predictor.class",
    "com.classifier.predictor.module",
    "com.classifier.repository",
    "com.classifier.tag.mlserver_commit",
    "com.classifier.version",
    "com.mlserver.commit",
    "com.mlserver.git_url",
    "com.mlserver.version",
    "org.opencontainers.image.created",
    "org.opencontainers.image.description",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.title",
    "org.opencontainers.image.version",
)
"""The labels that every image of a release has."""

_COMMIT_DIGITS = 8
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_CREDENTIALS = re.compile(r"://[^/@]*@|^[^/@]*:[^/@]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """
    What labels are made of; of the tag, its trailers and the lock, never of the machine.

    Attributes:
        created: The commit's date.
        tag: None for a build without a release.
        commit: The full commit of the project; None outside of a repository.
        branch, git_url: As the tag's trailers have them.
        tool_version, tool_commit, tool_url: Of the runtime in the image.
        lock: Digest of the lock; None for an image built without one.
        builder: What built it and in which format of bytes: ``oci/1``, ``podman``.
        reproducible: Building again from tag and lock gives the same digest.
        untracked: Artefacts that the tag records by digest, since git does not hold them.
        changed: The working tree differed from its commit.
        maintainer, about: ``repository.maintainer`` and ``repository.description`` of ``mlserver.yaml``.
        model: The registered version inside, if the image was built for one, and its artefact's digest.
    """

    classifier: str
    repository: str
    predictor_module: str
    predictor_class: str
    created: datetime
    builder: str
    reproducible: bool
    tool_version: str
    tool_commit: str | None = None
    tool_url: str | None = None
    tag: ReleaseTag | None = None
    commit: str | None = None
    branch: str | None = None
    git_url: str | None = None
    lock: Digest | None = None
    untracked: tuple[str, ...] = ()
    changed: bool = False
    maintainer: str | None = None
    about: str | None = None
    model: tuple[VersionRef, Digest] | None = None


def image_labels(facts: ImageFacts) -> dict[str, str]:
    """
    The labels of an image, sorted by name; each value is one line.

    A release has all of :data:`RELEASE_LABELS`, :data:`UNKNOWN` standing for what nobody knows. Without one, those
    about tag and version are missing, and so is every other whose value is not known. Both have
    ``com.classifier.git_url`` and ``org.opencontainers.image.source`` where there is a remote, and Mendel's own:
    ``com.mendel.reproducible``, ``com.mendel.builder``, ``com.mendel.lock``, and where they apply
    ``com.mendel.untracked``, ``com.mendel.changed``, ``com.mendel.model`` and ``com.mendel.model.artifact``.
    """
    known = {name: value for name, value in _labels(facts) if value}
    if facts.tag is not None:
        known = {**dict.fromkeys(RELEASE_LABELS, UNKNOWN), **known}
    return {name: one_line(value) for name, value in sorted(known.items())}


def one_line(text: str) -> str:
    r"""
    *text* with every control character and line break as a space: it ends no line and steers no terminal.

    >>> one_line("main\nUSER root")
    'main USER root'
    """
    return "".join(" " if unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} else letter for letter in text)


def check_labels(labels: Mapping[str, str], *, commit: str | None = None) -> tuple[str, ...]:
    """
    Every reason why *labels* are not those of the release they name; none: they belong together.

    Args:
        commit: The full commit that the tag leads to, where the repository is at hand.
    """
    text = labels.get("com.classifier.git_tag")
    if text is None:
        return ("com.classifier.git_tag is missing: the image is of no release",)
    try:
        tag = ReleaseTag.parse(text)
    except InvalidValue as error:
        return (f"com.classifier.git_tag: {error.message}",)
    return tuple(_disagreements(labels, tag, commit))


def _labels(facts: ImageFacts) -> Iterator[tuple[str, str | None]]:
    short = None if facts.commit is None else facts.commit[:_COMMIT_DIGITS]
    url = None if facts.git_url is None else without_credentials(facts.git_url)
    yield "com.classifier.name", facts.classifier
    yield "com.classifier.repository", facts.repository
    yield "com.classifier.predictor.class", facts.predictor_class
    yield "com.classifier.predictor.module", facts.predictor_module
    yield "com.classifier.git_branch", facts.branch
    yield "com.classifier.git_commit", short
    yield "com.classifier.git_url", url
    yield "com.mlserver.commit", facts.tool_commit
    yield "com.mlserver.version", facts.tool_version
    yield "com.mlserver.git_url", None if facts.tool_url is None else without_credentials(facts.tool_url)
    yield "org.opencontainers.image.created", rfc3339(facts.created)
    yield "org.opencontainers.image.description", f"ML classifier: {facts.classifier}"
    yield "org.opencontainers.image.revision", short
    yield "org.opencontainers.image.source", url
    yield "org.opencontainers.image.title", f"{facts.classifier}-classifier"
    if facts.tag is not None:
        yield "com.classifier.git_tag", str(facts.tag)
        yield "com.classifier.version", str(facts.tag.version)
        yield "com.classifier.tag.mlserver_commit", facts.tag.tool
        yield "org.opencontainers.image.version", str(facts.tag.version)
    yield "org.opencontainers.image.authors", facts.maintainer
    yield "com.classifier.repository.description", facts.about
    yield "com.mendel.builder", facts.builder
    yield "com.mendel.reproducible", "true" if facts.reproducible else "false"
    yield "com.mendel.lock", facts.lock
    yield "com.mendel.untracked", ", ".join(sorted(facts.untracked))
    yield "com.mendel.changed", "true" if facts.changed else None
    if facts.model is not None:
        yield "com.mendel.model", str(facts.model[0])
        yield "com.mendel.model.artifact", facts.model[1]


def rfc3339(time: datetime) -> str:
    """*time* as labels and manifests have it: UTC, whole seconds, ``Z``."""
    return require_utc(time).strftime("%Y-%m-%dT%H:%M:%SZ")


def _disagreements(labels: Mapping[str, str], tag: ReleaseTag, commit: str | None) -> Iterator[str]:
    yield from (f"{name} is missing" for name in RELEASE_LABELS if not labels.get(name))
    version = str(tag.version)
    wanted = {
        "com.classifier.name": tag.classifier,
        "com.classifier.version": version,
        "com.classifier.tag.mlserver_commit": tag.tool,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.title": f"{tag.classifier}-classifier",
        "org.opencontainers.image.description": f"ML classifier: {tag.classifier}",
        "org.opencontainers.image.revision": labels.get("com.classifier.git_commit", ""),
    }
    for name, value in wanted.items():
        if labels.get(name) and labels[name] != value:
            yield f"{name} is {labels[name]!r}, but {tag} says {value!r}"
    said = labels.get("com.classifier.git_commit", "")
    if commit is not None and said and not (len(said) == _COMMIT_DIGITS and commit.startswith(said)):
        yield f"com.classifier.git_commit is {said!r}, but {tag} leads to {commit[:_COMMIT_DIGITS]}"
    tool = labels.get("com.mlserver.commit", "")
    locked = "com.mendel.lock" in labels  # then the lock says which tool serves, and it may be an earlier one
    if not locked and tag.reproducible and tool and not tool.startswith(tag.tool) and not tag.tool.startswith(tool):
        yield f"com.mlserver.commit is {tool!r}, but the tag was made with {tag.tool}"
    created = labels.get("org.opencontainers.image.created", "")
    if created and not _TIME.fullmatch(created):
        yield f"org.opencontainers.image.created is {created!r}, which is no time in UTC"
    yield from (
        f"{name} holds credentials" for name, value in sorted(labels.items()) if _holds_credentials(name, value)
    )


def _holds_credentials(name: str, value: str) -> bool:
    return name.endswith(("_url", ".source")) and _CREDENTIALS.search(value) is not None
