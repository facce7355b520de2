"""`mendel base`: a base image of Debian packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import ClassifierName, Platforms, ProjectPath, as_usage, parse_platforms
from mendel.app.cli.output import Result, ended_tidily, following
from mendel.app.cli.parameters import option
from mendel.errors import InvalidInput, ProjectNotFound

if TYPE_CHECKING:
    from mendel.adapters.debian import BaseRecipe
    from mendel.app.images.base_making import MadeBase
    from mendel.images import BasePin, OnProgress, Platform

_ARCHIVE = ".tar"


@ended_tidily()
def make(
    *,
    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            metavar="DIR|FILE.tar",
            help="Write the base image to this directory or tar file.",
            show_default="the project's .mendel/base",
        ),
    ] = None,
    suite: Annotated[
        str,
        option(metavar="NAME", help="The release of Debian; bullseye has Python 3.9, and a newer Python for Mendel."),
    ] = "bookworm",
    include: Annotated[
        list[str] | None, option(metavar="PKG", help="Also install this package; may be repeated.")
    ] = None,
    mirror: Annotated[
        list[str] | None, option(metavar="URL", help="Take packages from this Debian mirror; may be repeated.")
    ] = None,
    mode: Annotated[
        str, option(metavar="MODE", help="The mode of mmdebstrap: auto, root, unshare or fakechroot.")
    ] = "auto",
    platform: Platforms = None,
    path: ProjectPath = None,
) -> Result:
    """
    Make a minimal base image from Debian packages.

    The command needs mmdebstrap and a Debian mirror, but no image registry.
    """
    from mendel.adapters.debian import BaseRecipe  # noqa: PLC0415 - help must be quick
    from mendel.app.images.cache_directories import this_platform  # noqa: PLC0415

    platforms = parse_platforms(platform) or (this_platform(),)
    with as_usage():
        recipe = BaseRecipe(
            platforms=platforms, suite=suite, include=tuple(include or ()), mirrors=tuple(mirror or ()), mode=mode
        )
    root = _project_root(path)
    target = output or root / ".mendel" / "base"
    with following("Making a base") as on_progress:
        made = _make(recipe, target, on_progress)
    kind = "oci-archive" if target.suffix == _ARCHIVE else "oci"
    base_image = f"{kind}:{_relative(target, root)}"
    return Result({"base_image": base_image, "made": made}, _base_lines(made, base_image, recipe, target))


@ended_tidily()
def export(
    *,
    output: Annotated[Path, option("--output", "-o", metavar="FILE.tar", help="Write the base image to this file.")],
    classifier: ClassifierName = None,
    platform: Annotated[
        str | None, option(metavar="OS/ARCH", help="The platform.", show_default="this machine's")
    ] = None,
    path: ProjectPath = None,
) -> Result:
    """
    Write the base image that mlserver.lock pins to a file.

    With build.base_image oci-archive:FILE.tar, every clone of the repository builds from this file, without a registry
    and without Debian packages. The digest stays the same.
    """
    from mendel.app.images.base_export import export_base  # noqa: PLC0415 - help must be quick
    from mendel.app.images.cache_directories import this_platform  # noqa: PLC0415
    from mendel.images import Platform  # noqa: PLC0415

    with as_usage():
        wanted = this_platform() if platform is None else Platform.parse(platform)
    with following("Exporting") as on_progress:
        pin, size = export_base(path, classifier, wanted, output, on_progress=on_progress)
    root = _project_root(path)
    base_image = f"oci-archive:{_relative(output, root)}"
    return Result(
        {"base_image": base_image, "digest": pin.digest, "size_bytes": size},
        _export_lines(output, pin, size, base_image),
    )


def _export_lines(output: Path, pin: BasePin, size: int, base_image: str) -> Iterator[str]:
    from mendel.images import render_size  # noqa: PLC0415 - help must be quick

    yield f"✓ Wrote the base image {pin.reference} to {output} ({render_size(size)})"
    yield f"  {pin.digest}"
    if pin.reference == base_image:
        return
    yield ""
    yield "Put it into mlserver.yaml, run mendel lock, and commit the file:"
    yield "  build:"
    yield f"    base_image: {base_image}"


def _make(recipe: BaseRecipe, target: Path, on_progress: OnProgress) -> MadeBase:
    from mendel.adapters.oci.layout.layout import Layout  # noqa: PLC0415
    from mendel.app.images.base_making import make_base  # noqa: PLC0415 - help must be quick

    with _layout_for(target, recipe.platforms) as directory:
        made = make_base(recipe, Layout(directory), name="base", on_progress=on_progress)
        if target.suffix == _ARCHIVE:
            from mendel.images.image_archives import write_archive  # noqa: PLC0415

            write_archive(Layout(directory), made.digest, ["base"], target)
    return made


def _base_lines(made: MadeBase, base_image: str, recipe: BaseRecipe, target: Path) -> Iterator[str]:
    from mendel.images import render_size  # noqa: PLC0415 - help must be quick

    packed, unpacked = render_size(made.size_bytes), render_size(made.unpacked_bytes)
    yield f"✓ Made a base of Debian {recipe.suite} for {', '.join(map(str, recipe.platforms))}: {target}"
    yield f"  {len(made.packages)} packages, {packed} compressed, {unpacked} unpacked"
    yield f"  {made.digest}"
    yield ""
    yield "Put it into mlserver.yaml:"
    yield "  build:"
    yield f"    base_image: {base_image}"


@contextmanager
def _layout_for(target: Path, platforms: Sequence[Platform]) -> Iterator[Path]:
    """Give the directory for the image layout: *target*, or a temporary directory if *target* is a tar file."""
    if target.suffix != _ARCHIVE:
        yield target
        return
    if len(platforms) > 1:
        raise InvalidInput(
            "A tar file holds only one platform.", remedy="Write to a directory, or give one --platform."
        )
    import tempfile  # noqa: PLC0415

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mendel-base-", dir=target.parent) as scratch:
        yield Path(scratch)


def _project_root(path: Path | None) -> Path:
    """Give the project's directory; without a project, the working directory, unless *path* was given."""
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
