"""Make the layers of virtual environments: a scaffold, one layer per large wheel, one layer for all small wheels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mendel.adapters.oci.layers.wheel_archives import WheelFile, wheel_files
from mendel.errors import BuildRefused
from mendel.images import APP, DATA, USER_ID, Venv, WheelPin
from mendel.images.tar_archives import Directory, Entry, File, Symlink

LARGE_BYTES = 1 << 20
MOST_LARGE = 64
"""The maximum number of single-wheel layers of an image; engines allow 127 layers, and the base image has some."""

_SHOWN_REASONS = 20


def scaffold(venvs: Sequence[Venv]) -> tuple[Entry, ...]:
    """Give the entries below all wheels: the links to interpreters, and the directories that every image has."""
    return (
        Directory(path=str(APP).lstrip("/")),
        Directory(path=str(DATA).lstrip("/"), owner=USER_ID),
        *(entry for venv in venvs for entry in _scaffold_of(venv)),
    )


def _scaffold_of(venv: Venv) -> tuple[Entry, ...]:
    root, base = str(venv.directory).lstrip("/"), venv.base
    home = base.interpreter.rpartition("/")[0]
    settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {base.python}\n"
    return (
        Directory(path=f"{root}/lib/python{base.python}/site-packages"),
        File.of(f"{root}/pyvenv.cfg", settings.encode()),
        Symlink(path=f"{root}/bin/python", target=base.interpreter),
        Symlink(path=f"{root}/bin/python3", target="python"),
        Symlink(path=f"{root}/bin/python{base.python}", target="python"),
    )


def grouped(pins: Sequence[WheelPin], *, most: int = MOST_LARGE) -> tuple[tuple[WheelPin, ...], ...]:
    """
    Group wheels into layers: each large wheel gets its own layer, and all small wheels share the last layer.

    A changed large wheel then changes only one layer, and the number of layers stays bounded.

    Args:
        most: The maximum number of large wheels with a layer of their own.
    """
    large = sorted((pin for pin in pins if pin.size_bytes >= LARGE_BYTES), key=lambda pin: (-pin.size_bytes, pin.name))
    alone = {pin.name for pin in large[:most]}
    by_name = sorted(pins, key=lambda pin: pin.name)
    together = tuple(pin for pin in by_name if pin.name not in alone)
    singles = tuple((pin,) for pin in by_name if pin.name in alone)
    return (*singles, together) if together else singles


@contextmanager
def wheel_entries(wheels: Mapping[str, Path], venv: Venv) -> Iterator[tuple[File, ...]]:
    """
    Open the files that *wheels* (by distribution name) have in *venv*, as the entries of one layer, readable inside
    the ``with`` block.

    A file that several wheels contain with equal content appears once.
    """
    with ExitStack() as opened:
        found: dict[str, WheelFile] = {}
        for _, path in sorted(wheels.items()):
            for file in opened.enter_context(wheel_files(path, venv)):
                found.setdefault(file.path, file)
        yield tuple(
            File(path=file.path, size=file.size, content=file.content, executable=file.executable)
            for file in found.values()
        )


def refuse_disagreement(wheels: Mapping[str, Path], venv: Venv) -> None:
    """
    Check that no two wheels install different content at the same path of *venv*.

    Raises:
        BuildRefused: Two wheels contain the same path with different content, or a wheel contains a path of the
            scaffold.
        Corrupt: A file is not a wheel, or is damaged.
    """
    owners: dict[str, tuple[str, int, int]] = {
        entry.path: ("the virtual environment", -1, -1)
        for entry in _scaffold_of(venv)
        if not isinstance(entry, Directory)
    }
    reasons: list[str] = []
    for name, path in sorted(wheels.items()):
        with wheel_files(path, venv) as files:
            for file in files:
                owner, *content = owners.setdefault(file.path, (name, file.size, file.crc))
                if owner != name and content != [file.size, file.crc]:
                    reasons.append(f"{owner} and {name} both contain /{file.path}, with different content.")
    reasons += _files_as_directories(owners)
    if reasons:
        raise BuildRefused(
            f"The wheels cannot be installed together: {' '.join(reasons[:_SHOWN_REASONS])}",
            reasons=tuple(reasons),
            remedy="Remove one of these wheels from the requirements, or require another version.",
        )


def _files_as_directories(owners: Mapping[str, tuple[str, int, int]]) -> Iterable[str]:
    seen: set[str] = set()
    for path, (name, *_) in owners.items():
        parent = path
        while (parent := parent.rpartition("/")[0]) and parent not in seen:
            seen.add(parent)
            if parent in owners:
                yield f"{owners[parent][0]} contains /{parent} as a file, and {name} contains /{parent} as a directory."
