"""Plan an image from the project, the selected files and the lock; equal inputs give equal plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import BuildRefused
from mendel.images.entities import (
    APP,
    DATA,
    PROJECT_VENV,
    VENV,
    ImageName,
    ImagePart,
    ImagePlan,
    RunSettings,
    SourceFile,
)
from mendel.images.file_selection import VERSION_DIRECTORY, FileSelection
from mendel.images.labels import ImageFacts, image_labels, one_line, rfc3339
from mendel.images.lockfile import BUILDER_FORMAT, Environment, RuntimePin
from mendel.projects import Classifier, without_credentials
from mendel.values import Digest, ReleaseTag, VersionRef, to_json

GRPC_PORT, ZMQ_PORT = 7212, 7211
OWN_BUILDER = "oci"
"""The name of Mendel's own builder, the only one whose images are reproducible byte by byte."""

_INTERPRETER = f"{VENV}/bin/python"
_ENVIRONMENT = {
    "HOME": str(DATA),
    "PYTHONSAFEPATH": "1",  # a project file cannot replace a module of the standard library
    "PYTHONUNBUFFERED": "1",
}
_ISOLATED = {
    "MENDEL_SERVING__BACKEND": "process",
    "MENDEL_SERVING__MODEL_PYTHON": f"{PROJECT_VENV}/bin/python",
    "PYTHONPYCACHEPREFIX": f"{DATA}/.bytecode",  # a restarted model process does not compile its packages again
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRevision:
    """
    The git revision that an image's files come from, read from git, the release tag and its trailers.

    Attributes:
        repository: The repository's name, from the trailer ``Repository-Name`` or from the project.
        created: The commit's date, UTC.
        tag: The release tag; None for a working tree that is not at a release or has changes.
        tool_url: The tool's repository from the tag's trailers; used when the lock's runtime has no URL.
        untracked: Artefacts that git does not track and that the tag records by digest.
        changed: True when the working tree differs from the commit.
        maintainer, about: ``repository.maintainer`` and ``repository.description`` of ``mlserver.yaml``.
    """

    repository: str
    created: datetime
    tag: ReleaseTag | None = None
    commit: str | None = None
    branch: str | None = None
    url: str | None = None
    tool_url: str | None = None
    untracked: tuple[str, ...] = ()
    changed: bool = False
    maintainer: str | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """A registered version to put into an image; :func:`mendel.images.version_files` gives its ``files``."""

    ref: VersionRef
    artifact: Digest
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """The inputs of labels and manifest other than the files."""

    origin: SourceRevision
    runtime: RuntimePin
    lock: Digest | None
    engine: str
    version: RegisteredVersion | None


def plan_image(
    classifier: Classifier,
    selection: FileSelection,
    *,
    origin: SourceRevision,
    environment: Environment,
    runtime: RuntimePin,
    lock: Digest | None,
    name: ImageName,
    tags: tuple[str, ...],
    engine: str = OWN_BUILDER,
    version: RegisteredVersion | None = None,
) -> ImagePlan:
    """
    Decide everything about an image; equal arguments give equal plans, whatever the order of the files.

    Args:
        lock: The digest of the lock that contains *environment* and *runtime*.
        engine: The builder's name; only :data:`OWN_BUILDER` builds reproducible images.
        version: The registered version of ``build --model``; its artefact is placed in ``/app/.version``, and the
            server starts with it.

    Raises:
        BuildRefused: A path is both an artefact and code.
    """
    artifacts = sorted((*selection.artifacts, *(() if version is None else version.files)), key=lambda file: file.path)
    code = sorted(selection.code, key=lambda file: file.path)
    _refuse_twice([*artifacts, *code])
    inputs = _Inputs(origin=origin, runtime=runtime, lock=lock, engine=engine, version=version)
    return ImagePlan(
        classifier=classifier.name,
        name=name,
        tags=tags,
        labels=image_labels(_facts(classifier, inputs)),
        created=origin.created,
        environment=environment,
        runtime=runtime,
        artifacts=tuple(artifacts),
        code=tuple(code),
        manifest=_manifest(classifier, inputs, artifacts, code),
        run=run_settings(classifier, with_version=version is not None, isolated=environment.project is not None),
    )


def run_settings(classifier: Classifier, *, with_version: bool = False, isolated: bool = False) -> RunSettings:
    """
    Give the start command, health check, environment and ports of a container of *classifier*.

    The environment has no ``PATH``: the builder, which knows the base image's ``PATH``, prepends the image's own.

    Args:
        isolated: Run the predictor with the Python of :data:`PROJECT_VENV`, in a process of its own.
    """
    given = ("--artifact", f"{APP}/{VERSION_DIRECTORY}") if with_version else ()
    serve = ("serve", "--path", str(APP), "--classifier", classifier.name, "--directory", str(DATA))
    ports = (classifier.server.port, GRPC_PORT, ZMQ_PORT)
    return RunSettings(
        command=(_INTERPRETER, "-m", "mendel.app.cli", *serve, *given),
        environment={**_ENVIRONMENT, **(_ISOLATED if isolated else {})},
        ports=tuple(port for port in dict.fromkeys(ports) if port),
        healthcheck=(_INTERPRETER, "-m", "mendel.app.server.healthcheck", str(DATA)),
    )


def describe_plan(plan: ImagePlan, selection: FileSelection, *, found: str | None = None) -> tuple[str, ...]:
    """
    Give the lines that ``build`` prints first: the runtime, the files by kind, their total, and the classifier.

    Args:
        found: How the runtime was found; None takes this from the lock.
    """
    return tuple(_description(plan, selection, plan.runtime.how if found is None else found))


def _facts(classifier: Classifier, inputs: _Inputs) -> ImageFacts:
    own, origin, runtime, version = inputs.engine == OWN_BUILDER, inputs.origin, inputs.runtime, inputs.version
    repeatable = own and inputs.lock is not None and origin.tag is not None and origin.tag.reproducible
    return ImageFacts(
        classifier=classifier.name,
        repository=origin.repository,
        predictor_module=classifier.predictor.import_name,
        predictor_class=classifier.predictor.class_name,
        created=origin.created,
        builder=f"{inputs.engine}/{BUILDER_FORMAT}" if own else inputs.engine,
        reproducible=repeatable and not origin.untracked and not origin.changed and version is None,
        tool_version=runtime.version,
        tool_commit=runtime.commit,
        tool_url=_tool_url(origin, runtime),
        tag=origin.tag,
        commit=origin.commit,
        branch=origin.branch,
        git_url=origin.url,
        lock=inputs.lock,
        untracked=origin.untracked,
        changed=origin.changed,
        maintainer=origin.maintainer,
        about=origin.about or None,
        model=None if version is None else (version.ref, version.artifact),
    )


def _tool_url(origin: SourceRevision, runtime: RuntimePin) -> str | None:
    """
    Give the URL of the runtime's repository: the pin's, else the tag trailer's if the tag names the runtime's commit.

    None if both URLs are unknown.
    """
    same = origin.tag is not None and runtime.commit is not None and runtime.commit.startswith(origin.tag.tool)
    return runtime.url or (origin.tool_url if same else None)


def _manifest(classifier: Classifier, inputs: _Inputs, artifacts: list[SourceFile], code: list[SourceFile]) -> bytes:
    """Write the manifest that lists the image's files; the server reads its release from this file."""
    origin, version = inputs.origin, inputs.version
    release = origin.tag and {
        "tag": str(origin.tag),
        "version": str(origin.tag.version),
        "commit": origin.commit,
        "branch": origin.branch,
        "repository": one_line(origin.repository),
        "url": None if origin.url is None else without_credentials(origin.url),
        "tool_commit": inputs.runtime.commit,
        "time": rfc3339(origin.created),
    }
    files = [(ImagePart.ARTIFACTS, file) for file in artifacts] + [(ImagePart.CODE, file) for file in code]
    whole = {
        "format": 1,
        "classifier": classifier.name,
        "release": release,
        "lock": inputs.lock,
        "files": [
            {"path": file.path, "sha256": file.digest, "size": file.size_bytes, "part": part}
            for part, file in sorted(files, key=lambda entry: entry[1].path)
        ],
    }
    model = {} if version is None else {"model": {"version": str(version.ref), "artifact": version.artifact}}
    return to_json({**whole, **model}) + b"\n"


def _refuse_twice(files: list[SourceFile]) -> None:
    counts = Counter(file.path for file in files)
    reasons = tuple(f"{path} comes from two sources." for path, count in sorted(counts.items()) if count > 1)
    if reasons:
        raise BuildRefused("The image would contain two files with the same path.", reasons=reasons)


def _description(plan: ImagePlan, selection: FileSelection, found: str) -> Iterator[str]:
    commit = "an unknown commit" if plan.runtime.commit is None else plan.runtime.commit[:7]
    yield f"Runtime: mendel {plan.runtime.version} at {commit} ({found})"
    sizes = {file.path: file.size_bytes for file in (*plan.artifacts, *plan.code)}
    kinds = {
        "Predictor files": selection.predictor,
        "Artefact files": tuple(file.path for file in plan.artifacts),
        "Configuration files": selection.configuration,
    }
    for title, paths in kinds.items():
        yield f"{title}:" if paths else f"{title}: none"
        yield from (f"  {path} ({render_size(sizes[path])})" for path in paths)
    yield f"Total: {len(sizes)} files, {render_size(sum(sizes.values()))}"
    version = plan.labels.get("com.classifier.version")
    yield f"Building container for {plan.classifier} {'(untagged)' if version is None else f'v{version}'}"


def render_size(count: int) -> str:
    """
    Write a number of bytes with a decimal unit.

    >>> render_size(999), render_size(12_345), render_size(10_000_000_000)
    ('999 B', '12.3 kB', '10.0 GB')
    """
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - SI
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
