"""Write the labels of an image, and check that an image's labels match its release tag."""

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
"""The value of a release label whose value is unknown; without a release such a label is left out."""

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
_OF_RELEASES = ("com.classifier.version", "com.classifier.tag.mlserver_commit")
_VERSION_TAG = re.compile(r"(?:model-[0-9]+-)?v([0-9]+\.[0-9]+\.[0-9]+)(?:-[0-9a-f]{7})?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_CREDENTIALS = re.compile(r"://[^/@]*@|^[^/@]*:[^/@]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """
    The values that labels are written from; they come from the tag, its trailers and the lock, not from the machine.

    Attributes:
        created: The commit's date.
        tag: The release tag; None for a build without a release.
        commit: The full commit id of the project; None outside of a repository.
        branch, git_url: The branch and repository URL in the tag's trailers.
        tool_version, tool_commit, tool_url: Version, commit and repository of the Mendel in the image.
        lock: The digest of the lock; None for an image built without a lock.
        builder: The builder's name, for Mendel's own with its format number: ``oci/1``, ``podman``.
        reproducible: True when building again from tag and lock gives the same digest.
        untracked: Artefacts that git does not track and that the tag records by digest.
        changed: True when the working tree differed from its commit.
        maintainer, about: ``repository.maintainer`` and ``repository.description`` of ``mlserver.yaml``.
        model: The registered version in the image and the digest of its artefact; None for other images.
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
    Write the labels of an image, sorted by name; each value is one line.

    The image of a release has all of :data:`RELEASE_LABELS`; an unknown value is :data:`UNKNOWN`. Other images omit
    labels with unknown values, and the labels about tag and version. All images have ``com.mendel.reproducible`` and
    ``com.mendel.builder``; where they apply, also ``com.mendel.lock``, ``com.mendel.untracked``,
    ``com.mendel.changed``, ``com.mendel.model``, ``com.mendel.model.artifact``, and, with a remote,
    ``com.classifier.git_url`` and ``org.opencontainers.image.source``.
    """
    known = {name: value for name, value in _labels(facts) if value}
    if facts.tag is not None:
        known = {**dict.fromkeys(RELEASE_LABELS, UNKNOWN), **known}
    return {name: one_line(value) for name, value in sorted(known.items())}


def one_line(text: str) -> str:
    r"""
    Replace every control character and line break in *text* by a space.

    >>> one_line("main\nUSER root")
    'main USER root'
    """
    return "".join(" " if unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} else letter for letter in text)


def check_labels(labels: Mapping[str, str], *, commit: str | None = None, named: str | None = None) -> tuple[str, ...]:
    """
    Give every reason why *labels* do not match the release that they or the image's name state; empty if they match.

    The image of no release states none: neither labels nor name may then contain a version.

    Args:
        commit: The full id of the tagged commit; None if the repository is not available.
        named: The tag in the image's name, such as ``v1.2.0``; None for a digest.
    """
    text = labels.get("com.classifier.git_tag")
    version = _named_version(named)
    if text is None:
        stated = [f"the label {name}" for name in sorted(_OF_RELEASES) if name in labels]
        stated += [] if version is None else [f"the image's tag {named}"]
        return tuple(f"{one} states a release, but the label com.classifier.git_tag is missing" for one in stated)
    try:
        tag = ReleaseTag.parse(text)
    except InvalidValue as error:
        return (f"com.classifier.git_tag: {error.message}",)
    other = () if version in {None, str(tag.version)} else (f"the image's tag is {named}, but its release is {tag}",)
    return (*other, *_disagreements(labels, tag, commit))


def _named_version(named: str | None) -> str | None:
    found = None if named is None else _VERSION_TAG.fullmatch(named)
    return None if found is None else found[1]


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
    """Write *time* for labels and manifests: UTC, whole seconds, ``Z``."""
    return require_utc(time).strftime("%Y-%m-%dT%H:%M:%SZ")


def _disagreements(labels: Mapping[str, str], tag: ReleaseTag, commit: str | None) -> Iterator[str]:
    yield from (f"the label {name} is missing" for name in RELEASE_LABELS if not labels.get(name))
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
            yield f"the label {name} is {labels[name]!r}, but the tag {tag} requires {value!r}"
    said = labels.get("com.classifier.git_commit", "")
    if commit is not None and said and not (len(said) == _COMMIT_DIGITS and commit.startswith(said)):
        yield f"the label com.classifier.git_commit is {said!r}, but the tag {tag} points to {commit[:_COMMIT_DIGITS]}"
    tool = labels.get("com.mlserver.commit", "")
    locked = "com.mendel.lock" in labels  # the lock pins the tool in the image, which may be older than the tag's
    if not locked and tag.reproducible and tool and not tool.startswith(tag.tool) and not tag.tool.startswith(tool):
        yield f"the label com.mlserver.commit is {tool!r}, but the tag was made with Mendel at commit {tag.tool}"
    created = labels.get("org.opencontainers.image.created", "")
    if created and not _TIME.fullmatch(created):
        yield f"the label org.opencontainers.image.created is {created!r}, which is not a time in UTC"
    yield from (
        f"the label {name} contains a user name or password"
        for name, value in sorted(labels.items())
        if _holds_credentials(name, value)
    )


def _holds_credentials(name: str, value: str) -> bool:
    return name.endswith(("_url", ".source")) and _CREDENTIALS.search(value) is not None
