"""The files of a classifier's image, read before a release is tagged."""

from __future__ import annotations

from mendel.errors import BuildRefused
from mendel.images import FileSelection, select_files
from mendel.projects import Classifier, Project, RepositoryState
from mendel.values import Digest

_NO_DIGEST = Digest(f"sha256:{0:064}")  # only the names of the files matter here


def image_files(project: Project, classifier: Classifier, tracked: frozenset[str]) -> frozenset[str] | None:
    """Give the files of the image of *classifier*, relative to the project; None when the image cannot be built."""
    try:
        selection = _selection(project, classifier, tracked)
    except BuildRefused:
        return None
    return frozenset(file.path for file in (*selection.code, *selection.artifacts))


def reasons_against_build(seen: RepositoryState, classifier: str) -> tuple[str, ...]:
    """
    Give the reasons for which the image of *classifier* could not be built from the commit at HEAD.

    It checks the files that a build selects, except untracked artefacts: a tag may record their digests.
    """
    if seen.work_tree is None or classifier not in seen.project.names or classifier in seen.without_source:
        return ()
    try:
        selection = _selection(seen.project, seen.project.classifier(classifier), seen.tracked)
    except BuildRefused as error:
        return error.reasons
    recordable = frozenset(seen.untracked.get(classifier, ())).difference(selection.predictor)
    outside = [name for name in selection.untracked if name not in recordable]
    if not outside:
        return ()
    return (f"git does not track these files, which the image needs: {', '.join(outside[:5])}; commit them",)


def _selection(project: Project, classifier: Classifier, tracked: frozenset[str]) -> FileSelection:
    return select_files(project, classifier, project.root, tracked=tracked, hash_file=lambda _: _NO_DIGEST)
