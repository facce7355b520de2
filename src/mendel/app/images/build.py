"""Builds an image: of a release, of the working tree, of a registered version."""

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
    What shall be built.

    Attributes:
        what: A classifier's name (the working tree) or a full release tag (what it says); None: the only classifier.
        model: A registered version, whose artefact goes into the image; its release says the code.
        load: Put it into an engine; None: where one answers.
        output: Also write it as a tar for ``docker load`` and ``podman load``.
        force: For a tag without a lock, made with another tool: use the installed runtime, labelled truthfully.
        sign: The file of a private key.
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
    force: bool = False
    sign: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """
    What became of a build.

    Attributes:
        digest: Of the manifest; None after a dry run.
        release: The full tag, None for an untagged image.
        reproducible: Building the same tag again gives the same digest, anywhere.
        verified: The predictor was imported in it; False for another processor's image.
        loaded: The engine that has it now.
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
        """Of all layers as they are pushed."""
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def unpacked_bytes(self) -> int:
        """Of all layers as they are run."""
        return sum(layer.unpacked_bytes for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """
    A plan with what it was made of.

    Attributes:
        project: The tree that is built; it is gone when the draft's block ends.
        lines: What is said before it is built.
    """

    plan: ImagePlan
    project: Path
    wheels: CachedWheels
    lines: tuple[str, ...]
    model: SbomModelFacts | None = None
    hints: tuple[str, ...] = ()


def build(request: BuildRequest, *, say: Say, on_progress: OnProgress = ignore_progress) -> BuildReport:
    """
    Plan, build, verify, and only then give names.

    Raises:
        BuildRefused, StaleLock, ReleaseNotFound, ProjectNotFound: It cannot be built as asked; nothing was made.
        ImageNotVerified: It was built, and the predictor cannot be imported in it; it has no name.
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
        raise InvalidInput(f"{request.engine} keeps its images itself.", remedy="Leave out --output and --sign.")
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
    """The plan of what is wished; an exported release is there until the block ends."""
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
            tags=_tags(source, version),
            engine=request.engine,
            version=registered,
        )
        yield Draft(
            plan=plan,
            project=source.project.root,
            wheels=pinned.wheels,
            lines=describe_plan(plan, selection, found=pinned.found),
            model=None if version is None else version.facts,
            hints=(*selection.hints, *hints, *pinned.hints, *_untagged(source), *_unused(request, source)),
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


def _tags(source: Source, version: VersionTree | None) -> tuple[str, ...]:
    released: SemVer | None = None if source.release is None else source.release.tag.version
    if version is not None:
        return model_tags(version.ref.number, released, source.commit)
    return image_tags(released, source.commit)


def _registered(version: VersionTree) -> RegisteredVersion:
    return RegisteredVersion(ref=version.ref, artifact=version.digest, files=version_files(version.directory))


def _untagged(source: Source) -> tuple[str, ...]:
    return (f"The image is untagged: {source.why_untagged}.",) if source.release is None else ()


def _unused(request: BuildRequest, source: Source) -> tuple[str, ...]:
    """What the tree asks of Debian and compilers, which our own builder does not do."""
    if request.engine != OCI:
        return ()
    asked = [name for name in (APT_FILE, SOURCES_FILE) if (source.project.root / name).is_file()]
    return tuple(f"{name} is for engines: --engine docker, podman or buildah; it was not looked at." for name in asked)


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
    """Attach what is said of the image; what is there already is not said again."""
    if key is None and layout.attachments(image.digest):
        return
    from mendel.app.images.attestations import attach_documents, read_wheel_facts  # noqa: PLC0415 - not where nothing changed

    plan, environment = draft.plan, draft.plan.environment
    with translated_write_errors(layout.directory, lost="the image has no name"):
        draft.wheels.fetch(  # layers may have come out of the cache without them
            (plan.runtime.wheel, *environment.wheels),
            base=environment.base,
            platform=Platform.parse(environment.platform),
            on_progress=on_progress,
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
    """Write the archive, and load the image into an engine, where that is wished."""
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
        foreign = f"It was not loaded: it is for {report.platform}, and this machine is {this_platform()}."
        return replace(report, hints=(*report.hints, foreign)) if request.load else report
    engine = engine_that_answers(required=request.load is True)
    if engine is not None:
        load_image(engine, layout, digest, report.references, labels=report.labels, on_progress=on_progress)
        report = replace(report, loaded=engine)
    return report
