"""Chooses one of a project's images by a classifier's name, a release or a registered version."""

from __future__ import annotations

from collections.abc import Iterable

from mendel.errors import ImageNotFound
from mendel.images import ImageRecord
from mendel.values import ReleaseTag, VersionRef

CLASSIFIER = "com.classifier.name"
RELEASE = "com.classifier.git_tag"
MODEL = "com.mendel.model"

_LATEST = ":latest"


def newest_image(images: Iterable[ImageRecord], classifier: str) -> ImageRecord | None:
    """The classifier's image that is tagged ``latest``; without that tag, the newest image."""
    own = [image for image in images if image.labels.get(CLASSIFIER) == classifier]
    return next(
        (image for image in own if any(name.endswith(_LATEST) for name in image.references)), next(iter(own), None)
    )


def image_of(images: Iterable[ImageRecord], what: str | ReleaseTag | VersionRef) -> ImageRecord:
    """
    The newest image of a classifier, the image of a release, or the image of a registered version.

    Raises:
        ImageNotFound: No such image was built.
    """
    match what:
        case VersionRef():
            found = next((image for image in images if image.labels.get(MODEL) == str(what)), None)
        case ReleaseTag():
            plain = (image for image in images if MODEL not in image.labels)
            found = next((image for image in plain if image.labels.get(RELEASE) == str(what)), None)
        case name:
            found = newest_image(images, name)
    if found is None:
        option = "--model" if isinstance(what, VersionRef) else "--classifier"
        raise ImageNotFound(
            f"The image of {what} does not exist.", remedy=f"Build the image with: mendel build {option} {what}"
        )
    return found
