"""Builds the image of a release, of the working tree or of a registered version."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mendel.adapters.git import GitPrograms
from mendel.adapters.oci.layout.disk_errors import translated_write_errors
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.pip import CachedWheels
from mendel.app.images.build_source import Source, exported, held_to_its_commit, release_of, working_tree
from mendel.app.images.cache_directories import places_of, runs_here, this_platform
from mendel.app.images.pinned_inputs import environment_for
from mendel.app.images.workspace import OCI, ImageWorkspace
from mendel.errors import InvalidInput
from mendel.images import (
    APT_FILE,
    SOURCES_FILE,
    BuiltImage,
    ImageName,
    ImagePlan,
    LayerRecord,
    OnProgress,
    Platform,
    RegisteredVersion,
    SbomModelFacts,
    SourceRevision,
    TaskProgress,
    describe_plan,
    ignore_progress,
    image_name,
    image_tags,
    model_tags,
    plan_image,
    select_files,
    version_files,
)
from mendel.projects import Project, chosen_classifier, load_project
from mendel.values import Digest, SemVer, VersionRef

if TYPE_CHECKING:
    from mendel.app.images.version_source import VersionTree

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """
    The options of ``mendel build``.

    Attributes:
        what: A classifier's name, to build the working tree; or a full release tag, to build that release. None means
            the project's only classifier.
        model: A registered version to build. The image holds its artefact and the code of its release.
        load: Load the image into docker or podman; None loads the image only if one of them answers.
        output: Also write the image to this tar file, for ``docker load`` and ``podman load``.
        latest: Move the tag ``latest`` to the image even if a newer release of the classifier exists.
        force: Build with the installed Mendel even if the release tag (without a lock) or the lock was made with
            another one. The labels of the image name the installed Mendel.
        sign: The private key file that signs the image; None leaves the image unsigned.
    """

    what: str | None = None
    path: Path | None = None
    model: VersionRef | None = None
    engine: str = OCI
    platform: Platform | None = None
    registry: str | None = None
    tag_prefix: str | None = None
    output: Path | None = None
    load: bool | None = None
    use_cache: bool = True
    dry_run: bool = False
    latest: bool = False
    force: bool = False
    sign: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """
    The result of a build.

    Attributes:
        digest: The digest of the image manifest; None after a dry run.
        release: The full release tag; None for an image of no release.
        reproducible: Building the same tag again gives the same digest on any machine.
        verified: The predictor was loaded inside the image; False for an image of another processor.
        loaded: The engine that the image was loaded into.
        seconds: Wall time of the whole build.
    """

    classifier: str
    release: str | None
    references: tuple[str, ...]
    labels: dict[str, str]
    digest: Digest | None = None
    image_id: Digest | None = None
    engine: str
    platform: str
    reproducible: bool
    verified: bool = False
    layers: tuple[LayerRecord, ...] = ()
    loaded: str | None = None
    output: str | None = None
    hints: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def size_bytes(self) -> int:
        """The compressed size of all layers."""
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def unpacked_bytes(self) -> int:
        """The size of all layers after unpacking."""
        return sum(layer.unpacked_bytes for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """
    The plan of a build, with its inputs.

    Attributes:
        project: The directory that is built; the directory of an exported release is deleted when the block ends.
        lines: Lines to print before the build starts.
    """

    plan: ImagePlan
    project: Path
    wheels: CachedWheels
    lines: tuple[str, ...]
    model: SbomModelFacts | None = None
    hints: tuple[str, ...] = ()


def build(request: BuildRequest, *, say: Say, on_progress: OnProgress = ignore_progress) -> BuildReport:
    """
    Plan, build and verify an image, and name the image only after it is verified.

    Raises:
        BuildRefused, StaleLock, ReleaseNotFound, ProjectNotFound: The request cannot be built; nothing was made.
        ImageNotVerified: The image was built, but the predictor cannot be loaded in it; the image has no name.
    """
    began = time.monotonic()
    project = load_project(request.path or Path.cwd())
    bench = ImageWorkspace(places=places_of(project.root))
    with drafted(request, project, bench, on_progress=on_progress) as draft:
        report = build_drafted(request, draft, bench, say=say, on_progress=on_progress)
    return replace(report, seconds=time.monotonic() - began)


def build_drafted(
    request: BuildRequest, draft: Draft, bench: ImageWorkspace, *, say: Say, on_progress: OnProgress = ignore_progress
) -> BuildReport:
    """Build what *draft* plans; raises as :func:`build` does."""
    if request.engine != OCI and (request.output or request.sign):
        raise InvalidInput(
            f"--output and --sign cannot be used with --engine {request.engine}.",
            remedy="Leave out --output and --sign, or build with --engine oci.",
        )
    for line in draft.lines:
        say(line)
    report = _report(request, draft)
    if request.dry_run:
        return report
    with bench.engine(request.engine, draft.wheels, draft.project) as engine:
        image = engine.build(draft.plan, use_cache=request.use_cache, on_progress=on_progress)
        engine.verify(draft.plan, image)
        if request.engine == OCI:
            _document(bench.layout, draft, image, request.sign, on_progress)
        engine.commit(draft.plan, image)
    report = replace(
        report,
        digest=image.digest,
        image_id=image.image_id,
        layers=image.layers,
        verified=runs_here(draft.plan.environment.platform),
    )
    return _hand_over(report, image.digest, request, bench.layout, on_progress) if request.engine == OCI else report


@contextmanager
def drafted(
    request: BuildRequest, project: Project, bench: ImageWorkspace, *, on_progress: OnProgress = ignore_progress
) -> Iterator[Draft]:
    """Plan the build that *request* asks for; an exported release is deleted when the block ends."""
    platform = request.platform or this_platform()
    with _source(request, project) as (tree, version):
        pinned = environment_for(tree, bench, platform, force=request.force, on_progress=on_progress)
        selection = select_files(tree.project, tree.classifier, tree.project.root, tracked=tree.tracked)
        source = held_to_its_commit(tree, selection.untracked)
        name, hints = _name(request, source)
        registered = None if version is None else _registered(version)
        plan = plan_image(
            source.classifier,
            selection,
            origin=_origin(source),
            environment=pinned.environment,
            runtime=pinned.runtime,
            lock=pinned.lock,
            name=name,
            tags=_tags(source, version, latest=request.latest),
            engine=request.engine,
            version=registered,
        )
        yield Draft(
            plan=plan,
            project=source.project.root,
            wheels=pinned.wheels,
            lines=describe_plan(plan, selection, found=pinned.found),
            model=None if version is None else version.facts,
            hints=(
                *(*selection.hints, *hints, *pinned.hints, *_untagged(source), *_unused(request, source)),
                *_older(source, latest=request.latest),
            ),
        )


@contextmanager
def _source(request: BuildRequest, project: Project) -> Iterator[tuple[Source, VersionTree | None]]:
    git = GitPrograms()
    if request.model is not None:
        from mendel.app.images.version_source import version_source  # noqa: PLC0415 - only then the registry is needed

        with version_source(request.model, project, git) as found:
            yield found
        return
    tag = None if request.what is None else release_of(request.what)
    if tag is not None:
        with exported(tag, project, git) as source:
            yield source, None
        return
    yield working_tree(project, chosen_classifier(project, request.what), git), None


def _origin(source: Source) -> SourceRevision:
    release = source.release
    return SourceRevision(
        repository=source.repository,
        created=source.created,
        tag=None if release is None else release.tag,
        commit=source.commit,
        branch=source.branch,
        url=source.url,
        tool_url=None if release is None else release.details.tool_url,
        untracked=() if release is None else tuple(path for path, _ in release.details.untracked),
        changed=source.changed,
        maintainer=source.project.repository.maintainer,
        about=source.project.repository.description,
    )


def _name(request: BuildRequest, source: Source) -> tuple[ImageName, tuple[str, ...]]:
    settings = source.classifier.build
    return image_name(
        source.classifier.repository or source.repository,
        source.classifier.name,
        registry=request.registry or settings.registry,
        prefix=request.tag_prefix or settings.tag_prefix,
    )


def _tags(source: Source, version: VersionTree | None, *, latest: bool) -> tuple[str, ...]:
    released: SemVer | None = None if source.release is None else source.release.tag.version
    if version is not None:
        return model_tags(version.ref.number, released, source.commit)
    return image_tags(released, source.commit, latest=latest or source.release is None or source.release.newest)


def _registered(version: VersionTree) -> RegisteredVersion:
    return RegisteredVersion(ref=version.ref, artifact=version.digest, files=version_files(version.directory))


def _older(source: Source, *, latest: bool) -> tuple[str, ...]:
    if latest or source.release is None or source.release.newest:
        return ()
    return ("A newer release exists, so the tag latest stays where it is; --latest moves it to this image.",)


def _untagged(source: Source) -> tuple[str, ...]:
    return (f"The image is untagged: {source.why_untagged}.",) if source.release is None else ()


def _unused(request: BuildRequest, source: Source) -> tuple[str, ...]:
    """A hint for each file of Debian packages or source builds, which the builder ``oci`` ignores."""
    if request.engine != OCI:
        return ()
    asked = [name for name in (APT_FILE, SOURCES_FILE) if (source.project.root / name).is_file()]
    return tuple(f"{name} was ignored: only --engine docker, podman or buildah uses this file." for name in asked)


def _report(request: BuildRequest, draft: Draft) -> BuildReport:
    plan = draft.plan
    return BuildReport(
        classifier=plan.classifier,
        release=plan.labels.get("com.classifier.git_tag"),
        references=plan.references,
        labels=dict(plan.labels),
        engine=request.engine,
        platform=plan.environment.platform,
        reproducible=plan.labels["com.mendel.reproducible"] == "true",
        hints=draft.hints,
    )


def _document(layout: Layout, draft: Draft, image: BuiltImage, key: Path | None, on_progress: OnProgress) -> None:
    """Attach the bill of materials, provenance and signature, unless documents are attached and there is no key."""
    if key is None and layout.attachments(image.digest):
        return
    from mendel.app.images.attestations import attach_documents, read_wheel_facts  # noqa: PLC0415 - not where nothing changed

    plan = draft.plan
    with translated_write_errors(layout.directory, lost="the image has no name"):
        for venv in plan.venvs:  # layers may have come out of the cache without their wheels
            draft.wheels.fetch(
                venv.wheels, base=venv.base, platform=Platform.parse(plan.environment.platform), on_progress=on_progress
            )
        attach_documents(
            layout,
            layout.descriptor(image.digest),
            plan,
            key=key,
            model=draft.model,
            wheels=read_wheel_facts(plan, draft.wheels),
        )


def _hand_over(
    report: BuildReport, digest: Digest, request: BuildRequest, layout: Layout, on_progress: OnProgress
) -> BuildReport:
    """Write the tar file and load the image into an engine, as *request* asks."""
    if request.output is not None:
        from mendel.images.image_archives import write_archive  # noqa: PLC0415 - only where it is asked for

        on_progress(TaskProgress(doing=f"writing {request.output}"))
        with layout.growing():  # another build must not take it away meanwhile
            write_archive(layout, digest, report.references, request.output)
        report = replace(report, output=str(request.output))
    if request.load is False:
        return report
    from mendel.app.images.engine_load import engine_that_answers, load_image  # noqa: PLC0415 - engines are others' affair

    if report.platform != str(this_platform()):
        foreign = f"The image was not loaded: its platform is {report.platform}, and this machine is {this_platform()}."
        return replace(report, hints=(*report.hints, foreign)) if request.load else report
    engine = engine_that_answers(required=request.load is True)
    if engine is not None:
        load_image(engine, layout, digest, report.references, labels=report.labels, on_progress=on_progress)
        report = replace(report, loaded=engine)
    return report
