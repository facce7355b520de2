"""Build an image from base, wheels and files into an image layout, reproducibly and without a container daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

from mendel.adapters.oci.layers.compression import Compressed
from mendel.adapters.oci.layers.file_layers import file_entries, files_key
from mendel.adapters.oci.layers.layer_cache import LayerCache, key_of
from mendel.adapters.oci.layers.unpacking import measure
from mendel.adapters.oci.layers.wheel_layers import MOST_LARGE, grouped, refuse_disagreement, scaffold, wheel_entries
from mendel.adapters.oci.layout.disk_errors import translated_write_errors
from mendel.adapters.oci.layout.image_config import Base, base_records, image_config, image_manifest
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.sandbox.load_check import LoadCheck
from mendel.errors import Corrupt
from mendel.images import (
    APP,
    MANIFEST,
    Bases,
    Blobs,
    BuildEngine,
    BuiltImage,
    ImagePart,
    ImagePlan,
    LayerRecord,
    OnProgress,
    Platform,
    SourceFile,
    TaskProgress,
    Venv,
    WheelPin,
    Wheels,
    ignore_progress,
)
from mendel.images.manifests import MANIFEST as MANIFEST_TYPE
from mendel.images.manifests import Descriptor, digest_of
from mendel.images.tar_archives import Entry, File, write_tar
from mendel.values import Digest

_NO_IMAGE = "the image was not made"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """
    A layer to build.

    Attributes:
        wheels: The wheels that the layer contains.
        entries: Opens the files of the layer.
    """

    part: ImagePart
    title: str
    key: str
    wheels: tuple[WheelPin, ...] = ()
    entries: Callable[[], AbstractContextManager[Iterable[Entry]]]


class OciEngine(BuildEngine):
    """
    Implements :class:`mendel.images.BuildEngine`: builds reproducible images into *layout*.

    Equal plans give equal bytes on every machine and with every Python version.

    Blobs of an unnamed image are protected from removal from :meth:`build` until :meth:`commit` or :meth:`close`. After
    the last of these calls, blobs of unnamed images and of failed builds are deleted.

    Args:
        layers: The cache of layers from earlier builds.
    """

    name = "oci"

    def __init__(
        self, *, layout: Layout, layers: LayerCache, bases: Bases, wheels: Wheels, verifier: LoadCheck
    ) -> None:
        self._layout = layout
        self._layers = layers
        self._bases = bases
        self._wheels = wheels
        self._verifier = verifier
        self._claims: dict[Digest, ExitStack] = {}
        self._leaves_blobs = False
        self._on_progress: OnProgress = ignore_progress

    def build(self, plan: ImagePlan, *, use_cache: bool, on_progress: OnProgress) -> BuiltImage:
        """
        Build the image; cached layers are reused where their inputs are equal.

        Raises:
            StoreUnavailable: The disk is full or read-only.
        """
        self._on_progress = on_progress
        left, self._leaves_blobs = self._leaves_blobs, True
        with ExitStack() as claim, translated_write_errors(self._layout.directory, lost=_NO_IMAGE):
            claim.enter_context(self._layout.growing())
            image = self._build(plan, use_cache, on_progress)
            self._release(image.digest)
            self._claims[image.digest] = claim.pop_all()
        self._leaves_blobs = left
        return image

    def verify(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Load the predictor in the unpacked image; for another processor architecture, only report "not verified".

        Raises:
            Unsupported: The kernel allows neither user namespaces nor a change of root.
            StoreUnavailable: The disk is full or read-only.
        """
        try:
            with translated_write_errors(self._layout.directory, lost=_NO_IMAGE):
                self._verifier.verify(self._layout, plan, image, on_progress=self._on_progress)
        except BaseException:
            self._leaves_blobs = True
            self._release(image.digest)
            raise

    def commit(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Give the image the names of the plan.

        Raises:
            ImageNotFound: The image was removed after the build.
        """
        manifest = self._layout.manifest(image.digest)
        for blob in (manifest.config, *manifest.layers):
            self._layout.path(blob.digest)
        size = self._layout.path(image.digest).stat().st_size
        platform = plan.environment.platform
        with translated_write_errors(self._layout.directory, lost=_NO_IMAGE):
            is_new = self._layout.name(
                plan.references,
                Descriptor(media_type=MANIFEST_TYPE, digest=image.digest, size=size, platform=platform),
            )
        self._leaves_blobs |= is_new
        self._release(image.digest)
        self._collect()

    def close(self) -> None:
        """Release images that were built but never named, and delete their blobs."""
        self._leaves_blobs |= bool(self._claims)
        for digest in list(self._claims):
            self._release(digest)
        self._collect()

    def _collect(self) -> None:
        if self._leaves_blobs and not self._claims:
            self._leaves_blobs = False
            with suppress(OSError, Corrupt):  # the next collection deletes them; the build succeeded already
                self._layout.collect()

    def _release(self, digest: Digest) -> None:
        if (claim := self._claims.pop(digest, None)) is not None:
            claim.close()

    def _build(self, plan: ImagePlan, use_cache: bool, on_progress: OnProgress) -> BuiltImage:
        platform = Platform.parse(plan.environment.platform)
        loaded = self._bases.load(plan.environment.base, platform, on_progress=on_progress)
        base = Base.of(loaded.manifest, loaded.config, platform)
        steps = _steps(plan, self._wheels, on_progress)
        with self._layers.in_use():
            found = {step.key: self._layers.find(step.key) if use_cache else None for step in steps}
            self._have_wheels(plan, [step for step in steps if found[step.key] is None], platform, on_progress)
            records = [self._layer(step, found[step.key], on_progress) for step in steps]
            unpacked = [self._base_size(loaded.blobs, layer, diff_id) for layer, diff_id in base.pairs]
            for layer in base.layers:
                self._layout.adopt(loaded.blobs.path(layer.digest), layer.digest)
        if any(not record.reused for record in records):
            self._layers.trim()
        config = image_config(plan, base, records, platform)
        manifest = image_manifest(plan, base, records, config)
        self._layout.put(config)
        return BuiltImage(
            digest=self._layout.put(manifest),
            image_id=digest_of(config),
            layers=(*base_records(base, unpacked), *records),
            engine=self.name,
            reproducible=True,
        )

    def _have_wheels(
        self, plan: ImagePlan, missing: Sequence[_Step], platform: Platform, on_progress: OnProgress
    ) -> None:
        """
        Fetch the wheels of missing layers; for a new set of wheels, fetch all and check that their files do not
        conflict.
        """
        absent = {pin for step in missing for pin in step.wheels}
        for venv in plan.venvs:
            every, python = venv.wheels, venv.base.python
            agreed = key_of(kind="agreed", wheels=sorted(pin.sha256 for pin in every), python=python)
            is_new = self._layers.recall(agreed) is None
            if needed := every if is_new else tuple(pin for pin in every if pin in absent):
                self._wheels.fetch(needed, base=venv.base, platform=platform, on_progress=on_progress)
            if is_new:
                refuse_disagreement({pin.name: self._wheels.path(pin) for pin in every}, venv)
                self._layers.note(agreed, _NOTHING)

    def _layer(self, step: _Step, found: Compressed | None, on_progress: OnProgress) -> LayerRecord:
        on_progress(TaskProgress(doing=f"{step.part}: {step.title}"))
        layer = found
        if layer is None:
            with step.entries() as entries:
                layer = self._layers.make(step.key, write_tar(entries))
        self._layout.adopt(self._layers.path(layer), layer.digest)
        return LayerRecord(
            part=step.part,
            title=step.title,
            diff_id=layer.diff_id,
            digest=layer.digest,
            size_bytes=layer.size,
            unpacked_bytes=layer.unpacked_bytes,
            reused=found is not None,
        )

    def _base_size(self, blobs: Blobs, layer: Descriptor, diff_id: Digest) -> int:
        """Give the unpacked size of a base layer in bytes; the first call also checks the content against *diff_id*."""
        key = key_of(kind="base", digest=layer.digest, diff_id=diff_id)
        known = self._layers.recall(key)
        if known is None:
            known = measure(blobs, layer, diff_id)
            self._layers.note(key, known)
        return known.unpacked_bytes


_NOTHING = Compressed(digest=digest_of(b""), size=0, diff_id=digest_of(b""), unpacked_bytes=0)


def _steps(plan: ImagePlan, wheels: Wheels, on_progress: OnProgress) -> list[_Step]:
    """Give the layers of *plan* above the base image, lowest first."""
    own, *others = plan.venvs
    most = MOST_LARGE // len(plan.venvs)

    @contextmanager
    def opened(venv: Venv, pins: tuple[WheelPin, ...]) -> Iterator[Iterable[Entry]]:
        with wheel_entries({pin.name: wheels.path(pin) for pin in pins}, venv) as entries:
            yield entries

    def unpacked(part: ImagePart, venv: Venv, pins: tuple[WheelPin, ...]) -> _Step:
        return _Step(
            part=part,
            title=", ".join(f"{pin.name} {pin.version}" for pin in pins),
            key=key_of(kind="wheels", wheels=[pin.sha256 for pin in pins], venv=_place(venv)),
            wheels=pins,
            entries=partial(opened, venv, pins),
        )

    def copied(part: ImagePart, files: tuple[SourceFile, ...], more: tuple[File, ...] = ()) -> _Step:
        total = sum(file.size_bytes for file in files)
        made = [[entry.path, digest_of(b"".join(entry.content()))] for entry in more]
        return _Step(
            part=part,
            title=f"{len(files) + len(more)} files",
            key=key_of(kind="files", files=files_key(files), made=made),
            entries=lambda: nullcontext((*file_entries(files, _counted(part, total, on_progress)), *more)),
        )

    manifest = File.of(str(APP / MANIFEST).lstrip("/"), plan.manifest)
    return [
        _Step(
            part=ImagePart.DEPENDENCIES,
            title="environment",
            key=key_of(kind="scaffold", venvs=[[*_place(venv), venv.base.interpreter] for venv in plan.venvs]),
            entries=lambda: nullcontext(scaffold(plan.venvs)),
        ),
        *(unpacked(ImagePart.DEPENDENCIES, own, group) for group in grouped(plan.environment.wheels, most=most)),
        unpacked(ImagePart.RUNTIME, own, (plan.runtime.wheel,)),
        *(unpacked(ImagePart.PROJECT, venv, group) for venv in others for group in grouped(venv.wheels, most=most)),
        *([copied(ImagePart.ARTIFACTS, plan.artifacts)] if plan.artifacts else ()),
        copied(ImagePart.CODE, plan.code, (manifest,)),
    ]


def _place(venv: Venv) -> tuple[str, str]:
    return str(venv.directory), venv.base.python


def _counted(part: ImagePart, total: int, on_progress: OnProgress) -> Callable[[int], None]:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress(TaskProgress(doing=str(part), done=done, total=total))

    return count
