"""Select the files of a project that go into a classifier's image, or give every reason against the image."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mendel.errors import BuildRefused
from mendel.images.entities import MANIFEST, SourceFile
from mendel.images.file_names import LOCK_FILE
from mendel.images.import_graph import ImportGraph, import_graph, module_files
from mendel.images.project_tree import HashFile, ProjectTree
from mendel.projects import Classifier, Project
from mendel.values.directory_trees import file_digest, tree_files

VERSION_DIRECTORY = ".version"
"""The directory below ``/app`` that holds the artefact of a registered version in an image built for that version."""

_DATA_SUFFIX = re.compile(
    r"\.(bin|cbm|csv|h5|json|joblib|model|np[yz]|onnx|parquet|pickle|pkl|pth?|safetensors|skops|tflite|txt|ubj|ya?ml)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSelection:
    """
    The files that go into an image; no file is in both lists.

    Attributes:
        artifacts: Data files that the configuration names, sorted by path.
        code: Modules, ``mlserver.yaml``, requirements and lock, sorted by path.
        predictor: The paths of the modules in ``code``.
        configuration: The other paths in ``code``.
        untracked: Paths that git does not track; empty when the tracked files were not given.
        hints: Sentences about possible mistakes that do not prevent the build.
    """

    artifacts: tuple[SourceFile, ...]
    code: tuple[SourceFile, ...]
    predictor: tuple[str, ...]
    configuration: tuple[str, ...]
    untracked: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The total size of all files."""
        return sum(file.size_bytes for file in (*self.artifacts, *self.code))


def select_files(
    project: Project,
    classifier: Classifier,
    directory: Path,
    *,
    tracked: frozenset[str] | None = None,
    hash_file: HashFile = file_digest,
) -> FileSelection:
    """
    Select the files of *classifier*'s image from *directory*, a checkout or an export of *project*.

    No project code is imported. A link inside the project counts as the file that it points to.

    Args:
        tracked: The files that git tracks; None leaves ``untracked`` empty.
        hash_file: Computes the digest of a file above 1 MiB; it may use a cache.

    Raises:
        BuildRefused: The error lists every reason: a missing predictor, code that is not Python, secrets, links that
            leave the project or are broken, names that are not text, files that cannot be read.
    """
    tree = ProjectTree(directory, exclude=classifier.build.exclude_patterns, hash_file=hash_file)
    hints: list[str] = []
    graph = _code(classifier, directory, tree)
    hints += graph.hints
    modules = _by_path(file for path in graph.files for file in tree.take(path, why="code"))
    configuration = _by_path(_configuration(project, classifier, directory, tree))
    named = _by_path(_named_files(project, classifier, directory, tree, hints))
    code = configuration | modules
    artifacts = {path: file for path, file in named.items() if path not in code}
    _refuse_own_names(tree, {**artifacts, **code})
    hints += _same_but_for_case({**artifacts, **code})
    if tree.reasons:
        raise BuildRefused(f"The image of {classifier.name} cannot be built.", reasons=tuple(tree.reasons))
    untracked = _untracked({**artifacts, **code}, tracked, tree)
    if untracked:
        hints.append(f"untracked: {', '.join(untracked)}")
    return FileSelection(
        artifacts=_sorted(artifacts),
        code=_sorted(code),
        predictor=tuple(sorted(modules)),
        configuration=tuple(sorted(set(configuration) - set(modules))),
        untracked=untracked,
        hints=tuple(dict.fromkeys(hints)),
    )


def version_files(artifact: Path) -> tuple[SourceFile, ...]:
    """
    List the files of a registered version's artefact, except its ``data``, at their paths in :data:`VERSION_DIRECTORY`.

    Raises:
        InvalidInput: The artefact contains a link or a special file.
    """
    return tuple(
        SourceFile(
            path=f"{VERSION_DIRECTORY}/{name}", source=path, size_bytes=path.stat().st_size, digest=file_digest(path)
        )
        for name, path in tree_files(artifact, exclude=("data",))
    )


def _code(classifier: Classifier, directory: Path, tree: ProjectTree) -> ImportGraph:
    """Find the modules of the predictor and of the training module, which runners may run in the image."""
    predictor = classifier.predictor.import_name
    files, whole = module_files(directory, predictor)
    if not whole:
        tree.refuse(f"the predictor file of {classifier.predictor.module!r} is missing.")
    elif tree.excluded(files[-1]):
        tree.refuse(f"build.exclude_patterns excludes the predictor file {files[-1]}; remove the pattern.")
    modules = [predictor] if whole else []
    if classifier.retraining:
        training = str(classifier.retraining.get("module", "training")).removesuffix(".py").replace("/", ".")
        modules += [training] if module_files(directory, training)[1] else []
    graph = import_graph(directory, modules, tree.read)
    for reason in graph.reasons:
        tree.refuse(reason)
    if module_files(directory, "mendel")[0]:
        tree.refuse(
            "the project has a module called mendel, which would hide Mendel's package in the image; rename the module."
        )
    return graph


def _configuration(
    project: Project, classifier: Classifier, directory: Path, tree: ProjectTree
) -> Iterator[SourceFile]:
    wanted = {project.file.name: "the project file"}
    if classifier.build.requirements is not None:
        wanted[_clean(classifier.build.requirements)] = "build.requirements"
    elif os.path.lexists(directory / "requirements.txt"):
        wanted["requirements.txt"] = "requirements"
    if os.path.lexists(directory / LOCK_FILE):
        wanted[LOCK_FILE] = "the lock file"
    for name, why in wanted.items():
        if tree.excluded(name):
            tree.refuse(f"build.exclude_patterns excludes {name} ({why}), which the image needs; remove the pattern.")
        elif _leaves(name):
            tree.refuse(f"{name} ({why}) is outside the project directory.")
        elif (directory / name).is_dir():
            tree.refuse(f"{name} ({why}) is a directory, but must be a file.")
        else:
            yield from tree.take(name, why=why)


def _named_files(
    project: Project, classifier: Classifier, directory: Path, tree: ProjectTree, hints: list[str]
) -> Iterator[SourceFile]:
    for each in project.classifiers:  # the project file in the image names all order files
        order = each.feature_order_file
        if order is not None and tree.excluded(_clean(order)):
            tree.refuse(
                f"build.exclude_patterns excludes {order} (api.feature_order of {each.name}); remove the pattern."
            )
        elif order is not None:
            yield from tree.take(_clean(order), why=f"api.feature_order of {each.name}")
    for key, value in classifier.predictor.init_kwargs.items():
        for text in _texts(value):
            yield from _argument(text, f"predictor.init_kwargs.{key}", directory, tree, hints)
    for pattern in classifier.build.include_files:
        names = list(tree.matching(pattern))
        if not names and not tree.excluded(_clean(pattern)):
            tree.refuse(f"build.include_files: no file matches {pattern!r}.")
        for name in names:
            yield from tree.take(name, why="build.include_files")


def _argument(text: str, why: str, directory: Path, tree: ProjectTree, hints: list[str]) -> Iterator[SourceFile]:
    """Yield the files of *text*, an argument of the predictor, if *text* is the path of a project file or directory."""
    if not text or "\0" in text or "\n" in text or len(text) > 1024:  # noqa: PLR2004 - no path is longer
        return
    path = PurePosixPath(text)
    there = os.path.lexists(directory / text)
    if path.is_absolute():
        if there:
            hints.append(f"{why} names {text}, an absolute path of this machine, which the image may not have.")
    elif ".." in path.parts:
        if there:
            tree.refuse(f"{text} ({why}) is outside the project directory.")
    elif not there:
        if _DATA_SUFFIX.fullmatch(path.suffix.lower()):
            hints.append(f"{why} names {text}, which does not exist.")
    elif path.parts and tree.excluded(_clean(text)):
        hints.append(f"{why} names {text}, which is left out as a cache, or because of build.exclude_patterns.")
    elif path.parts:
        yield from tree.take(_clean(text), why=why)


def _refuse_own_names(tree: ProjectTree, files: Mapping[str, SourceFile]) -> None:
    for path in files:
        if path == MANIFEST or path.partition("/")[0] == VERSION_DIRECTORY:
            tree.refuse(
                f"{path} has a name that Mendel reserves in images; rename the file, or list it in "
                "build.exclude_patterns."
            )


def _same_but_for_case(files: Mapping[str, SourceFile]) -> Iterator[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        alike[unicodedata.normalize("NFC", path).casefold()].append(path)
    for paths in alike.values():
        if len(paths) > 1:
            yield f"{' and '.join(paths)} differ only by case: some file systems can store only one of them."


def _untracked(files: Mapping[str, SourceFile], tracked: frozenset[str] | None, tree: ProjectTree) -> tuple[str, ...]:
    if tracked is None:
        return ()
    return tuple(sorted(path for path in files if not _is_tracked(path, tree.real_name(path), tracked)))


def _is_tracked(path: str, real: str, tracked: frozenset[str]) -> bool:
    """Tell whether git tracks the file and, for a path through a link, the link itself or a directory above it."""
    ways = (path, *(parent.as_posix() for parent in PurePosixPath(path).parents))
    return real in tracked and any(way in tracked for way in ways)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list() | tuple():
            for item in value:
                yield from _texts(item)
        case dict():
            for item in value.values():
                yield from _texts(item)


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _clean(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _by_path(files: Iterable[SourceFile]) -> dict[str, SourceFile]:
    return {file.path: file for file in files}


def _sorted(files: Mapping[str, SourceFile]) -> tuple[SourceFile, ...]:
    return tuple(file for _, file in sorted(files.items()))
