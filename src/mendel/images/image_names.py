"""Names and tags of images, in the form that registries accept."""

from __future__ import annotations

import re

from mendel.errors import InvalidValue
from mendel.images.entities import ImageName
from mendel.values import SemVer

_SHORT = 7
_MAX_LETTERS = 255
_SEPARATORS = re.compile(r"[_-]+")
_LEGAL = re.compile(r"_|__|-+")
_CODES = {"-": "d", "_": "u"}


def image_tags(version: SemVer | None, commit: str | None, *, latest: bool = True) -> tuple[str, ...]:
    """
    Give the tags of an image: of a release, or of a working tree when *version* is None.

    Args:
        latest: False for a release that is not the newest of its classifier.

    >>> image_tags(SemVer(1, 2, 0), "0123456789abcdef")
    ('latest', 'v1.2.0', 'v1.2.0-0123456')
    >>> image_tags(None, "0123456789abcdef")
    ('latest', 'untagged', 'untagged-0123456')
    """
    name = "untagged" if version is None else f"v{version}"
    return (*(("latest",) if latest else ()), name, *(() if commit is None else (f"{name}-{commit[:_SHORT]}",)))


def model_tags(number: int, version: SemVer | None, commit: str | None) -> tuple[str, ...]:
    """
    Give the tags of an image that contains a registered version; they differ from the tags of its release's image.

    >>> model_tags(3, SemVer(1, 2, 0), "0123456789abcdef")
    ('model-3', 'model-3-v1.2.0', 'model-3-0123456')
    """
    name = f"model-{number}"
    released = () if version is None else (f"{name}-v{version}",)
    return (name, *released, *(() if commit is None else (f"{name}-{commit[:_SHORT]}",)))


def image_name(
    repository: str, classifier: str, *, registry: str | None = None, prefix: str | None = None
) -> tuple[ImageName, tuple[str, ...]]:
    """
    Give the name of a classifier's image, and a hint for each part that had to be changed.

    Repository names become lower case, and characters that registries refuse become ``-``. Classifier names are
    encoded so that two names never become equal.

    Raises:
        InvalidValue: The repository's name has no usable character, the registry's address contains more than host,
            port and path, or the name is too long.
    """
    hints = []
    repository_part = _sanitised(repository)
    if not repository_part:
        raise InvalidValue(
            f"The repository name {repository!r} contains no letter or digit that is allowed in an image name.",
            remedy="Set repository.name in mlserver.yaml.",
        )
    if repository_part != repository:
        hints.append(
            f"The repository part of the image name is {repository_part}, because registries do not "
            f"accept {repository!r}."
        )
    classifier_part = encode_classifier(classifier)
    if classifier_part != classifier:
        hints.append(f"The image name ends with {classifier_part}, because registries do not accept {classifier!r}.")
    name = ImageName(
        repository=repository_part, classifier=classifier_part, registry=_host(registry), prefix=prefix or None
    )
    if len(str(name)) > _MAX_LETTERS:
        raise InvalidValue(
            f"The image name {name} is longer than the {_MAX_LETTERS} characters that registries accept."
        )
    return name, tuple(hints)


def encode_classifier(name: str) -> str:
    """
    Encode a classifier's name as a part of an image's name; a name that registries accept stays unchanged.

    A run of ``-`` and ``_`` that registries refuse (mixed, or at the end) becomes ``.``, then ``d`` for each dash and
    ``u`` for each underscore, then ``.`` unless the run is at the end. Classifier names contain no dots, so two
    different names never become equal.

    >>> encode_classifier("fraud_v2"), encode_classifier("fraud-"), encode_classifier("a-_b")
    ('fraud_v2', 'fraud.d', 'a.du.b')
    """

    def encoded(found: re.Match[str]) -> str:
        at_end = found.end() == len(name)
        if not at_end and _LEGAL.fullmatch(found.group()):
            return found.group()
        return f".{''.join(_CODES[letter] for letter in found.group())}{'' if at_end else '.'}"

    return _SEPARATORS.sub(encoded, name)


def _sanitised(text: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    runs = re.sub(r"[._-]+", lambda found: found.group() if re.fullmatch(r"\.|__?|-+", found.group()) else "-", plain)
    return runs.strip("._-")


def _host(registry: str | None) -> str | None:
    """Remove the scheme and the final slash from *registry*."""
    if not registry:
        return None
    host = registry.partition("://")[2] if "://" in registry else registry
    if "@" in host or not re.fullmatch(r"[A-Za-z0-9._:/\[\]-]+", host):
        raise InvalidValue(
            "The registry address contains more than host, port and path.",
            remedy=(
                "Give an address like ghcr.io/acme; give user name and password to 'docker login' or "
                "'podman login' instead."
            ),
        )
    return host.strip("/")
