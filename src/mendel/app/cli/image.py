"""Commands on images: build, list, push, run, verify, clean."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.options import AsJson, DryRun, ProjectPath, as_usage, parse_version
from mendel.app.cli.output import Result, emit, ended_tidily, following, say, warn
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import IMAGES
from mendel.errors import InvalidInput

if TYPE_CHECKING:
    from mendel.adapters.oci.registry.push import Published
    from mendel.app.images.build import BuildReport, BuildRequest
    from mendel.app.images.verify import ImageVerdict
    from mendel.images import LayerRecord, OnProgress

Built = Annotated[
    str | None, option("--classifier", metavar="NAME|TAG", help="Name of a classifier, or a full release tag.")
]
BuiltModel = Annotated[
    str | None, option("--model", metavar="NAME@N", help="Use the image built from this registered version.")
]
MoveLatest = Annotated[
    bool, option("--latest", help="Move the tag latest to this image even if a newer release exists.")
]

_UNPROVED = 3
"""The exit code of ``verify`` if no check fails, but nothing proves the image."""


@ended_tidily()
def build(
    *,
    classifier: Built = None,
    model: Annotated[str | None, option(metavar="NAME@N", help="Build the image of this registered version.")] = None,
    runtime: Annotated[
        bool, option("--runtime", help="Build the image of Mendel's own server, without a project.")
    ] = False,
    base: Annotated[str | None, option(metavar="IMAGE", help="The base image for --runtime.")] = None,
    engine: Annotated[
        str,
        option(
            choices=("oci", "docker", "podman", "buildah"),
            help="The program that builds the image; oci is Mendel's own builder.",
        ),
    ] = "oci",
    platform: Annotated[
        str | None, option(metavar="OS/ARCH", help="Build for this platform.", show_default="this machine's")
    ] = None,
    registry: Annotated[
        str | None,
        option(
            metavar="HOST/PATH", help="The registry that the image's name begins with; overrides the project's setting."
        ),
    ] = None,
    tag_prefix: Annotated[
        str | None,
        option(
            metavar="PATH",
            help="The path between registry and repository in the image's name; overrides the project's setting.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            metavar="FILE.tar",
            help="Also write the image to this tar file, for 'docker load' or 'podman load'.",
        ),
    ] = None,
    load: Annotated[
        bool | None,
        option(
            "--load/--no-load", help="Load the image into docker or podman.", show_default="load if an engine answers"
        ),
    ] = None,
    no_cache: Annotated[bool, option("--no-cache", help="Build every layer again, without cached layers.")] = False,
    dry_run: DryRun = False,
    force: Annotated[
        bool,
        option(
            "--force", help="Build with the installed Mendel even if the release tag or mlserver.lock requires another."
        ),
    ] = False,
    sign: Annotated[
        Path | None, option(metavar="KEY", help="Sign the image with the private key in this file.")
    ] = None,
    latest: MoveLatest = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> Result:
    """Build the image of a release or of the working tree."""
    from mendel.app.images.build import BuildRequest  # noqa: PLC0415 - help must be quick
    from mendel.images import Platform  # noqa: PLC0415

    if sum((model is not None, classifier is not None, runtime)) > 1:
        raise click.BadParameter("give only one of --classifier, --model and --runtime")
    if base is not None and not runtime:
        raise click.BadParameter(
            "--base can only be used with --runtime; a project sets its base image in build.base_image of mlserver.yaml"
        )
    with as_usage():
        wanted = None if platform is None else Platform.parse(platform)
    request = BuildRequest(
        what=classifier,
        path=path,
        model=parse_version(model, classifier),
        engine=engine,
        platform=wanted,
        registry=registry,
        tag_prefix=tag_prefix,
        output=output,
        load=load,
        use_cache=not no_cache,
        dry_run=dry_run,
        force=force,
        latest=latest,
        sign=sign,
    )
    announce = (lambda _: None) if json else say
    with following("Building") as on_progress:
        report = _build(request, base, runtime=runtime, announce=announce, on_progress=on_progress)
    for hint in report.hints:
        warn(f"hint: {hint}")
    return Result(report, _build_lines(report, dry_run=dry_run))


def list_images(*, classifier: Built = None, path: ProjectPath = None) -> Result:
    """
    List this project's images.

    The list holds the images in the OCI layout directory of the project, and the images in docker and podman.
    """
    from mendel.app.images.image_list import project_images  # noqa: PLC0415 - help must be quick

    found = project_images(path, classifier)
    return Result(found, [IMAGES.grid((name, kept) for kept in found for name in kept.image.references)])


@ended_tidily()
def push(
    *,
    registry: Annotated[
        str | None, option(metavar="HOST/PATH", help="The registry to push to; overrides the project's setting.")
    ] = None,
    classifier: Built = None,
    model: BuiltModel = None,
    every: Annotated[bool, option("--all", help="Push the newest image of every classifier.")] = False,
    force: Annotated[
        bool, option("--force", help="Overwrite version tags that name another image in the registry.")
    ] = False,
    latest: MoveLatest = False,
    path: ProjectPath = None,
) -> Result:
    """Push the images and tags that 'mendel build' made."""
    from mendel.app.images.push import PushRequest  # noqa: PLC0415 - help must be quick
    from mendel.app.images.push import push as push_images  # noqa: PLC0415

    request = PushRequest(
        registry=registry,
        what=classifier,
        model=parse_version(model, classifier),
        every=every,
        path=path,
        force=force,
        latest=latest,
    )
    with following("Pushing") as on_progress:
        published = push_images(request, on_progress=on_progress)
    return Result(published, _push_lines(published))


@ended_tidily()
def run(
    *,
    classifier: Built = None,
    model: BuiltModel = None,
    port: Annotated[
        int | None,
        option(metavar="PORT", help="The port of this machine to listen on.", show_default="the project's server.port"),
    ] = None,
    name: Annotated[
        str | None, option(metavar="NAME", help="The container's name.", show_default="the classifier's name")
    ] = None,
    detach: Annotated[bool, option("--detach", "-d", help="Return and leave the container running.")] = False,
    env: Annotated[
        list[str] | None,
        option("--env", "-e", metavar="NAME=value", help="Set an environment variable of the server; may be repeated."),
    ] = None,
    volume: Annotated[
        list[str] | None,
        option(
            metavar="HERE:THERE[:ro]",
            help="Mount the path HERE of this machine at the path THERE in the container; may be repeated.",
        ),
    ] = None,
    runner: Annotated[
        str | None,
        option(
            choices=("docker", "podman"), help="The engine that runs the image.", show_default="the first that answers"
        ),
    ] = None,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """
    Run an image, and print its URL once it is ready.

    The image runs with docker or podman. See `mendel runs` for runs of playbooks.
    """
    from mendel.app.images.run import RunImageRequest  # noqa: PLC0415 - help must be quick
    from mendel.app.images.run import run as run_image  # noqa: PLC0415

    request = RunImageRequest(
        what=classifier,
        model=parse_version(model, classifier),
        path=path,
        port=port,
        name=name,
        runner=runner,
        environment=dict(_variable(text) for text in env or ()),
        volumes=tuple(volume or ()),
    )
    with following("Starting") as on_progress:
        started = run_image(request, on_progress=on_progress)
    made = started.container.name
    text = [f"✓ {made} is ready: {started.container.url}", f"  {started.image.references[0]} {started.image.digest}"]
    if detach:
        text.append(f"  Stop it with: {started.runner.name} stop {made}")
    emit(Result(started.container, text), as_json=json)
    sys.stdout.flush()
    if not detach:
        started.follow(warn)


@ended_tidily()
def verify(
    image: Annotated[
        str, argument("IMAGE", "Reference or digest of an image that was built here or is in a registry.")
    ],
    *,
    rebuild: Annotated[
        bool,
        option(
            "--rebuild", help="Build the image's release tag again, without cached layers, and compare the digests."
        ),
    ] = False,
    key: Annotated[
        Path | None, option(metavar="PUB", help="Public key file; fail unless the image is signed with this key.")
    ] = None,
    path: ProjectPath = None,
) -> Result:
    """
    Check an image's labels, contents and signature.

    The command compares the labels with the release tag, the project files in the image with the image's list of files,
    and every stored blob with its digest. The attached documents (bill of materials, provenance, signature) must
    describe this image. The exit code is 0 if a signature (--key) or a rebuild proves the image, 1 if a check fails,
    and 3 if no check fails but nothing proves the image.
    """
    from mendel.app.images.verify import VerifyRequest  # noqa: PLC0415 - help must be quick
    from mendel.app.images.verify import verify as verify_image  # noqa: PLC0415

    request = VerifyRequest(image=image, path=path, rebuild=rebuild, key=key)
    with following("Verifying") as on_progress:
        verdict = verify_image(request, on_progress=on_progress)
    found = {"holds": verdict.holds, "unproved": verdict.unproved, "verdict": verdict}
    return Result(found, _verdict_lines(verdict), exit_code=_exit_code(verdict))


def clean(
    *,
    classifier: Built = None,
    yes: Annotated[bool, option("--yes", "-y", help="Remove without asking.")] = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> Result:
    """
    Remove this project's images after confirmation.

    Images are matched by their labels, never by their names.
    """
    from mendel.app.images.image_list import project_images, remove_images  # noqa: PLC0415 - help must be quick

    found = project_images(path, classifier)
    if not found:
        return Result({"removed": []}, ["The project has no images to remove."])
    if not yes:
        for kept in found:
            warn(f"  {', '.join(kept.image.references)} ({kept.where})")
        if json or not sys.stdin.isatty():
            raise InvalidInput(
                f"{len(found)} images were not removed: confirmation is missing.", remedy="Confirm with --yes."
            )
        click.confirm(f"Remove these {len(found)} images?", abort=True)
    remove_images(path, found)
    text = (f"✓ Removed {', '.join(kept.image.references)} ({kept.where})" for kept in found)
    return Result({"removed": found}, text)


def _build(
    request: BuildRequest,
    base: str | None,
    *,
    runtime: bool,
    announce: Callable[[str], None],
    on_progress: OnProgress,
) -> BuildReport:
    if runtime:
        from mendel.app.images.runtime_image import build_runtime  # noqa: PLC0415 - help must be quick

        return build_runtime(request, base, say=announce, on_progress=on_progress)
    from mendel.app.images.build import build  # noqa: PLC0415

    return build(request, say=announce, on_progress=on_progress)


def _build_lines(report: BuildReport, *, dry_run: bool) -> Iterator[str]:
    yield from (f"  {reference}" for reference in report.references)
    if dry_run:
        yield "Nothing was built."
        return
    yield ""
    yield f"✓ Built {report.digest}"
    yield f"  image id  {report.image_id}"
    if report.layers:
        yield f"  size      {report.size_bytes / 1e6:.1f} MB, {report.unpacked_bytes / 1e6:.0f} MB unpacked"
        yield f"  layers    {_layers(report.layers)}"
    if not report.verified:
        yield f"  not verified: an image for {report.platform} cannot run on this machine"
    yield f"  {'reproducible from its tag' if report.reproducible else 'not reproducible from a tag'}"
    if report.loaded is not None:
        yield f"  loaded    into {report.loaded}"
    if report.output is not None:
        yield f"  written   to {report.output}"
    yield f"  {report.seconds:.1f} s"


def _layers(layers: tuple[LayerRecord, ...]) -> str:
    made = [layer for layer in layers if not layer.reused]
    if not made:
        return f"{len(layers)}, all from the cache"
    return f"{len(layers)}, new: {', '.join(dict.fromkeys(layer.part.value for layer in made))}"


def _push_lines(published: tuple[Published, ...]) -> Iterator[str]:
    for one in published:
        yield from (f"✓ Pushed {reference}" for reference in one.references)
        if one.kept:
            yield f"  {one.kept} stays at a newer release (--latest moves it)"
        yield (
            f"  {one.digest}: {one.pushed_bytes / 1e6:.1f} MB sent, {one.skipped + one.mounted} blobs were "
            "already in the registry"
        )


def _verdict_lines(verdict: ImageVerdict) -> Iterator[str]:
    yield f"{verdict.image} is {verdict.digest}"
    yield f"  read from  {verdict.source}"
    yield f"  platform   {verdict.platform}, the only one that was checked"
    yield f"  release    {verdict.release or 'none'}"
    match = "match the release" if verdict.release else "state no release"
    yield f"  labels     {match if not verdict.label_faults else ''}".rstrip()
    yield from (f"    ✗ {fault}" for fault in verdict.label_faults)
    if verdict.listed:
        yield f"  files      {'as the image lists them' if not verdict.file_faults else ''}".rstrip()
    yield from (f"    ✗ {fault}" for fault in verdict.file_faults)
    for finding in verdict.documents.findings:
        yield f"  {finding.document:<10} {finding.verdict.value}: {finding.says}"
    if verdict.rebuilt is not None:
        same = verdict.rebuilt == verdict.digest
        yield f"  rebuilt    {'the same digest' if same else verdict.rebuilt}"
        yield from (f"    ✗ {difference}" for difference in verdict.differences)
    if verdict.contradicted:
        yield "✗ The image is not verified."
    elif not verdict.unproved:
        yield "✓ The image is verified."
    else:
        yield "? Nothing contradicts the image, but these claims are unproved:"
        yield from (f"    - {claim}" for claim in verdict.unproved)


def _exit_code(verdict: ImageVerdict) -> int:
    if verdict.contradicted:
        return 1
    return _UNPROVED if verdict.unproved else 0


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=value")
    return name, value
