"""Make the layers of the Python environment: a scaffold, one layer per large wheel, one layer for all small wheels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mendel.adapters.oci.layers.wheel_archives import WheelFile, wheel_files
from mendel.errors import BuildRefused
from mendel.images import APP, DATA, USER_ID, VENV, BasePin, WheelPin
from mendel.images.tar_archives import Directory, Entry, File, Symlink

LARGE_BYTES = 1 << 20
MOST_LARGE = 64
"""The maximum number of single-wheel layers; engines allow 127 layers, and the base image has some."""

_SHOWN_REASONS = 20


def scaffold(base: BasePin) -> tuple[Entry, ...]:
    """Give the entries below all wheels: the link to the interpreter, and the directories that every image has."""
    venv, interpreter = str(VENV).lstrip("/"), base.interpreter
    settings = (
        f"home = {interpreter.rpartition('/')[0]}\ninclude-system-site-packages = false\nversion = {base.python}\n"
    )
    return (
        Directory(path=str(APP).lstrip("/")),
        Directory(path=str(DATA).lstrip("/"), owner=USER_ID),
        Directory(path=f"{venv}/lib/python{base.python}/site-packages"),
        File.of(f"{venv}/pyvenv.cfg", settings.encode()),
        Symlink(path=f"{venv}/bin/python", target=interpreter),
        Symlink(path=f"{venv}/bin/python3", target="python"),
        Symlink(path=f"{venv}/bin/python{base.python}", target="python"),
    )


def grouped(pins: Sequence[WheelPin]) -> tuple[tuple[WheelPin, ...], ...]:
    """
    Group wheels into layers: each large wheel gets its own layer, and all small wheels share the last layer.

    A changed large wheel then changes only one layer, and the number of layers stays bounded.
    """
    large = sorted((pin for pin in pins if pin.size_bytes >= LARGE_BYTES), key=lambda pin: (-pin.size_bytes, pin.name))
    alone = {pin.name for pin in large[:MOST_LARGE]}
    by_name = sorted(pins, key=lambda pin: pin.name)
    together = tuple(pin for pin in by_name if pin.name not in alone)
    singles = tuple((pin,) for pin in by_name if pin.name in alone)
    return (*singles, together) if together else singles


@contextmanager
def wheel_entries(wheels: Mapping[str, Path], *, python: str) -> Iterator[tuple[File, ...]]:
    """
    Open the files of *wheels* (by distribution name) as the entries of one layer, readable inside the ``with`` block.

    A file that several wheels contain with equal content appears once.
    """
    with ExitStack() as opened:
        found: dict[str, WheelFile] = {}
        for _, path in sorted(wheels.items()):
            for file in opened.enter_context(wheel_files(path, python=python)):
                found.setdefault(file.path, file)
        yield tuple(
            File(path=file.path, size=file.size, content=file.content, executable=file.executable)
            for file in found.values()
        )


def refuse_disagreement(wheels: Mapping[str, Path], base: BasePin) -> None:
    """
    Check that no two wheels install different content at the same path.

    Raises:
        BuildRefused: Two wheels contain the same path with different content, or a wheel contains a path of the
            scaffold.
        Corrupt: A file is not a wheel, or is damaged.
    """
    owners: dict[str, tuple[str, int, int]] = {
        entry.path: ("the virtual environment", -1, -1) for entry in scaffold(base) if not isinstance(entry, Directory)
    }
    reasons: list[str] = []
    for name, path in sorted(wheels.items()):
        with wheel_files(path, python=base.python) as files:
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
