"""Commands that pin what images are made of: the lock, and a base image of Debian packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.app.cli.options import AsJson, ClassifierName, ProjectPath, as_usage
from mendel.app.cli.output import ended_tidily, following, print_json, say, warn
from mendel.errors import InvalidInput, ProjectNotFound, StaleLock

if TYPE_CHECKING:
    from mendel.images import Lock, Platform, RuntimePin
    from mendel.projects import Project

_ARCHIVE = ".tar"

Platforms = Annotated[
    list[str] | None,
    typer.Option("--platform", metavar="OS/ARCH", help="linux/amd64 or linux/arm64; may be repeated."),
]


def add_to(app: typer.Typer) -> None:
    """Add them."""
    app.command("lock")(lock)
    app.command("base")(base)


@ended_tidily()
def lock(
    *,
    classifier: ClassifierName = None,
    platform: Platforms = None,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest versions; keep no pin.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the lock is stale: exit code 1.")] = False,
    vendor: Annotated[
        bool, typer.Option("--vendor", help="Copy every wheel into mlserver.wheels/, to commit.")
    ] = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Resolve requirements and base image into mlserver.lock."""
    from mendel.app.project.schema import require_policies  # noqa: PLC0415 - help must be quick
    from mendel.projects import load_project  # noqa: PLC0415

    if check and (upgrade or vendor):
        raise typer.BadParameter("--check changes nothing; give it alone, or --upgrade and --vendor")
    wanted = _platforms(platform)
    project = load_project(path or Path.cwd())
    require_policies(project)
    names = project.names if classifier is None else (project.classifier(classifier).name,)
    if check:
        _check(project, names, wanted, json=json)
        return
    _lock(project, names, wanted, upgrade=upgrade, vendor=vendor, json=json)


@ended_tidily()
def base(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="DIR|FILE.tar", help="Where it goes.", show_default="the project's .mendel/base"
        ),
    ] = None,
    suite: Annotated[str, typer.Option(help="Debian's release.")] = "bookworm",
    include: Annotated[list[str] | None, typer.Option("--include", metavar="PKG", help="One more package.")] = None,
    mirror: Annotated[list[str] | None, typer.Option("--mirror", metavar="URL", help="Where packages are.")] = None,
    mode: Annotated[str, typer.Option(help="Of mmdebstrap: auto, root, unshare, fakechroot.")] = "auto",
    platform: Platforms = None,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Make a minimal base image from Debian packages; needs mmdebstrap and a mirror, no registry."""
    from mendel.adapters.debian import BaseRecipe  # noqa: PLC0415 - help must be quick
    from mendel.adapters.oci.layout.layout import Layout  # noqa: PLC0415
    from mendel.app.images.base_making import make_base  # noqa: PLC0415
    from mendel.app.images.cache_directories import this_platform  # noqa: PLC0415
    from mendel.images import render_size  # noqa: PLC0415

    platforms = _platforms(platform) or (this_platform(),)
    with as_usage():
        recipe = BaseRecipe(
            platforms=platforms, suite=suite, include=tuple(include or ()), mirrors=tuple(mirror or ()), mode=mode
        )
    root = _project_root(path)
    target = output or root / ".mendel" / "base"
    with following("Making a base ...") as on_progress, _layout_for(target, platforms) as directory:
        made = make_base(recipe, Layout(directory), name="base", on_progress=on_progress)
        if target.suffix == _ARCHIVE:
            from mendel.images.image_archives import write_archive  # noqa: PLC0415

            write_archive(Layout(directory), made.digest, ["base"], target)
    kind = "oci-archive" if target.suffix == _ARCHIVE else "oci"
    reference = f"{kind}:{_relative(target, root)}"
    if json:
        print_json({"base_image": reference, "made": made})
        return
    say(f"✓ Made a base of Debian {suite} for {', '.join(map(str, platforms))}: {target}")
    packed, unpacked = render_size(made.size_bytes), render_size(made.unpacked_bytes)
    say(f"  {len(made.packages)} packages, {packed} compressed, {unpacked} unpacked")
    say(f"  {made.digest}")
    say()
    say("Put it into mlserver.yaml:")
    say("  build:")
    say(f"    base_image: {reference}")


def _lock(
    project: Project, names: Sequence[str], platforms: Sequence[Platform], *, upgrade: bool, vendor: bool, json: bool
) -> None:
    from mendel.app.images.bases import bases_for  # noqa: PLC0415 - help must be quick
    from mendel.app.images.cache_directories import places_of, this_platform  # noqa: PLC0415
    from mendel.app.images.lockfile import (  # noqa: PLC0415
        bring_wheels,
        changes_between,
        drop_wheels,
        locking_for,
        read_lock,
        wheels_for,
        write_lock,
    )

    places = places_of(project.root)
    former = read_lock(project.root)
    wanted = platforms or ((this_platform(),) if former is None else ())
    wheels = wheels_for(places)
    with following("Locking ...") as on_progress:
        made = locking_for(wheels, bases_for(places), on_progress=on_progress).make_lock(
            project, platforms=wanted, classifiers=names, former=former, upgrade=upgrade, on_progress=on_progress
        )
        brought = bring_wheels(project.root, made, wheels, every=vendor, on_progress=on_progress)
    changed = write_lock(project.root, made)
    dropped = drop_wheels(project.root, former, made)
    hints = _hints(project, names)
    changes = changes_between(former, made)
    if json:
        files = {"brought": brought, "dropped": dropped}
        print_json({"changed": changed, "changes": changes, "wheels": files, "hints": hints, "lock": made})
        return
    for change in changes:
        say(f"  {_sign(change.before, change.after)} {change.name} {_versions(change.before, change.after)}")
    _tell_whole(project, made, changed=changed)
    _tell_files(brought, dropped, made.runtime)
    for hint in hints:
        warn(f"hint: {hint}")


def _check(project: Project, names: Sequence[str], platforms: Sequence[Platform], *, json: bool) -> None:
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.images.lockfile import check_fresh, read_lock  # noqa: PLC0415
    from mendel.app.images.runtime_wheel import runtime_source  # noqa: PLC0415
    from mendel.app.project.installed_tool import this_tool  # noqa: PLC0415
    from mendel.images import Platform  # noqa: PLC0415

    found = read_lock(project.root)
    if found is None:
        raise StaleLock(f"{project.root} has no mlserver.lock.", remedy="Run: mendel lock")
    tool = this_tool()
    same_tool = tool.commit is not None and tool.commit == found.runtime.commit
    own = runtime_source(tool, GitPrograms()).requirements if same_tool else None
    locked = [Platform.parse(text) for text in sorted({env.platform for env in found.environments})]
    for platform in platforms or locked:
        for name in names:
            check_fresh(found, project, name, platform, own=own)
    if json:
        print_json({"fresh": True, "digest": found.digest, "same_tool": same_tool})
        return
    say(f"✓ mlserver.lock is what {', '.join(names)} ask{'s' if len(names) == 1 else ''} for.")
    if not same_tool:
        warn(f"hint: it pins Mendel {(found.runtime.commit or 'unknown')[:7]}; installed is {tool.short}.")


def _hints(project: Project, names: Sequence[str]) -> tuple[str, ...]:
    from mendel.app.images.lockfile import requirements_of  # noqa: PLC0415 - help must be quick

    found = (hint for name in names for hint in requirements_of(project, project.classifier(name)).hints)
    return tuple(dict.fromkeys((*project.hints, *found)))


def _tell_whole(project: Project, made: Lock, *, changed: bool) -> None:
    from mendel.app.images.lockfile import total_bytes  # noqa: PLC0415 - help must be quick
    from mendel.images import render_size  # noqa: PLC0415

    say(f"{'✓ Wrote' if changed else '✓ Nothing changed in'} {project.root / 'mlserver.lock'}")
    for env in made.environments:
        say(
            f"  {', '.join(env.classifiers)} on {env.platform}: {len(env.wheels)} wheels, "
            f"Python {env.base.python}, {env.base.reference}"
        )
    own = (made.runtime.commit or "of unknown commit")[:7]
    say(f"  {render_size(total_bytes(made))} of wheels in all; Mendel {own}")


def _tell_files(brought: Sequence[str], dropped: Sequence[str], runtime: RuntimePin) -> None:
    for name in dropped:
        say(f"  - mlserver.wheels/{name}")
    for name in brought:
        say(f"  + mlserver.wheels/{name}")
    if runtime.wheel.filename in brought:
        say("  Commit mlserver.lock and mlserver.wheels: no index has this build of Mendel.")
    if runtime.dirty:
        warn("warning: this checkout of Mendel has changes; its commit alone does not say what images will hold.")


def _platforms(given: list[str] | None) -> tuple[Platform, ...]:
    from mendel.images import Platform  # noqa: PLC0415 - help must be quick

    with as_usage():
        return tuple(dict.fromkeys(Platform.parse(text) for text in given or ()))


@contextmanager
def _layout_for(target: Path, platforms: Sequence[Platform]) -> Iterator[Path]:
    """The directory of the layout: *target* itself, or one that vanishes where an archive is asked for."""
    if target.suffix != _ARCHIVE:
        yield target
        return
    if len(platforms) > 1:
        raise InvalidInput("An archive holds one platform.", remedy="Give a directory, or one --platform.")
    import tempfile  # noqa: PLC0415

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mendel-base-", dir=target.parent) as scratch:
        yield Path(scratch)


def _project_root(path: Path | None) -> Path:
    """Where the project is; a base can be made before there is one, but not for one that was named and is not there."""
    from mendel.projects import find_project_file  # noqa: PLC0415 - help must be quick

    try:
        return find_project_file(path or Path.cwd()).parent
    except ProjectNotFound:
        if path is not None:
            raise
        return Path.cwd()


def _relative(target: Path, root: Path) -> str:
    whole = target.absolute()
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else str(whole)


def _sign(before: str | None, after: str | None) -> str:
    return "+" if before is None else "-" if after is None else "~"


def _versions(before: str | None, after: str | None) -> str:
    return " → ".join(version for version in (before, after) if version is not None)
