"""Sign and verify model directories with OpenSSF Model Signing v1.0."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from mendel.adapters.signing.bundles import sign_statement, verify_bundle
from mendel.adapters.signing.keys import SigningKey, VerifyingKey
from mendel.errors import InvalidInput, NotFound, SignatureInvalid, TooLarge, Unsupported
from mendel.images import STATEMENT_TYPE, Subject, render_statement
from mendel.values import Digest
from mendel.values.atomic_files import replacing

MODEL_SIGNATURE_TYPE = "https://model_signing/signature/v1.0"
_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""Paths that the standard excludes from signatures by default: metadata of the git repository."""

_MOST_BYTES = 64 << 20
_HASHES = ("sha256", "blake2b")


class _Digests(msgspec.Struct):
    sha256: str


class _Subject(msgspec.Struct):
    name: str
    digest: _Digests


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str
    allow_symlinks: bool = False
    ignore_paths: tuple[str, ...] = ()


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(msgspec.Struct):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedModel:
    """
    A model directory whose signature was made or verified.

    Attributes:
        name: The directory's name at the time of signing.
        digest: The SHA-256 of the concatenated digests of all signed files.
        files: The paths of the signed files, relative to the directory.
        ignored: The paths that the signature excludes.
    """

    name: str
    digest: Digest
    files: tuple[str, ...]
    ignored: tuple[str, ...]


def sign_model(directory: Path, key: SigningKey, *, signature: Path, ignore: tuple[str, ...] = ()) -> SignedModel:
    """
    Sign every file below *directory* and write the bundle to *signature*, which may be inside *directory*.

    Args:
        ignore: Paths to exclude besides those of git (POSIX, relative to *directory*).

    Raises:
        NotFound: *directory* does not exist.
        InvalidInput: *directory* has no file, or contains a symbolic link or special file.
    """
    _require_directory(directory)
    inside = _inside(signature, directory)
    ignored = tuple(sorted({*_IGNORED, *ignore, *(() if inside is None else (inside,))}))
    files = _digests(directory, ignored=ignored, algorithm="sha256")
    if not files:
        raise InvalidInput(f"The directory {directory} contains no file to sign.")
    resources = [{"name": name, "algorithm": "sha256", "digest": files[name]} for name in files]
    whole = _root(files.values())
    statement = render_statement(
        [Subject(name=directory.resolve().name, digest=whole)],
        predicate_type=MODEL_SIGNATURE_TYPE,
        predicate={
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(ignored),
            },
            "resources": resources,
        },
    )
    _write(signature, sign_statement(statement, key))
    return SignedModel(name=directory.resolve().name, digest=whole, files=tuple(files), ignored=ignored)


def verify_model(directory: Path, key: VerifyingKey, *, signature: Path) -> SignedModel:
    """
    Check that *directory* holds exactly the files that were signed.

    Raises:
        NotFound: *directory* or *signature* does not exist.
        SignatureInvalid: The bundle is invalid, or files were changed, added or removed; the error names each file.
        InvalidInput: *directory* contains a symbolic link or special file.
        Unsupported: The signature uses a method or hash that only the reference implementation supports.
    """
    _require_directory(directory)
    name, whole, predicate = _read(verify_bundle(_bundle(signature), key))
    inside = _inside(signature, directory)
    ignored = (*predicate.serialization.ignore_paths, *(() if inside is None else (inside,)))
    signed = {resource.name: resource.digest for resource in predicate.resources}
    found = _digests(directory, ignored=ignored, algorithm=predicate.serialization.hash_type)
    if reasons := tuple(_differences(signed, found)):
        raise SignatureInvalid(
            f"The files in {directory} differ from the signed files.",
            reasons=reasons,
            remedy="Get the model directory again, or sign the directory again with: mendel sign model",
        )
    return SignedModel(name=name, digest=whole, files=tuple(signed), ignored=ignored)


def _read(statement: bytes) -> tuple[str, Digest, _Predicate]:
    """Parse the signed statement into the model's name, its digest, and the list of files."""
    try:
        told = msgspec.json.decode(statement, type=_Statement)
        if (told.type, told.predicate_type) != (STATEMENT_TYPE, MODEL_SIGNATURE_TYPE):
            raise SignatureInvalid(f"The signature file signs a {told.predicate_type}, not a model directory.")
        predicate = msgspec.json.decode(told.predicate, type=_Predicate)
    except msgspec.DecodeError as error:
        raise SignatureInvalid(f"The signature file does not sign a model directory: {error}.") from error
    _require_readable(predicate.serialization)
    names = [resource.name for resource in predicate.resources]
    if len(told.subject) != 1 or not names or len(set(names)) != len(names):
        raise SignatureInvalid("The signature file lists no file, or the same file twice.")
    whole = _root(resource.digest for resource in predicate.resources)
    if whole.hex != told.subject[0].digest.sha256:
        raise SignatureInvalid("The list of files in the signature file does not match the signed digest.")
    return told.subject[0].name, whole, predicate


def _require_readable(how: _Serialization) -> None:
    if how.method != "files" or how.hash_type not in _HASHES or how.allow_symlinks:
        links = " and symbolic links" if how.allow_symlinks else ""
        raise Unsupported(
            f"The signature uses the method {how.method} with {how.hash_type}{links}, which Mendel cannot verify.",
            remedy="Verify the directory with the program model_signing, or sign the directory with: mendel sign model",
        )


def _digests(directory: Path, *, ignored: tuple[str, ...], algorithm: str) -> dict[str, str]:
    """Hash every file; gives hex digests by POSIX path, sorted by path."""
    found = {}
    for name, path in _files(directory, tuple(PurePosixPath(each) for each in ignored)):
        with path.open("rb") as file:
            found[name] = hashlib.file_digest(file, algorithm).hexdigest()
    return {str(name): found[name] for name in sorted(found)}


def _files(directory: Path, ignored: tuple[PurePosixPath, ...]) -> Iterator[tuple[PurePosixPath, Path]]:
    for path in directory.rglob("*"):
        name = PurePosixPath(path.relative_to(directory).as_posix())
        if any(name.is_relative_to(each) for each in ignored):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInput(
                f"{name} in {directory} is a symbolic link or special file, which cannot be signed.",
                remedy="Replace the link by a copy, or exclude the path with --ignore.",
            )
        if path.is_file():
            yield name, path


def _differences(signed: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    added = sorted(found.keys() - signed.keys())
    for name in sorted(signed.keys() - found.keys()):
        new = next((other for other in added if found[other] == signed[name]), None)
        if new is None:
            yield f"{name} is missing"
        else:
            added.remove(new)
            yield f"{name} was renamed to {new}"
    yield from (f"{name} was added" for name in added)
    yield from (f"{name} was changed" for name in sorted(signed.keys() & found.keys()) if signed[name] != found[name])


def _root(digests: Iterable[str]) -> Digest:
    """Hash the concatenated digests of the files, in the given order, with SHA-256."""
    whole = hashlib.sha256()
    try:
        for digest in digests:
            whole.update(bytes.fromhex(digest))
    except ValueError as error:
        raise SignatureInvalid(f"A digest in the signature file is not hexadecimal: {error}.") from error
    return Digest(f"sha256:{whole.hexdigest()}")


def _require_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise NotFound(f"The directory {directory} does not exist.")


def _inside(signature: Path, directory: Path) -> str | None:
    """Give the path of *signature* relative to *directory*; None if *signature* is outside."""
    where = signature.resolve()
    return where.relative_to(directory.resolve()).as_posix() if where.is_relative_to(directory.resolve()) else None


def _bundle(signature: Path) -> bytes:
    try:
        with signature.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(
            f"The signature file {signature} does not exist.", remedy="Sign the directory with: mendel sign model"
        ) from error
    except OSError as error:
        raise InvalidInput(f"The signature file {signature} cannot be read: {error.strerror}.") from error
    if len(content) > _MOST_BYTES:
        raise TooLarge(f"The signature file {signature} is larger than the limit of {_MOST_BYTES >> 20} MiB.")
    return content


def _write(path: Path, content: bytes) -> None:
    with replacing(path, parents=False) as draft:
        draft.write_bytes(content)
