"""Write a build plan as a multi-stage Dockerfile, for projects that need Debian packages or packages without wheels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mendel.errors import BuildRefused, InvalidValue, Unsupported
from mendel.images.entities import APP, DATA, MANIFEST, USER_ID, VENV, ImagePlan, Venv
from mendel.images.labels import one_line
from mendel.images.lockfile import WheelPin

APT_FILE = "apt.txt"
"""The file beside ``mlserver.yaml`` that lists the Debian packages a project needs, one name per line."""

SOURCES_FILE = "sources.txt"
"""The file beside ``mlserver.yaml`` that lists requirements without wheels, which pip compiles during the build."""

_BUILD = "/build"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_STAYS_BEHIND = re.compile(
    r".*-dev|build-essential|dpkg-dev|(gcc|g\+\+|gfortran|clang|llvm|cpp|binutils)(-.*)?|make|cmake|ninja-build|meson"
    r"|cargo|rustc|golang(-.*)?|pkg-config|pkgconf|autoconf|automake|libtool|swig|git"
)
_FROM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*")
_TAGGED = re.compile(r":[A-Za-z0-9_][A-Za-z0-9_.-]*$")
_APT = (
    'apt-get update && apt-get install -y --no-install-recommends -- "$@" && apt-get clean && '
    "rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old"
)
_MAKE_DATA = f"import os; os.makedirs('{DATA}', exist_ok=True); os.chown('{DATA}', {USER_ID}, {USER_ID})"
_PIP = ("--disable-pip-version-check", "--no-cache-dir", "--no-compile", "--root-user-action=ignore")
_HEALTH = "--interval=10s --timeout=5s --start-period=60s --retries=3"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNeeds:
    """
    The inputs of a build by a container engine that the plan does not pin; they make the image not reproducible.

    Attributes:
        apt: Debian packages, as :func:`apt_packages` reads them. Compilers and ``-dev`` packages are installed for the
            build only, all other packages in the image too.
        sources: Requirements that pip resolves and compiles, as :func:`source_requirements` reads them.
        base: The name in ``FROM`` instead of the plan's base, for a base image that was loaded into the engine.
        pip_wheel: The file name of a pip wheel in the build context, for base images without pip.
        from_index: True when pip in the engine fetches wheels from its index, by hash; the context then holds the
            wheels of Mendel and pip only.
    """

    apt: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    base: str | None = None
    pip_wheel: str | None = None
    from_index: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """One file of the directory that the engine is given; *source* is a file to copy, or the content itself."""

    path: str
    source: Path | bytes
    executable: bool = False


def apt_packages(text: str, *, path: str = APT_FILE) -> tuple[str, ...]:
    """
    Read the packages that a file like ``apt.txt`` lists, sorted; ``#`` starts a comment.

    Raises:
        BuildRefused: A line is not the name of a package; the reasons list every such line.
    """
    lines = list(_lines(text))
    wrong = tuple(
        f"{path}:{n}: {line!r} is not a valid name of a Debian package." for n, line in lines if not _is_package(line)
    )
    if wrong:
        raise BuildRefused(f"The file {path} has invalid lines.", reasons=wrong)
    return tuple(sorted({line for _, line in lines}))


def source_requirements(text: str, *, path: str = SOURCES_FILE) -> tuple[str, ...]:
    """
    Read the requirements that a file like ``sources.txt`` lists, in order; ``#`` starts a comment.

    Raises:
        BuildRefused: A line is a pip option or contains control characters; the reasons list every such line.
    """
    lines = list(_lines(text))
    wrong = tuple(
        f"{path}:{n}: {line!r} is a pip option or contains control characters."
        for n, line in lines
        if line[0] == "-" or one_line(line) != line
    )
    if wrong:
        raise BuildRefused(f"The file {path} has invalid lines.", reasons=wrong)
    return tuple(dict.fromkeys(line for _, line in lines))


_NOTHING_MORE = EngineNeeds()


def render_dockerfile(plan: ImagePlan, needs: EngineNeeds = _NOTHING_MORE) -> str:
    """
    Write the Dockerfile of *plan*; :func:`build_context` with the same arguments gives its context.

    Texts from users are written as JSON arrays, or quoted with every ``$`` escaped, so that no shell interprets them.
    The project's files are copied as two directories, because ``COPY`` would read file names as patterns.

    Raises:
        InvalidValue: The base image has no reference that a Dockerfile can name.
        Unsupported: pip, which runs in the image during the build, does not support the project's Python.
    """
    if plan.environment.project is not None and plan.environment.base.runtime is not None:
        raise Unsupported(
            f"docker, podman and buildah build no image for a project on Python {plan.environment.base.python}.",
            remedy="Build with --engine oci.",
        )
    return "\n".join([*_builder_stage(plan, needs), "", *_final_stage(plan, needs)]) + "\n"


def build_context(
    plan: ImagePlan, wheels: Mapping[str, Path], needs: EngineNeeds = _NOTHING_MORE
) -> tuple[ContextFile, ...]:
    """
    Give every file of the build context, including the Dockerfile, sorted by path.

    Args:
        wheels: The path of each wheel by file name: those of :func:`context_wheels`, and pip's wheel if needed.
    """
    generated = {"Dockerfile": render_dockerfile(plan, needs)}
    generated |= {f"build/{_requirements_file(venv)}": _pinned(venv.wheels) for venv in plan.venvs}
    if needs.sources:
        generated["build/sources.txt"] = "".join(f"{line}\n" for line in needs.sources)
        generated["build/constraints.txt"] = "".join(
            f"{wheel.name}=={wheel.version}\n" for wheel in plan.venvs[-1].wheels if wheel != plan.runtime.wheel
        )
    names = [wheel.filename for wheel in context_wheels(plan, needs)]
    names += [] if needs.pip_wheel is None else [needs.pip_wheel]
    parts = (("artifacts", plan.artifacts), ("code", plan.code))
    return tuple(
        sorted(
            (
                *(ContextFile(path=path, source=text.encode()) for path, text in generated.items()),
                *(ContextFile(path=f"build/wheels/{name}", source=wheels[name]) for name in names),
                *(
                    ContextFile(path=f"{part}/{file.path}", source=file.source, executable=file.executable)
                    for part, files in parts
                    for file in files
                ),
                ContextFile(path=f"code/{MANIFEST}", source=plan.manifest),
            ),
            key=lambda file: file.path,
        )
    )


def context_wheels(plan: ImagePlan, needs: EngineNeeds = _NOTHING_MORE) -> tuple[WheelPin, ...]:
    """The pinned wheels that the context must hold, Mendel's own last."""
    return (*(() if needs.from_index else plan.environment.every_wheel), plan.runtime.wheel)


def base_reference(plan: ImagePlan) -> str:
    """
    Name the plan's base image by digest: ``python:3.11-slim`` becomes ``python@sha256:...``.

    The tag is dropped because engines refuse a reference with both tag and digest.

    Raises:
        InvalidValue: The base is an OCI layout or archive, which must be loaded into the engine first.
    """
    base = plan.environment.base
    if base.reference.startswith(("oci:", "oci-archive:")):
        raise InvalidValue(
            (
                f"The base image {base.reference} is a local directory or file, which docker, podman and "
                "buildah cannot use."
            ),
            remedy="Load the base image into the engine, and set build.base_image to the image's name in the engine.",
        )
    return f"{_TAGGED.sub('', base.reference.partition('@')[0])}@{base.digest}"


def _builder_stage(plan: ImagePlan, needs: EngineNeeds) -> Iterator[str]:
    yield f"# The image of {plan.classifier}, rendered by Mendel. It cannot be repeated byte by byte."
    yield f"FROM {_from(plan, needs)} AS builder"
    yield "USER 0:0"
    yield from _apt(needs.apt)
    yield f'COPY ["build/", "{_BUILD}/"]'
    index = () if needs.from_index else ("--no-index",)
    found = ("--find-links", f"{_BUILD}/wheels")
    for venv in plan.venvs:
        pinned = ("--require-hashes", "--no-deps", *index, *found, "-r", f"{_BUILD}/{_requirements_file(venv)}")
        yield _exec("RUN", (venv.base.interpreter, "-m", "venv", "--without-pip", str(venv.directory)))
        yield _exec("RUN", (*_pip(venv, needs), "install", *_PIP, *pinned))
    if needs.sources:
        free = ("-c", f"{_BUILD}/constraints.txt", *found, "-r", f"{_BUILD}/sources.txt")
        yield _exec("RUN", (*_pip(plan.venvs[-1], needs), "install", *_PIP, *free))


def _pip(venv: Venv, needs: EngineNeeds) -> tuple[str, ...]:
    """Give the command that runs the pip of the base image, or of its wheel, for *venv*."""
    if needs.pip_wheel is None:
        return (venv.base.interpreter, "-m", "pip", "--python", venv.python)
    return (venv.python, f"{_BUILD}/wheels/{needs.pip_wheel}/pip")


def _requirements_file(venv: Venv) -> str:
    return "requirements.txt" if venv.directory == VENV else f"{venv.directory.name}-requirements.txt"


def _final_stage(plan: ImagePlan, needs: EngineNeeds) -> Iterator[str]:
    yield f"FROM {_from(plan, needs)}"
    yield "USER 0:0"
    yield from _apt(package for package in needs.apt if not _STAYS_BEHIND.fullmatch(package))
    yield _exec("RUN", (plan.environment.base.interpreter, "-c", _MAKE_DATA))
    for venv in plan.venvs:
        yield f'COPY --from=builder --chown=0:0 ["{venv.directory}/", "{venv.directory}/"]'
    if plan.artifacts:
        yield f'COPY --chown=0:0 ["artifacts/", "{APP}/"]'
    yield f'COPY --chown=0:0 ["code/", "{APP}/"]'
    yield f'ENV PATH="{plan.path}:$PATH"'
    yield from _pairs("ENV", plan.run.environment)
    yield f"WORKDIR {plan.run.working_directory}"
    if plan.run.ports:
        yield f"EXPOSE {' '.join(str(port) for port in plan.run.ports)}"
    yield from _pairs("LABEL", {**plan.labels, "com.mendel.reproducible": "false"})
    yield f"USER {USER_ID}:{USER_ID}"
    yield f"HEALTHCHECK {_HEALTH} {_exec('CMD', plan.run.healthcheck)}"
    yield "ENTRYPOINT []"
    yield _exec("CMD", plan.run.command)


def _apt(packages: Iterable[str]) -> Iterator[str]:
    """Write the ``RUN`` step that installs *packages*; the package names are arguments of a fixed script."""
    if wanted := tuple(packages):
        yield _exec("RUN", ("/bin/sh", "-ec", _APT, "apt", *wanted))


def _from(plan: ImagePlan, needs: EngineNeeds) -> str:
    reference = base_reference(plan) if needs.base is None else needs.base
    if not _FROM.fullmatch(reference):
        raise InvalidValue(f"The base image {reference!r} has characters that a Dockerfile does not allow.")
    return reference


def _pinned(wheels: Iterable[WheelPin]) -> str:
    return "".join(f"{wheel.name}=={wheel.version} --hash={wheel.sha256}\n" for wheel in wheels)


def _exec(instruction: str, words: Iterable[str]) -> str:
    return f"{instruction} {json.dumps(list(words))}"


def _pairs(instruction: str, values: Mapping[str, str]) -> Iterator[str]:
    """Write one ``LABEL`` or ``ENV`` instruction for all values, because engines make a layer of each instruction."""
    pairs = [_pair(name, value) for name, value in sorted(values.items())]
    if pairs:
        yield f"{instruction} " + " \\\n    ".join(pairs)


def _pair(name: str, value: str) -> str:
    r"""
    Write ``name="value"`` with shell escapes, which engines expect in ``LABEL`` and ``ENV`` only.

    >>> print(_pair("k", 'a "$b"'))
    k="a \"\$b\""
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise InvalidValue(f"{name!r} is not a valid name of an image label or environment variable.")
    escaped = re.sub(r'([\\"$])', r"\\\1", one_line(value))
    return f'{name}="{escaped}"'


def _is_package(line: str) -> bool:
    return _PACKAGE.fullmatch(line) is not None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare:
            yield number, bare
