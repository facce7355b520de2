"""Makes Mendel's own wheel for images from the installed files, without a build tool, with reproducible bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from mendel.adapters.pip import CachedWheels, payload_digest, write_wheel
from mendel.errors import Unsupported
from mendel.images import RuntimePin, WheelPin, normal_requirement
from mendel.projects import EMBEDDED, Git, ToolBuild, WorkTree
from mendel.values.directory_trees import file_digest

_PACKAGE = "mendel"
_LEFT_OUT = ("mendel/examples/",)
"""Only `mendel demo` uses these files, and no image runs the demo. The wheel keeps every other file."""
_COMPILED = (".pyc", ".pyo", ".so", ".pyd")
_TAG = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: mendel\nRoot-Is-Purelib: true\nBuild: {{build}}\nTag: {_TAG}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSource:
    """
    The content of Mendel's own wheel.

    Attributes:
        tool: Mendel's version and commit.
        files: Contents by path in the wheel, ``mendel/...``.
        requirements: The requirements without those of extras, in normal form, sorted.
        scripts: The entry point of each command, by command name.
        changed: Files of the checkout that differ from its commit.
    """

    tool: ToolBuild
    python: str
    files: dict[str, bytes]
    requirements: tuple[str, ...]
    scripts: dict[str, str]
    licence: bytes | None
    changed: tuple[str, ...] = ()


def runtime_source(tool: ToolBuild, git: Git, *, package: Path | None = None) -> RuntimeSource:
    """
    Read the files and metadata of the running Mendel.

    Args:
        package: The directory of the package; by default the one it is imported from.

    Raises:
        Unsupported: Mendel is neither a checkout nor installed with a record of its files.
    """
    here = Path(str(resources.files(_PACKAGE))) if package is None else package
    tree = git.work_tree(here) if tool.how == "checkout" else None
    return _installed(tool, here) if tree is None else _checked_out(tool, here, tree, git)


def runtime_pin(source: RuntimeSource, wheels: CachedWheels) -> RuntimePin:
    """Make the wheel and store it in the cache."""
    version = source.tool.version
    info = f"{_PACKAGE}-{version}.dist-info"
    payload = {**source.files, **_embedded(source), **_documents(source, info)}
    build = f"0_{payload_digest(payload)[:12]}"  # so that two states of one version are two names
    filename = f"{_PACKAGE}-{version}-{build}-{_TAG}.whl"
    with wheels.unfinished() as directory:
        file = directory / filename
        with file.open("wb") as opened:
            write_wheel({**payload, f"{info}/WHEEL": _WHEEL.format(build=build).encode()}, info, opened)
        wheel = WheelPin(
            name=_PACKAGE,
            version=version,
            filename=filename,
            sha256=file_digest(file),
            size_bytes=file.stat().st_size,
        )
        wheels.keep(file, wheel)
    return RuntimePin(
        version=version,
        commit=source.tool.commit,
        url=source.tool.url,
        how=source.tool.how if source.tool.how in {"checkout", "vcs"} else "installed",
        wheel=wheel,
        dirty=bool(source.changed),
    )


def _checked_out(tool: ToolBuild, here: Path, tree: WorkTree, git: Git) -> RuntimeSource:
    import tomllib  # noqa: PLC0415 - only for a runtime from a checkout

    root = next(place for place in here.parents if (place / "pyproject.toml").is_file())
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    licence = root / "LICENSE"
    places = (f"{here.relative_to(tree.top)}/", str((root / "pyproject.toml").relative_to(tree.top)))
    return RuntimeSource(
        tool=tool,
        python=project["requires-python"],
        files=dict(_contents((f"{_PACKAGE}/{name}", here / name) for name in git.tracked(here))),
        requirements=_base(project["dependencies"]),
        scripts=dict(project["scripts"]),
        licence=licence.read_bytes() if licence.is_file() else None,
        changed=tuple(name for name in tree.changed if name.startswith(places)),
    )


def _installed(tool: ToolBuild, here: Path) -> RuntimeSource:
    try:
        found = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise Unsupported(
            "No installed package and no git checkout of Mendel was found.",
            remedy="Install Mendel, or run Mendel from a git checkout.",
        ) from error
    listed = [file for file in found.files or () if file.parts[0] == _PACKAGE]
    if here.name != _PACKAGE or not any(file.name == "__init__.py" for file in listed):
        raise Unsupported(
            "The files of the installed Mendel are unknown: the installer wrote no RECORD file.",
            remedy="Install Mendel with pip, or run Mendel from a git checkout.",
        )
    scripts = {point.name: point.value for point in found.entry_points if point.group == "console_scripts"}
    licence = found.read_text("licenses/LICENSE")
    return RuntimeSource(
        tool=tool,
        python=str(found.metadata["Requires-Python"]),
        files=dict(_contents((file.as_posix(), Path(str(found.locate_file(file)))) for file in listed)),
        requirements=_base(found.requires or []),
        scripts=scripts,
        licence=None if licence is None else licence.encode(),
    )


def _contents(files: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, bytes]]:
    for name, path in files:
        left_out = name.startswith(_LEFT_OUT) or name.endswith(_COMPILED) or name == f"{_PACKAGE}/{EMBEDDED}"
        if not left_out and path.is_file():
            yield name, path.read_bytes()


def _base(requirements: list[str]) -> tuple[str, ...]:
    """*requirements* without those of extras, sorted."""
    return tuple(sorted({normal_requirement(line) for line in requirements if "extra ==" not in line}))


def _embedded(source: RuntimeSource) -> dict[str, bytes]:
    if source.tool.commit is None:
        return {}
    lines = [source.tool.commit, *([source.tool.url] if source.tool.url else [])]
    return {f"{_PACKAGE}/{EMBEDDED}": "".join(f"{line}\n" for line in lines).encode()}


def _documents(source: RuntimeSource, info: str) -> dict[str, bytes]:
    scripts = "".join(f"{name} = {target}\n" for name, target in sorted(source.scripts.items()))
    documents = {
        f"{info}/METADATA": _metadata(source),
        f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}".encode(),
    }
    return documents if source.licence is None else {**documents, f"{info}/licenses/LICENSE": source.licence}


def _metadata(source: RuntimeSource) -> bytes:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {_PACKAGE}",
        f"Version: {source.tool.version}",
        "License-Expression: MIT",
        *(["License-File: LICENSE"] if source.licence is not None else []),
        f"Requires-Python: {source.python}",
        *(f"Requires-Dist: {line}" for line in source.requirements),
    ]
    return "".join(f"{line}\n" for line in lines).encode()
