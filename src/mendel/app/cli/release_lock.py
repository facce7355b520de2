"""`mendel lock`: pin the requirements and base images of a project's images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.options import ClassifierName, Platforms, ProjectPath, parse_platforms
from mendel.app.cli.output import Result, ended_tidily, following, warn
from mendel.app.cli.parameters import option
from mendel.errors import StaleLock

if TYPE_CHECKING:
    from mendel.app.images.lockfile import LockChange
    from mendel.images import Lock, Platform, RuntimePin
    from mendel.projects import Project


@ended_tidily()
def lock(
    *,
    classifier: ClassifierName = None,
    platform: Platforms = None,
    upgrade: Annotated[
        bool, option("--upgrade", help="Pin the newest versions instead of keeping the pins of mlserver.lock.")
    ] = False,
    check: Annotated[bool, option("--check", help="Exit 1 if mlserver.lock is out of date; change nothing.")] = False,
    vendor: Annotated[
        bool, option("--vendor", help="Copy every wheel into mlserver.wheels/, for you to commit.")
    ] = False,
    path: ProjectPath = None,
) -> Result:
    """Pin requirements and base image in mlserver.lock."""
    from mendel.app.project.project_file_schema import require_policies  # noqa: PLC0415 - help must be quick
    from mendel.projects import load_project  # noqa: PLC0415

    if check and (upgrade or vendor):
        raise click.BadParameter("--check cannot be combined with --upgrade or --vendor")
    wanted = parse_platforms(platform)
    project = load_project(path or Path.cwd())
    require_policies(project)
    names = project.names if classifier is None else (project.classifier(classifier).name,)
    if check:
        return _check(project, names, wanted)
    return _lock(project, names, wanted, upgrade=upgrade, vendor=vendor)


def _lock(
    project: Project, names: Sequence[str], platforms: Sequence[Platform], *, upgrade: bool, vendor: bool
) -> Result:
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
    with following("Locking") as on_progress:
        made = locking_for(wheels, bases_for(places), on_progress=on_progress).make_lock(
            project, platforms=wanted, classifiers=names, former=former, upgrade=upgrade, on_progress=on_progress
        )
        brought = bring_wheels(project.root, made, wheels, every=vendor, on_progress=on_progress)
    changed = write_lock(project.root, made)
    dropped = drop_wheels(project.root, former, made)
    changes = changes_between(former, made)
    hints = _hints(project, names)
    if made.runtime.dirty:
        warn("warning: the git checkout of Mendel has uncommitted changes; images will contain these changes.")
    for hint in hints:
        warn(f"hint: {hint}")
    files = {"brought": brought, "dropped": dropped}
    value = {"changed": changed, "changes": changes, "wheels": files, "hints": hints, "lock": made}
    text = chain(
        _change_lines(changes), _lock_lines(project, made, changed=changed), _file_lines(brought, dropped, made.runtime)
    )
    return Result(value, text)


def _check(project: Project, names: Sequence[str], platforms: Sequence[Platform]) -> Result:
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
    if not same_tool:
        warn(
            f"hint: mlserver.lock pins Mendel {(found.runtime.commit or 'unknown')[:7]}, but Mendel "
            f"{tool.short} is installed."
        )
    return Result(
        {"fresh": True, "digest": found.digest, "same_tool": same_tool},
        [f"✓ mlserver.lock is up to date for {', '.join(names)}."],
    )


def _hints(project: Project, names: Sequence[str]) -> tuple[str, ...]:
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.images.lockfile import requirements_of  # noqa: PLC0415
    from mendel.app.project.shared_bases import hint_of, unshared_bases  # noqa: PLC0415

    found = [hint for name in names for hint in requirements_of(project, project.classifier(name)).hints]
    if bases := unshared_bases(project, GitPrograms(), names):
        found.append(hint_of(bases))
    return tuple(dict.fromkeys((*project.hints, *found)))


def _change_lines(changes: Sequence[LockChange]) -> Iterator[str]:
    for change in changes:
        sign = "+" if change.before is None else "-" if change.after is None else "~"
        versions = (version for version in (change.before, change.after) if version is not None)
        yield f"  {sign} {change.name} {' → '.join(versions)}"


def _lock_lines(project: Project, made: Lock, *, changed: bool) -> Iterator[str]:
    from mendel.app.images.lockfile import total_bytes  # noqa: PLC0415 - help must be quick
    from mendel.images import render_size  # noqa: PLC0415

    yield f"{'✓ Wrote' if changed else '✓ Nothing changed in'} {project.root / 'mlserver.lock'}"
    for env in made.environments:
        of_mendel, *of_project = (f"{len(wheels)} wheels on Python {base.python}" for base, wheels in env.parts)
        wheels = " and ".join([*of_project, f"{of_mendel} for Mendel"]) if of_project else of_mendel
        yield f"  {', '.join(env.classifiers)} on {env.platform}: {wheels}, {env.base.reference}"
    own = (made.runtime.commit or "of unknown commit")[:7]
    yield f"  {render_size(total_bytes(made))} of wheels in all; Mendel {own}"


def _file_lines(brought: Sequence[str], dropped: Sequence[str], runtime: RuntimePin) -> Iterator[str]:
    yield from (f"  - mlserver.wheels/{name}" for name in dropped)
    yield from (f"  + mlserver.wheels/{name}" for name in brought)
    if runtime.wheel.filename in brought:
        yield "  Commit mlserver.lock and mlserver.wheels: no package index has this build of Mendel."
