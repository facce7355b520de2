"""Compare two builds of one image layer by layer, and name the inputs that changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mendel.images.entities import MANIFEST, ImagePart, LayerRecord


class ChangedInput(StrEnum):
    """The kinds of input that can differ between two builds of one release tag."""

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
    ImagePart.BASE: ChangedInput.BASE,
    ImagePart.DEPENDENCIES: ChangedInput.WHEEL,
    ImagePart.RUNTIME: ChangedInput.RUNTIME,
    ImagePart.PROJECT: ChangedInput.WHEEL,
    ImagePart.ARTIFACTS: ChangedInput.ARTIFACTS,
    ImagePart.CODE: ChangedInput.CODE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One input that differs between two builds.

    Attributes:
        name: The wheel, file or label; empty for an input without parts.
        expected, rebuilt: The digest or value in each build; None when that build does not have the input.
    """

    moved: ChangedInput
    name: str
    expected: str | None
    rebuilt: str | None

    def __str__(self) -> str:
        """Describe the difference in a sentence, without a full stop."""
        what = f"{self.moved} {self.name}".strip()
        match self.expected, self.rebuilt:
            case None, str(rebuilt):
                return f"{what} was added by the rebuild: {rebuilt}"
            case str(expected), None:
                return f"{what} is missing after the rebuild: {expected}"
            case expected, rebuilt:
                return f"{what} was {expected} before and is {rebuilt} after the rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContents:
    """
    The parts of an image that are compared.

    Attributes:
        layers: The layers from lowest to highest.
        config: The image's configuration document; an empty mapping is not compared.
        manifest: The content of ``mendel-manifest.json``; when both images have it, differing files are named.
    """

    layers: Sequence[LayerRecord]
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: bytes | None = None


def compare_images(expected: ImageContents, rebuilt: ImageContents) -> tuple[Difference, ...]:
    """
    Give every difference, from the lowest layer to the highest; an empty result means that the images are equal.

    Wheels are matched by name and files by path, so that an added wheel or file is one difference. Layers with equal
    content and different compressed bytes are reported together as one difference of the compressor.
    """
    return (
        *_part_differences(expected, rebuilt),
        *_order(expected.layers, rebuilt.layers),
        *_compressor(expected.layers, rebuilt.layers),
        *_configuration(expected.config, rebuilt.config),
    )


def _part_differences(expected: ImageContents, rebuilt: ImageContents) -> Iterator[Difference]:
    for part in ImagePart:
        old = [layer for layer in expected.layers if layer.part is part]
        new = [layer for layer in rebuilt.layers if layer.part is part]
        if sorted(layer.diff_id for layer in old) == sorted(layer.diff_id for layer in new):
            continue
        if _OF_PART[part] is ChangedInput.WHEEL:
            named = _wheels(old, new)
        else:
            named = tuple(_files(part, expected.manifest, rebuilt.manifest))
        yield from named or (_whole(_OF_PART[part], old, new),)


def _whole(moved: ChangedInput, old: Sequence[LayerRecord], new: Sequence[LayerRecord]) -> Difference:
    """Describe a part whose content is unknown by its first layer that the other build lacks."""
    known_old, known_new = {layer.diff_id for layer in old}, {layer.diff_id for layer in new}
    before = next((layer for layer in old if layer.diff_id not in known_new), None)
    after = next((layer for layer in new if layer.diff_id not in known_old), None)
    titles = [layer.title for layer in (before, after) if layer is not None and layer.title != layer.part]
    return Difference(
        moved=moved,
        name=titles[0] if moved in {ChangedInput.WHEEL, ChangedInput.RUNTIME} and len(set(titles)) == 1 else "",
        expected=None if before is None else before.diff_id,
        rebuilt=None if after is None else after.diff_id,
    )


def _wheels(old: Sequence[LayerRecord], new: Sequence[LayerRecord]) -> tuple[Difference, ...]:
    """Give wheels with different versions, then layers with the same wheels and different content."""
    versions_old, versions_new = _versions(old), _versions(new)
    moved = [
        Difference(moved=ChangedInput.WHEEL, name=name, expected=versions_old.get(name), rebuilt=versions_new.get(name))
        for name in sorted(versions_old.keys() | versions_new.keys())
        if versions_old.get(name) != versions_new.get(name)
    ]
    contents = {layer.title: layer for layer in new}
    for layer in old:
        again = contents.get(layer.title)
        if again is not None and again.diff_id != layer.diff_id:
            moved.append(
                Difference(moved=ChangedInput.WHEEL, name=layer.title, expected=layer.diff_id, rebuilt=again.diff_id)
            )
    return tuple(moved)


def _versions(layers: Iterable[LayerRecord]) -> dict[str, str]:
    """Read name and version of each wheel from the titles of *layers*: ``name version, name version``."""
    listed = (item.partition(" ") for layer in layers for item in layer.title.split(", "))
    return {name: version for name, _, version in listed}


def _files(part: ImagePart, expected: bytes | None, rebuilt: bytes | None) -> Iterator[Difference]:
    """Give the files of *part* that differ if both manifests are known; for code, also the manifests' other entries."""
    if expected is None or rebuilt is None or part not in {ImagePart.ARTIFACTS, ImagePart.CODE}:
        return
    old, new = _listed(expected, part), _listed(rebuilt, part)
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            yield Difference(moved=_OF_PART[part], name=path, expected=old.get(path), rebuilt=new.get(path))


def _listed(manifest: bytes, part: ImagePart) -> dict[str, str]:
    whole: dict[str, Any] = json.loads(manifest)
    files = {file["path"]: file["sha256"] for file in whole.pop("files") if file["part"] == part}
    said = {f"{MANIFEST} {'.'.join(place)}": value for place, value in _flat(whole)} if part is ImagePart.CODE else {}
    return files | said


def _order(expected: Sequence[LayerRecord], rebuilt: Sequence[LayerRecord]) -> Iterator[Difference]:
    old, new = [layer.diff_id for layer in expected], [layer.diff_id for layer in rebuilt]
    if old != new and sorted(old) == sorted(new):
        yield Difference(
            moved=ChangedInput.ORDER,
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
        yield Difference(moved=ChangedInput.COMPRESSOR, name=name, expected=before.digest, rebuilt=after.digest)


def _configuration(expected: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> Iterator[Difference]:
    """Compare labels and settings; entries about layers (``rootfs``, ``history``) are compared elsewhere."""
    if not expected or not rebuilt:
        return
    old, new = dict(_flat(expected)), dict(_flat(rebuilt))
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) == new.get(place) or place[0] in {"rootfs", "history"}:
            continue
        label = place[:2] == ("config", "Labels")
        yield Difference(
            moved=ChangedInput.LABEL if label else ChangedInput.CONFIGURATION,
            name=".".join(place[2:] if label else place),
            expected=old.get(place),
            rebuilt=new.get(place),
        )


def _flat(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (keys, value) for every value that is not a mapping; an empty mapping counts as a value."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value if isinstance(value, str) else json.dumps(value, sort_keys=True)
