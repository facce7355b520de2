"""Commands of images: build, list, push, run, verify, clean."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.app.cli.options import AsJson, ProjectPath, as_usage
from mendel.app.cli.output import ended_tidily, following, print_json, print_table, say, warn
from mendel.errors import InvalidInput

if TYPE_CHECKING:
    from mendel.app.images.build import BuildReport, BuildRequest
    from mendel.app.images.image_list import Kept
    from mendel.app.images.verify import ImageVerdict
    from mendel.images import LayerRecord, OnProgress
    from mendel.values import VersionRef

What = Annotated[
    str | None, typer.Option("--classifier", metavar="NAME|TAG", help="A classifier, or a full release tag.")
]
HeldModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME@N", help="The image that was built of a registered version.")
]


class Engine(StrEnum):
    """What builds."""

    OCI = "oci"
    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


class Runner(StrEnum):
    """What runs."""

    DOCKER = "docker"
    PODMAN = "podman"


def add_to(app: typer.Typer) -> None:
    """Add them."""
    for command in (build, images, push, run, verify, clean):
        app.command()(command)


@ended_tidily()
def build(
    *,
    classifier: What = None,
    model: Annotated[str | None, typer.Option(metavar="NAME@N", help="Build a registered version.")] = None,
    runtime: Annotated[bool, typer.Option("--runtime", help="Build Mendel's own server, without a project.")] = False,
    base: Annotated[str | None, typer.Option("--base", metavar="IMAGE", help="The base for --runtime.")] = None,
    engine: Annotated[Engine, typer.Option(help="oci is our own builder.")] = Engine.OCI,
    platform: Annotated[str | None, typer.Option(metavar="OS/ARCH", show_default="this machine's")] = None,
    registry: Annotated[str | None, typer.Option(metavar="HOST/PATH", help="Stands before the image's name.")] = None,
    tag_prefix: Annotated[str | None, typer.Option(help="Stands between registry and repository.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.tar", help="Also write it for docker or podman load.")
    ] = None,
    load: Annotated[
        bool | None, typer.Option("--load/--no-load", help="Put it into an engine.", show_default="where one answers")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Make every layer anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop before building.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Without a lock: take the installed runtime.")] = False,
    sign: Annotated[Path | None, typer.Option("--sign", metavar="KEY", help="Sign it with this private key.")] = None,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Build the image of a classifier: the working tree, or what a release tag says."""
    from mendel.app.images.build import BuildRequest  # noqa: PLC0415 - help must be quick
    from mendel.images import Platform  # noqa: PLC0415

    if sum((model is not None, classifier is not None, runtime)) > 1:
        raise typer.BadParameter("give one of --classifier, --model and --runtime")
    if base is not None and not runtime:
        raise typer.BadParameter("--base is for --runtime; a project names its base in build.base_image")
    with as_usage():
        wanted = None if platform is None else Platform.parse(platform)
    wish = BuildRequest(
        what=classifier,
        path=path,
        model=_held(model, classifier),
        engine=engine.value,
        platform=wanted,
        registry=registry,
        tag_prefix=tag_prefix,
        output=output,
        load=load,
        use_cache=not no_cache,
        dry_run=dry_run,
        force=force,
        sign=sign,
    )
    with following("Building ...") as on_progress:
        report = _built(wish, base, runtime=runtime, quiet=json, on_progress=on_progress)
    for hint in report.hints:
        warn(f"hint: {hint}")
    if json:
        print_json(report)
        return
    _show_built(report, dry_run=dry_run)


def images(*, classifier: What = None, path: ProjectPath = None, json: AsJson = False) -> None:
    """List this project's images: in its own layout, and in the engines that answer."""
    from mendel.app.images.image_list import project_images  # noqa: PLC0415 - help must be quick

    found = project_images(path, classifier)
    if json:
        print_json(found)
        return
    print_table(
        "Images",
        ("Image", "Digest", "Created", "Size", "Kept in"),
        (row for kept in found for row in _rows(kept)),
        empty="No image was built yet. Build one with: mendel build",
    )


@ended_tidily()
def push(
    *,
    registry: Annotated[str | None, typer.Option(metavar="HOST/PATH", help="Where to.")] = None,
    classifier: What = None,
    model: HeldModel = None,
    every: Annotated[bool, typer.Option("--all", help="Every classifier that has an image.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Let version tags move.")] = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Push exactly the tags that build made, byte for byte."""
    from mendel.app.images.push import PushRequest  # noqa: PLC0415 - help must be quick
    from mendel.app.images.push import push as push_images  # noqa: PLC0415

    wish = PushRequest(
        registry=registry, what=classifier, model=_held(model, classifier), every=every, path=path, force=force
    )
    with following("Pushing ...") as on_progress:
        published = push_images(wish, on_progress=on_progress)
    if json:
        print_json(published)
        return
    for one in published:
        for reference in one.references:
            say(f"✓ Pushed {reference}")
        say(f"  {one.digest}: {one.pushed_bytes / 1e6:.1f} MB sent, {one.skipped + one.mounted} blobs were there")


@ended_tidily()
def run(
    *,
    classifier: What = None,
    model: HeldModel = None,
    port: Annotated[int | None, typer.Option(help="On this machine.", show_default="the project's server.port")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running.")] = False,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=value", help="For the server.")] = None,
    volume: Annotated[list[str] | None, typer.Option("--volume", metavar="HERE:THERE[:ro]", help="Mount it.")] = None,
    runner: Annotated[Runner | None, typer.Option(help="The engine.", show_default="the first that answers")] = None,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Run a classifier's image, and say where once it is ready."""
    from mendel.app.images.run import RunImageRequest  # noqa: PLC0415 - help must be quick
    from mendel.app.images.run import run as run_image  # noqa: PLC0415

    wish = RunImageRequest(
        what=classifier,
        model=_held(model, classifier),
        path=path,
        port=port,
        runner=None if runner is None else runner.value,
        environment=dict(_variable(text) for text in env or ()),
        volumes=tuple(volume or ()),
    )
    with following("Starting ...") as on_progress:
        started = run_image(wish, on_progress=on_progress)
    if json:
        print_json(started.container)
    else:
        say(f"✓ {started.container.name} is ready: {started.container.url}")
        say(f"  {started.image.references[0]} {started.image.digest}")
    sys.stdout.flush()
    if detach:
        if not json:
            say(f"  Stop it with: {started.runner.name} stop {started.container.name}")
        return
    started.follow(warn)


@ended_tidily()
def verify(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A reference or digest, here or in a registry.")],
    *,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build its tag again and compare.")] = False,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PUB", help="The public key that must have signed.")
    ] = None,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Check an image's labels against its tag, its blobs and documents, and, built again, its bytes."""
    from mendel.app.images.verify import VerifyRequest  # noqa: PLC0415 - help must be quick
    from mendel.app.images.verify import verify as verify_image  # noqa: PLC0415

    with following("Verifying ...") as on_progress:
        verdict = verify_image(VerifyRequest(image=image, path=path, rebuild=rebuild, key=key), on_progress=on_progress)
    if json:
        print_json({"holds": verdict.holds, "verdict": verdict})
    else:
        _show_verdict(verdict)
    if not verdict.holds:
        raise SystemExit(1)


def clean(
    *,
    classifier: What = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Remove this project's images, matched by label; asks first."""
    from mendel.app.images.image_list import project_images, remove_images  # noqa: PLC0415 - help must be quick

    found = project_images(path, classifier)
    if not found:
        if json:
            print_json({"removed": []})
            return
        say("There is nothing to remove.")
        return
    if not yes:
        for kept in found:
            warn(f"  {', '.join(kept.image.references)} ({kept.where})")
        if json or not sys.stdin.isatty():
            raise InvalidInput(f"{len(found)} images would be removed.", remedy="Say so with --yes.")
        typer.confirm(f"Remove these {len(found)} images?", abort=True)
    remove_images(path, found)
    if json:
        print_json({"removed": found})
        return
    for kept in found:
        say(f"✓ Removed {', '.join(kept.image.references)} ({kept.where})")


def _built(wish: BuildRequest, base: str | None, *, runtime: bool, quiet: bool, on_progress: OnProgress) -> BuildReport:
    said = (lambda _: None) if quiet else say
    if runtime:
        from mendel.app.images.runtime_image import build_runtime  # noqa: PLC0415 - help must be quick

        return build_runtime(wish, base, say=said, on_progress=on_progress)
    from mendel.app.images.build import build  # noqa: PLC0415

    return build(wish, say=said, on_progress=on_progress)


def _show_built(report: BuildReport, *, dry_run: bool) -> None:
    for reference in report.references:
        say(f"  {reference}")
    if dry_run:
        say("Nothing was built.")
        return
    say()
    say(f"✓ Built {report.digest}")
    say(f"  image id  {report.image_id}")
    if report.layers:
        say(f"  size      {report.size_bytes / 1e6:.1f} MB, {report.unpacked_bytes / 1e6:.0f} MB unpacked")
        say(f"  layers    {_layers(report.layers)}")
    if not report.verified:
        say(f"  not verified: {report.platform} does not run on this machine")
    say(f"  {'reproducible from its tag' if report.reproducible else 'not reproducible from a tag'}")
    if report.loaded is not None:
        say(f"  loaded    into {report.loaded}")
    if report.output is not None:
        say(f"  written   to {report.output}")
    say(f"  {report.seconds:.1f} s")


def _layers(layers: tuple[LayerRecord, ...]) -> str:
    made = [layer for layer in layers if not layer.reused]
    if not made:
        return f"{len(layers)}, all of them there already"
    return f"{len(layers)}, new: {', '.join(dict.fromkeys(layer.part.value for layer in made))}"


def _show_verdict(verdict: ImageVerdict) -> None:
    say(f"{verdict.image} is {verdict.digest}")
    say(f"  release    {verdict.release or 'none'}")
    say(f"  labels     {'belong to it' if not verdict.label_faults else ''}".rstrip())
    for fault in verdict.label_faults:
        say(f"    ✗ {fault}")
    for finding in verdict.documents.findings:
        say(f"  {finding.document:<10} {finding.verdict.value}: {finding.says}")
    if verdict.rebuilt is not None:
        same = verdict.rebuilt == verdict.digest
        say(f"  rebuilt    {'the same digest' if same else verdict.rebuilt}")
        for difference in verdict.differences:
            say(f"    ✗ {difference}")
    say("✓ It holds." if verdict.holds else "✗ It does not hold.")


def _rows(kept: Kept) -> list[tuple[str, ...]]:
    image = kept.image
    rest = (str(image.digest), f"{image.created:%Y-%m-%d %H:%M:%S}", f"{image.size_bytes / 1e6:.1f} MB", kept.where)
    return [(reference, *rest) for reference in image.references]


def _held(model: str | None, classifier: str | None) -> VersionRef | None:
    from mendel.values import VersionRef  # noqa: PLC0415 - help must be quick

    if model is None:
        return None
    if classifier is not None:
        raise typer.BadParameter("give --classifier or --model, not both")
    with as_usage():
        return VersionRef.parse(model)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=value")
    return name, value
