"""Makes a base image of Debian packages in a layout."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.adapters.debian import BaseRecipe, unpacked_root
from mendel.adapters.oci.base_writer import WrittenBase, name_base, write_base
from mendel.adapters.oci.layout.disk_errors import make_directory, translated_write_errors
from mendel.adapters.oci.layout.layout import Layout
from mendel.images import OnProgress, TaskProgress, ignore_progress
from mendel.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBase:
    """
    A base image that was made.

    Attributes:
        digest: The digest of the manifest for one platform, or of the index for several platforms.
        size_bytes, unpacked_bytes: Sizes of the first platform's layer.
        packages: Names and versions of the first platform's packages, sorted.
    """

    digest: Digest
    size_bytes: int
    unpacked_bytes: int
    packages: tuple[tuple[str, str], ...]


def make_base(
    recipe: BaseRecipe,
    into: Layout,
    *,
    name: str,
    program: str = "mmdebstrap",
    on_progress: OnProgress = ignore_progress,
) -> MadeBase:
    """
    Make the base image and name it *name* in *into*; the former image of that name is removed.

    The same packages give the same bytes on every machine and at any time.

    Raises:
        Unsupported: mmdebstrap is not installed.
        ProgramFailed: mmdebstrap ended with an error; the exception carries its log.
        StoreUnavailable: The base image cannot be written into *into*.
    """
    written: list[WrittenBase] = []
    packages: list[tuple[tuple[str, str], ...]] = []
    with translated_write_errors(into.directory, lost="the base image was not made"):
        for platform in recipe.platforms:
            with unpacked_root(recipe, platform, program=program, on_progress=on_progress) as root:
                on_progress(TaskProgress(doing=f"Packing the layer for {platform}"))
                make_directory(into.directory)
                written.append(write_base(root, into))
                packages.append(root.packages)
        whole = name_base(written, into, name)
    first = written[0]
    return MadeBase(
        digest=whole.digest, size_bytes=first.size_bytes, unpacked_bytes=first.unpacked_bytes, packages=packages[0]
    )
