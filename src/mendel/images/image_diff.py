"""Two builds of one image, layer by layer: which input moved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mendel.images.entities import MANIFEST, LayerRecord, Part


class Moved(StrEnum):
    """What can differ between two builds of one tag."""

    BASE = "base"
    WHEEL = "wheel"
    RUNTIME = "runtime"
    ARTIFACTS = "artifacts"
    CODE = "code"
    ORDER = "order of layers"
    COMPRESSOR = "compressor"
    LABEL = "label"
    CONFIGURATION = "configuration"


_OF_PART = {
    Part.BASE: Moved.BASE,
    Part.DEPENDENCIES: Moved.WHEEL,
    Part.RUNTIME: Moved.RUNTIME,
    Part.ARTIFACTS: Moved.ARTIFACTS,
    Part.CODE: Moved.CODE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One input that moved.

    Attributes:
        name: Which one: a wheel, a file, a label; empty where the input has no parts.
        expected, rebuilt: A digest or value on each side; None where that side has nothing of it.
    """

    moved: Moved
    name: str
    expected: str | None
    rebuilt: str | None

    def __str__(self) -> str:
        """A sentence without its full stop."""
        what = f"{self.moved} {self.name}".strip()
        match self.expected, self.rebuilt:
            case None, str(rebuilt):
                return f"{what} is new: {rebuilt}"
            case str(expected), None:
                return f"{what} is gone: {expected}"
            case expected, rebuilt:
                return f"{what} was {expected}, is {rebuilt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContents:
    """
    What of an image is compared.

    Attributes:
        layers: Bottom up.
        config: Its configuration document; empty does not compare it.
        manifest: The bytes of ``mendel-manifest.json``; where both sides have it, files are named.
    """

    layers: Sequence[LayerRecord]
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: bytes | None = None


def compare_images(expected: ImageContents, rebuilt: ImageContents) -> tuple[Difference, ...]:
    """
    Every difference, bottom up; none: the images are one.

    Wheels are matched by name and files by path, so that one more of them does not make all others differ. Layers that
    hold the same in other bytes are the compressor's doing and are named once.
    """
    return (
        *_part_differences(expected, rebuilt),
        *_order(expected.layers, rebuilt.layers),
        *_compressor(expected.layers, rebuilt.layers),
        *_configuration(expected.config, rebuilt.config),
    )


def _part_differences(expected: ImageContents, rebuilt: ImageContents) -> Iterator[Difference]:
    for part in Part:
        old = [layer for layer in expected.layers if layer.part is part]
        new = [layer for layer in rebuilt.layers if layer.part is part]
        if sorted(layer.diff_id for layer in old) == sorted(layer.diff_id for layer in new):
            continue
        if part is Part.DEPENDENCIES:
            named = _wheels(old, new)
        else:
            named = tuple(_files(part, expected.manifest, rebuilt.manifest))
        yield from named or (_whole(_OF_PART[part], old, new),)


def _whole(moved: Moved, old: Sequence[LayerRecord], new: Sequence[LayerRecord]) -> Difference:
    """A part whose inside is not known, by the first of its layers that is not on the other side."""
    known_old, known_new = {layer.diff_id for layer in old}, {layer.diff_id for layer in new}
    before = next((layer for layer in old if layer.diff_id not in known_new), None)
    after = next((layer for layer in new if layer.diff_id not in known_old), None)
    titles = [layer.title for layer in (before, after) if layer is not None and layer.title != layer.part]
    return Difference(
        moved=moved,
        name=titles[0] if moved in {Moved.WHEEL, Moved.RUNTIME} and len(set(titles)) == 1 else "",
        expected=None if before is None else before.diff_id,
        rebuilt=None if after is None else after.diff_id,
    )


def _wheels(old: Sequence[LayerRecord], new: Sequence[LayerRecord]) -> tuple[Difference, ...]:
    """Wheels of another version, then layers of the same wheels with another content."""
    versions_old, versions_new = _versions(old), _versions(new)
    moved = [
        Difference(moved=Moved.WHEEL, name=name, expected=versions_old.get(name), rebuilt=versions_new.get(name))
        for name in sorted(versions_old.keys() | versions_new.keys())
        if versions_old.get(name) != versions_new.get(name)
    ]
    contents = {layer.title: layer for layer in new}
    for layer in old:
        again = contents.get(layer.title)
        if again is not None and again.diff_id != layer.diff_id:
            moved.append(Difference(moved=Moved.WHEEL, name=layer.title, expected=layer.diff_id, rebuilt=again.diff_id))
    return tuple(moved)


def _versions(layers: Iterable[LayerRecord]) -> dict[str, str]:
    """The wheels in *layers*, whose titles list them as ``name version, name version``."""
    listed = (item.partition(" ") for layer in layers for item in layer.title.split(", "))
    return {name: version for name, _, version in listed}


def _files(part: Part, expected: bytes | None, rebuilt: bytes | None) -> Iterator[Difference]:
    """The files of *part* that differ, where both images list theirs; with the code also what the lists say else."""
    if expected is None or rebuilt is None or part not in {Part.ARTIFACTS, Part.CODE}:
        return
    old, new = _listed(expected, part), _listed(rebuilt, part)
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            yield Difference(moved=_OF_PART[part], name=path, expected=old.get(path), rebuilt=new.get(path))


def _listed(manifest: bytes, part: Part) -> dict[str, str]:
    whole: dict[str, Any] = json.loads(manifest)
    files = {file["path"]: file["sha256"] for file in whole.pop("files") if file["part"] == part}
    said = {f"{MANIFEST} {'.'.join(place)}": value for place, value in _flat(whole)} if part is Part.CODE else {}
    return files | said


def _order(expected: Sequence[LayerRecord], rebuilt: Sequence[LayerRecord]) -> Iterator[Difference]:
    old, new = [layer.diff_id for layer in expected], [layer.diff_id for layer in rebuilt]
    if old != new and sorted(old) == sorted(new):
        yield Difference(
            moved=Moved.ORDER,
            name="",
            expected=", ".join(layer.title for layer in expected),
            rebuilt=", ".join(layer.title for layer in rebuilt),
        )


def _compressor(expected: Sequence[LayerRecord], rebuilt: Sequence[LayerRecord]) -> Iterator[Difference]:
    packed = {layer.diff_id: layer for layer in expected}
    moved = [
        (packed[layer.diff_id], layer)
        for layer in rebuilt
        if layer.diff_id in packed and None not in {layer.digest, packed[layer.diff_id].digest}
        if layer.digest != packed[layer.diff_id].digest
    ]
    if moved:
        before, after = moved[0]
        name = f"of {', '.join(layer.title for _, layer in moved)}"
        yield Difference(moved=Moved.COMPRESSOR, name=name, expected=before.digest, rebuilt=after.digest)


def _configuration(expected: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> Iterator[Difference]:
    """Labels and settings; what a configuration repeats of the layers is left to them."""
    if not expected or not rebuilt:
        return
    old, new = dict(_flat(expected)), dict(_flat(rebuilt))
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) == new.get(place) or place[0] in {"rootfs", "history"}:
            continue
        label = place[:2] == ("config", "Labels")
        yield Difference(
            moved=Moved.LABEL if label else Moved.CONFIGURATION,
            name=".".join(place[2:] if label else place),
            expected=old.get(place),
            rebuilt=new.get(place),
        )


def _flat(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each value that is not a mapping, with the keys that lead to it; an empty mapping counts as a value."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value if isinstance(value, str) else json.dumps(value, sort_keys=True)
