"""A build engine in memory that keeps images as digests of their files."""

from __future__ import annotations

import ast
import hashlib
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from mendel.adapters.memory.image_store import MemoryImageStore
from mendel.errors import BuildRefused, ImageNotFound
from mendel.images import (
    Bases,
    BuildEngine,
    BuiltImage,
    ImagePart,
    ImagePlan,
    ImageRecord,
    LayerRecord,
    OnProgress,
    Platform,
    SourceFile,
    TaskProgress,
    WheelPin,
    Wheels,
)
from mendel.images.load_command import CLASS_LABEL, MODULE_LABEL, not_verified
from mendel.images.manifests import canonical_json, digest_of
from mendel.values import Digest


class MemoryBuildEngine(BuildEngine):
    """
    Implements :class:`mendel.images.BuildEngine`: reads and checks the files of a plan, and keeps only digests.

    Equal plans give equal digests. Nothing is run: :meth:`verify` reads the predictor's source and the file names
    in the wheels.

    Args:
        store: Receives the committed images.
    """

    name = "memory"

    def __init__(self, *, bases: Bases, wheels: Wheels, store: MemoryImageStore) -> None:
        self._bases = bases
        self._wheels = wheels
        self._store = store
        self._built: set[Digest] = set()
        self._layers: set[Digest] = set()

    def build(self, plan: ImagePlan, *, use_cache: bool, on_progress: OnProgress) -> BuiltImage:
        environment = plan.environment
        platform = Platform.parse(environment.platform)
        base = self._bases.load(environment.base, platform, on_progress=on_progress)
        for venv in plan.venvs:
            self._wheels.fetch(venv.wheels, base=venv.base, platform=platform, on_progress=on_progress)
        project = () if environment.project is None else (environment.project,)
        own = [
            self._wheel_layer(ImagePart.DEPENDENCIES, environment.wheels, on_progress),
            self._wheel_layer(ImagePart.RUNTIME, (plan.runtime.wheel,), on_progress),
            *(self._wheel_layer(ImagePart.PROJECT, wheels, on_progress) for wheels in project),
            *([_file_layer(ImagePart.ARTIFACTS, plan.artifacts, b"", on_progress)] if plan.artifacts else ()),
            _file_layer(ImagePart.CODE, plan.code, plan.manifest, on_progress),
        ]
        layers = (
            *(_layer(ImagePart.BASE, "base", one.digest, one.size, reused=True) for one in base.manifest.layers),
            *(
                _layer(part, title, digest, size, reused=use_cache and digest in self._layers)
                for part, title, digest, size in own
            ),
        )
        self._layers.update(digest for _, _, digest, _ in own)
        described = [plan.labels, plan.created.isoformat(), environment.platform, list(plan.run.command)]
        config = digest_of(canonical_json([*described, plan.run.environment, [one.diff_id for one in layers]]))
        digest = digest_of(f"manifest of {config}".encode())
        self._built.add(digest)
        return BuiltImage(digest=digest, image_id=config, layers=layers, engine=self.name, reproducible=True)

    def verify(self, plan: ImagePlan, image: BuiltImage) -> None:
        """Looks for every module that the predictor's file imports, and for the class in that file."""
        failure = next(self._failures(plan), None)
        if failure is not None:
            self._built.discard(image.digest)
            raise not_verified(plan, failure)

    def commit(self, plan: ImagePlan, image: BuiltImage) -> None:
        if image.digest not in self._built:
            raise ImageNotFound(f"No image has the digest {image.digest}.", remedy="Build the image again.")
        self._store.add(
            ImageRecord(
                digest=image.digest,
                references=plan.references,
                created=plan.created,
                size_bytes=sum(layer.size_bytes for layer in image.layers),
                labels=plan.labels,
                platform=plan.environment.platform,
            )
        )

    def _wheel_layer(
        self, part: ImagePart, pins: Sequence[WheelPin], on_progress: OnProgress
    ) -> tuple[ImagePart, str, Digest, int]:
        on_progress(TaskProgress(doing=str(part)))
        for pin in pins:
            self._wheels.path(pin)  # checks the content
        title = ", ".join(f"{pin.name} {pin.version}" for pin in pins)
        digest = digest_of(canonical_json([str(part), sorted(pin.sha256 for pin in pins)]))
        return part, title, digest, sum(pin.size_bytes for pin in pins)

    def _failures(self, plan: ImagePlan) -> Iterator[str]:
        files = [{_top(name) for pin in venv.wheels for name in _names(self._wheels.path(pin))} for venv in plan.venvs]
        own = {file.path: file.source for file in plan.code}
        known = files[-1] | {_top(name) for name in own} | sys.stdlib_module_names
        if "mendel" not in files[0]:
            yield "Mendel is not installed in the image."
        module, name = plan.labels.get(MODULE_LABEL), plan.labels.get(CLASS_LABEL)
        if module is None or name is None:
            return
        path = module if module.endswith(".py") else f"{module.replace('.', '/')}.py"
        if path not in own:
            yield f"ModuleNotFoundError: No module named {module!r}"
            return
        tree = ast.parse(own[path].read_text(encoding="utf-8"))
        for imported in _imports(tree):
            if imported not in known:
                yield f"ModuleNotFoundError: No module named {imported!r}"
        if name not in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}:
            yield f"{module} has no {name}."


def _file_layer(
    part: ImagePart, files: Sequence[SourceFile], manifest: bytes, on_progress: OnProgress
) -> tuple[ImagePart, str, Digest, int]:
    total, done = sum(file.size_bytes for file in files), 0
    for file in files:
        try:
            content = file.source.read_bytes()
        except FileNotFoundError as error:
            raise _changed(file) from error
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != file.digest:
            raise _changed(file)
        done += len(content)
        on_progress(TaskProgress(doing=str(part), done=done, total=total))
    described = [str(part), digest_of(manifest), sorted([file.path, file.digest, file.executable] for file in files)]
    return part, f"{len(files)} files", digest_of(canonical_json(described)), total


def _layer(part: ImagePart, title: str, digest: Digest, size: int, *, reused: bool) -> LayerRecord:
    return LayerRecord(
        part=part, title=title, diff_id=digest, digest=digest, size_bytes=size, unpacked_bytes=size, reused=reused
    )


def _changed(file: SourceFile) -> BuildRefused:
    return BuildRefused(
        f"The file {file.path} was changed during the build.",
        remedy=("Make sure that no program writes to the file, then build again."),
    )


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _top(path: str) -> str:
    return PurePosixPath(path).parts[0].removesuffix(".py")


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
