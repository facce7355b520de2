"""Read the requirements of a classifier from ``requirements.txt``, check them, and bring them to a normal form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mendel.errors import BuildRefused, InvalidValue
from mendel.images.lockfile import Platform, WheelPin
from mendel.images.wheel_metadata import normalized_name
from mendel.values import Digest

REQUIREMENTS_FILE = "requirements.txt"

OTHER_ENGINES = (
    "Require a version that has a wheel in a package index, or build with --engine docker, podman or buildah, which "
    "can compile source distributions."
)
_OWN_NAME = "mendel"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_CLAUSE = re.compile(r"(===|==|~=|!=|<=|>=|<|>)\s*([A-Za-z0-9.*+!_-]+)")
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[(?P<extras>[^\]]*)\])?\s*(?P<versions>\([^)]*\)|[^;@]*)(?:;(?P<marker>.*))?"
)
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")
_URL = re.compile(rf"(?:{_NAME}\s*(?:\[[^\]]*\])?\s*@\s*\S|[a-z+]+://|git\+|file:)")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")
_HARMLESS_OPTIONS = ("--prefer-binary", "--only-binary")
_REQUIRE_HASHES = "--require-hashes"
_MAX_FILES = 100

Hashes = tuple[tuple[str, tuple[str, ...]], ...]

ReadFile = Callable[[str], str | None]
"""Gives the text of a project's file by its POSIX path below the project; None when the project has no such file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """
    The content of a requirements file and the files that it includes.

    Attributes:
        lines: Requirements in normal form, sorted, each once.
        constraints: Bounds on versions that apply only if a distribution is installed, in the same form.
        hashes: Each line or constraint that has hashes, with its hashes (``sha256:<hex>``), sorted; None if no line has
            any, and the option ``--require-hashes`` is absent.
        hints: Sentences about lines that were left out, and why.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: Hashes | None = None
    hints: tuple[str, ...] = ()

    @property
    def recorded(self) -> tuple[str, ...]:
        """The lines that a lock records: constraints, marked ``-c``, then requirements."""
        return (*(f"-c {line}" for line in self.constraints), *self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    file: str
    number: int
    text: str
    constraint: bool


def read_requirements(name: str, read: ReadFile) -> Requirements:
    """
    Read the requirements file *name* and the files that it includes.

    Raises:
        BuildRefused: A line cannot be pinned by a lock, or an included file is missing; the error lists every reason.
    """
    reasons: list[str] = []
    lines: set[str] = set()
    constraints: set[str] = set()
    hints: list[str] = []
    hashes: dict[str, set[str]] = {}
    hashed = False
    for line in _lines(name, read, reasons):
        if line.text == _REQUIRE_HASHES:
            hashed = True
            continue
        try:
            normal = normal_requirement(line.text)
        except InvalidValue as error:
            reasons.append(f"{line.file}:{line.number}: {error.message}")
            continue
        if requirement_name(normal) == _OWN_NAME:
            hints.append(
                f"{line.file}:{line.number}: {line.text!r} is left out, because every image contains Mendel. Code that "
                "imports Mendel needs build.isolation: shared."
            )
            continue
        (constraints if line.constraint else lines).add(normal)
        if found := _HASH.findall(line.text):
            hashes.setdefault(normal, set()).update(found)
    if reasons:
        raise BuildRefused(
            f"The requirements file {name} has lines that mlserver.lock cannot pin.",
            reasons=tuple(reasons),
            remedy=OTHER_ENGINES,
        )
    return Requirements(
        lines=tuple(sorted(lines)),
        constraints=tuple(sorted(constraints)),
        hashes=tuple((line, tuple(sorted(hashes[line]))) for line in sorted(hashes)) if hashes or hashed else None,
        hints=tuple(hints),
    )


def normal_requirement(text: str) -> str:
    """
    Bring a requirement to the form that locks compare: canonical name, sorted extras and versions, no hashes.

    >>> normal_requirement('Scikit_Learn[b, a] < 2, >=1.5 ; python_version<"3.13"')
    'scikit-learn[a,b]<2,>=1.5; python_version < "3.13"'

    Raises:
        InvalidValue: *text* is a path, an address, or not a requirement.
    """
    plain = _HASH.sub("", f"{text} ").strip()
    if _VARIABLE.search(plain):
        raise InvalidValue(f"{plain!r} depends on an environment variable, which mlserver.lock cannot pin.")
    if _URL.match(plain) or plain.startswith((".", "/")) or plain.endswith((".whl", ".tar.gz", ".zip")):
        raise InvalidValue(f"{_without_secret(plain)!r} is a path or a URL, whose content mlserver.lock cannot pin.")
    found = _REQUIREMENT.fullmatch(plain)
    if found is None or "@" in plain.split(";", 1)[0]:
        raise InvalidValue(f"{plain!r} is not a valid requirement.")
    extras = sorted(normalized_name(extra.strip()) for extra in (found["extras"] or "").split(",") if extra.strip())
    versions = ",".join(sorted(_clauses(found["versions"].strip().strip("()"), plain)))
    marker = f"; {_normal_marker(found['marker'])}" if (found["marker"] or "").strip() else ""
    wanted = f"[{','.join(extras)}]" if extras else ""
    return f"{normalized_name(found['name'])}{wanted}{versions}{marker}"


def requirement_name(normal: str) -> str:
    """Give the distribution's name in a requirement of normal form."""
    return re.split(r"[\[<>=!~;]", normal, maxsplit=1)[0].strip()


def refused_by_hashes(wheels: Iterable[WheelPin], hashes: Hashes | None) -> Iterator[WheelPin]:
    """Yield the wheels whose distribution has SHA-256 hashes in the requirements, but another digest."""
    allowed: dict[str, set[str]] = {}
    for line, found in hashes or ():
        allowed.setdefault(requirement_name(line), set()).update(one for one in found if one.startswith("sha256:"))
    return (pin for pin in wheels if (known := allowed.get(pin.name)) and pin.sha256 not in known)


def environment_inputs(
    *, base_reference: str, requirements: Sequence[str], own: Sequence[str], platform: Platform, isolated: bool
) -> Digest:
    """
    Compute the digest of the resolver's inputs; a lock is fresh while it records the current digest.

    Args:
        requirements: The lines of :attr:`Requirements.recorded`.
        own: The requirements of Mendel's own wheel, in normal form.
        isolated: Whether the project has an environment of its own.
    """
    parts = [base_reference, str(platform), "\n".join(sorted(requirements)), "\n".join(sorted(own))]
    parts += ["isolated"] if isolated else []
    whole = "\0".join(parts).encode()
    return Digest(f"sha256:{hashlib.sha256(whole).hexdigest()}")


def _lines(name: str, read: ReadFile, reasons: list[str]) -> Iterator[_Line]:
    waiting: list[tuple[str, bool, str]] = [(name, False, name)]
    seen: set[tuple[str, bool]] = set()
    while waiting:
        file, constraint, asked = waiting.pop(0)
        if (file, constraint) in seen:
            continue
        seen.add((file, constraint))
        text = read(file) if len(seen) <= _MAX_FILES else None
        if text is None:
            reasons.append(f"{asked}: the file {file!r} does not exist in the project.")
            continue
        for number, line in _joined(text):
            match _read_option(line):
                case None:
                    yield _Line(file=file, number=number, text=line, constraint=constraint)
                case _Include(target=target, constraint=of_constraints):
                    beside = _beside(file, target)
                    waiting.append((beside, constraint or of_constraints, f"{file}:{number}"))
                case _Ignored():
                    continue
                case _Refused(why=why):
                    reasons.append(f"{file}:{number}: {why}")


@dataclass(frozen=True, slots=True)
class _Include:
    target: str
    constraint: bool


@dataclass(frozen=True, slots=True)
class _Ignored:
    pass


@dataclass(frozen=True, slots=True)
class _Refused:
    why: str


def _read_option(line: str) -> _Include | _Ignored | _Refused | None:
    return _option(line) if line.startswith("-") and line != _REQUIRE_HASHES else None


def _option(line: str) -> _Include | _Ignored | _Refused:
    short = line[:2] in {"-r", "-c", "-e", "-i", "-f"} and not line.startswith("--")
    option, rest = (line[:2], line[2:]) if short else (*re.split(r"[=\s]", line, maxsplit=1), "")[:2]
    target = rest.strip().lstrip("=").strip()
    match option:
        case "-r" | "--requirement" | "-c" | "--constraint":
            if "://" in target:
                return _Refused(f"{option} with a URL is not supported; name a file inside the project.")
            return _Include(target, option in {"-c", "--constraint"})
        case "-e" | "--editable":
            return _Refused(
                f"{_without_secret(target)!r} is an editable install, whose content mlserver.lock cannot pin."
            )
        case _ if option in _INDEX_OPTIONS:
            return _Refused(f"{option} is not supported; set the package index with 'pip config' on each machine.")
        case _ if option in _HARMLESS_OPTIONS:
            return _Ignored()
    return _Refused(f"the pip option {option} is not supported.")


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; continued lines are joined, comments and empty lines are left out."""
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not parts:
            first = number
        continued = raw.endswith("\\") and not raw.lstrip().startswith("#")
        parts.append(raw[:-1] if continued else raw)
        if continued:
            continue
        line = _COMMENT.sub("", " ".join(parts)).strip()
        parts = []
        if line:
            yield first, line
    if line := _COMMENT.sub("", " ".join(parts)).strip():
        yield first, line


def _beside(file: str, target: str) -> str:
    path = PurePosixPath(file).parent / target
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _clauses(versions: str, line: str) -> Iterator[str]:
    for clause in filter(None, (part.strip() for part in versions.split(","))):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise InvalidValue(f"{clause!r} in {line!r} is not a version bound such as '>=1.5'.")
        yield f"{found[1]}{found[2]}"


def _normal_marker(marker: str) -> str:
    spaced = re.sub(r"\s*(===|==|~=|!=|<=|>=|<|>)\s*", r" \1 ", marker.replace("'", '"'))
    return re.sub(r"\s+", " ", spaced).strip()


def _without_secret(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
