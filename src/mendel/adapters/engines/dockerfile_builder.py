"""Build an image plan with docker, podman or buildah, for projects that need Debian packages or a compiler."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mendel.adapters.engines.build_context import pack_pip, write_context
from mendel.adapters.engines.container_engine import BUILDERS
from mendel.adapters.engines.external_program import Ended, Program
from mendel.errors import ImageNotFound, MendelError, Unsupported
from mendel.images import (
    Bases,
    BuildEngine,
    BuiltImage,
    EngineNeeds,
    ImagePlan,
    OnProgress,
    Platform,
    TaskProgress,
    Wheels,
    build_context,
    context_wheels,
)
from mendel.images.image_archives import write_archive
from mendel.images.load_command import LOAD_LIMIT, load_command, not_verified
from mendel.values import Digest

_BUILDING = timedelta(hours=2)
_LOADING = timedelta(minutes=30)
_STEP = re.compile(r"^(?:\[\d+/\d+\] )?(?:STEP |Step \d|#\d+ \[)")
_OF_ENGINE = re.compile(r"^(?:Error: |subprocess exited |time=.* level=).*$", re.MULTILINE)
"""Matches the messages that buildah and podman print after the output of the container."""
_NOTHING_MORE = EngineNeeds()


class DockerfileEngine(BuildEngine):
    """
    Implements :class:`mendel.images.BuildEngine`: renders a Dockerfile that docker, podman or buildah builds.

    Wheels and base are pinned by the plan; Debian packages and compiler output are not, so two builds can differ. The
    engine's own environment variables (``BUILDAH_ISOLATION``, ``CONTAINERS_CONF``, ``DOCKER_HOST``) apply. The built
    image does not list its layers.

    Args:
        name: ``docker``, ``podman`` or ``buildah``.
        needs: Debian packages, and Python distributions to compile; the builder sets ``base`` and ``pip_wheel``.
        volumes: Mounts ``source:target:ro`` for the build steps of podman and buildah, such as pip's configuration.
        environment: All environment variables of the engine; None passes Mendel's own environment variables.
    """

    def __init__(
        self,
        name: str,
        *,
        wheels: Wheels,
        bases: Bases,
        needs: EngineNeeds = _NOTHING_MORE,
        volumes: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if name not in BUILDERS:
            raise Unsupported(f"{name} cannot build images.", remedy=f"Use {', '.join(BUILDERS)}.")
        self.name = name
        self._wheels = wheels
        self._bases = bases
        self._needs = needs
        self._volumes = tuple(volumes)
        self._program = Program(name, environment)

    def build(self, plan: ImagePlan, *, use_cache: bool, on_progress: OnProgress) -> BuiltImage:
        """
        Build the image; the layers of a failed build stay in the engine's cache.

        Raises:
            Unsupported: The engine or pip is not installed, or the project's Python is too old for pip.
        """
        needs = replace(self._needs, base=self._base(plan, on_progress))
        with tempfile.TemporaryDirectory(prefix="mendel-context-") as scratch:
            room = Path(scratch)
            pip = pack_pip(room)
            needs = replace(needs, pip_wheel=pip.name)
            wheels = {**self._fetched(plan, needs, on_progress), pip.name: pip}
            context = room / "context"
            write_context(context, build_context(plan, wheels, needs), plan)
            image_file = room / "id"
            arguments = self._build_arguments(plan, context, image_file, use_cache=use_cache)
            self._program.watch(*arguments, within=_BUILDING, write=_steps(on_progress))
            image = image_file.read_text().strip()
        return self._built(image)

    def verify(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Load the predictor in a container; an image that fails is removed unless the image has a name.

        The container has no network, except with buildah.
        """
        name = f"mendel-verify-{image.image_id.hex[:12]}-{os.getpid()}"
        try:
            ended = self._loaded(name, plan, image)
        finally:
            self._program.attempt("rm", *(() if self.name == "buildah" else ("--force",)), name)
        if ended.code:
            self._remove_unnamed(image)
            raise not_verified(plan, _OF_ENGINE.sub("", ended.tail).strip())

    def commit(self, plan: ImagePlan, image: BuiltImage) -> None:
        """
        Set all names of the image; docker sets one name at a time, and all former names are restored after a failure.
        """
        if self._id_of(image.image_id.hex) is None:
            raise ImageNotFound(
                (f"{self.name} has no image {image.image_id}."), remedy="Build the image again with: mendel build"
            )
        if self.name != "docker":
            self._program.answer("tag", image.image_id.hex, *plan.references)
            return
        former = {name: self._id_of(name) for name in plan.references}
        done: list[str] = []
        try:
            for name in plan.references:
                done.append(name)
                self._program.answer("tag", image.image_id, name)
        except BaseException:
            for name in done:
                back = ("rmi", "--no-prune", name) if (was := former[name]) is None else ("tag", was, name)
                with suppress(MendelError):
                    self._program.attempt(*back)
            raise

    def _base(self, plan: ImagePlan, on_progress: OnProgress) -> str:
        """Load the plan's base image into the engine unless present; gives the local name of the base image."""
        pin = plan.environment.base
        name = f"localhost/mendel-base:{pin.digest.hex[:32]}"
        if self._id_of(name) is not None:
            return name
        on_progress(TaskProgress(doing=f"loading the base image {pin.reference} into {self.name}"))
        base = self._bases.load(pin, Platform.parse(plan.environment.platform), on_progress=on_progress)
        with tempfile.TemporaryDirectory(prefix="mendel-base-") as scratch:
            archive = Path(scratch) / "base.tar"
            write_archive(base.blobs, base.descriptor.digest, (name,), archive)
            if self.name == "docker":
                self._program.answer("load", "--quiet", "--input", str(archive), within=_LOADING)
                return name
            printed = self._program.answer("pull", "--quiet", f"oci-archive:{archive}:{name}", within=_LOADING)
        self._program.answer("tag", printed.split()[-1], name)
        return name

    def _fetched(self, plan: ImagePlan, needs: EngineNeeds, on_progress: OnProgress) -> dict[str, Path]:
        pins, platform = context_wheels(plan, needs), Platform.parse(plan.environment.platform)
        for venv in plan.venvs:
            wanted = [pin for pin in venv.wheels if pin in pins]
            self._wheels.fetch(wanted, base=venv.base, platform=platform, on_progress=on_progress)
        return {pin.filename: self._wheels.path(pin) for pin in pins}

    def _build_arguments(self, plan: ImagePlan, context: Path, image_file: Path, *, use_cache: bool) -> list[str]:
        dockerfile = (f"--file={context / 'Dockerfile'}", f"--iidfile={image_file}")
        cache = () if use_cache else ("--no-cache",)
        if self.name == "docker":  # docker's classic builder has no --platform; the base image decides the platform
            return ["build", "--force-rm", *cache, *dockerfile, str(context)]
        platform = f"--platform={plan.environment.platform}"
        keep = "--layers=true" if use_cache else "--layers=false"
        volumes = (f"--volume={volume}" for volume in self._volumes)
        # The OCI format has no HEALTHCHECK; buildah keeps failed containers without --force-rm.
        own = ("--format=docker", "--force-rm", "--pull-never" if self.name == "buildah" else "--pull=never")
        return ["build", *own, platform, keep, *cache, *volumes, *dockerfile, str(context)]

    def _built(self, image: str) -> BuiltImage:
        image_id = Digest(f"sha256:{image.removeprefix('sha256:')}")
        return BuiltImage(
            digest=self._manifest_of(image_id), image_id=image_id, layers=(), engine=self.name, reproducible=False
        )

    def _manifest_of(self, image_id: Digest) -> Digest:
        """
        Give the manifest digest, or the image id if the engine stores no manifests (docker's classic image store).
        """
        if self.name == "buildah":
            form = "{{.FromImageDigest}}"
            return Digest(self._program.answer("inspect", "--type=image", f"--format={form}", image_id.hex).strip())
        found = json.loads(self._program.answer("image", "inspect", image_id.hex))[0]
        described = found.get("Digest") or (found.get("Descriptor") or {}).get("digest")
        return Digest(described) if described else image_id

    def _loaded(self, name: str, plan: ImagePlan, image: BuiltImage) -> Ended:
        command = load_command(plan)
        if self.name == "buildah":
            self._program.answer("from", "--pull-never", f"--name={name}", image.image_id.hex)
            return self._program.attempt("run", name, "--", *command, within=LOAD_LIMIT)
        python, *arguments = command
        closed = ("--network=none", "--pull=never", f"--entrypoint={python}")
        return self._program.attempt(
            "run", "--rm", f"--name={name}", *closed, image.image_id.hex, *arguments, within=LOAD_LIMIT
        )

    def _remove_unnamed(self, image: BuiltImage) -> None:
        keep_cache = () if self.name == "buildah" else ("--no-prune",)
        if not self._names_of(image.image_id):
            self._program.attempt("rmi", *keep_cache, image.image_id.hex)

    def _names_of(self, image_id: Digest) -> list[str]:
        if self.name == "buildah":
            listed = json.loads(self._program.answer("images", "--json", "--all", "--no-trunc") or "[]")
            return [name for one in listed or () if image_id.hex in one["id"] for name in one.get("names") or ()]
        found = json.loads(self._program.answer("image", "inspect", image_id.hex))[0]
        return list(found.get("RepoTags") or ())

    def _id_of(self, reference: str) -> str | None:
        form = "{{.FromImageID}}" if self.name == "buildah" else "{{.Id}}"
        kind = ("inspect", "--type=image") if self.name == "buildah" else ("image", "inspect")
        ended = self._program.attempt(*kind, f"--format={form}", reference)
        return ended.out.strip() if ended.code == 0 else None


def _steps(on_progress: OnProgress) -> Callable[[str], None]:
    def write(line: str) -> None:
        if _STEP.match(line):
            on_progress(TaskProgress(doing=line.strip()))

    return write
