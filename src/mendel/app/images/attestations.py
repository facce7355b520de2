"""Attaches bill of materials, provenance and signature to an image, and verifies them."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.signing import VerifyingKey, read_signing_key, read_verifying_key, sign_statement, verify_bundle
from mendel.errors import Corrupt, SignatureInvalid
from mendel.images import (
    CYCLONEDX,
    IN_TOTO,
    PROVENANCE_TYPE,
    SIGSTORE_BUNDLE,
    BuildOrigin,
    ImagePlan,
    SbomModelFacts,
    WheelFacts,
    Wheels,
    render_provenance,
    render_sbom,
)
from mendel.images.manifests import Descriptor
from mendel.values import Digest

PASSWORD_VARIABLE = "MENDEL_SIGNING_PASSWORD"  # noqa: S105 - the name of a variable
_BUNDLE_ANNOTATIONS = {
    "dev.sigstore.bundle.content": "dsse-envelope",
    "dev.sigstore.bundle.predicateType": PROVENANCE_TYPE,
}
"""How cosign finds the bundles of an image."""


class Verdict(StrEnum):
    """
    The result of checking one document.

    An ``unsigned`` document agrees with the image, but nothing proves who wrote it; a rebuild proves the image only.
    """

    HOLDS = "holds"
    UNSIGNED = "unsigned"
    UNCHECKED = "unchecked"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    The result of checking one document of an image.

    Attributes:
        document: ``sbom``, ``provenance`` or ``signature``.
        says: The reason of the verdict.
        digest: The digest of the document's content; None if the document is absent.
    """

    document: str
    verdict: Verdict
    says: str
    digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentReport:
    """Every finding about the documents of one image."""

    image: Digest
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings with a fault; if a key was given, a missing signature is a fault."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.BROKEN)

    @property
    def signed(self) -> bool:
        """Whether a signature is valid and no document is broken."""
        held = any(f.document == "signature" and f.verdict is Verdict.HOLDS for f in self.findings)
        return held and not self.broken


@dataclass(frozen=True, slots=True)
class _Document:
    content: bytes
    digest: Digest


def signing_password() -> bytes | None:
    """The password of the signing key, from ``MENDEL_SIGNING_PASSWORD``; None if that is not set."""
    given = os.environ.get(PASSWORD_VARIABLE)
    return given.encode() if given else None


def read_wheel_facts(plan: ImagePlan, wheels: Wheels) -> dict[str, WheelFacts]:
    """
    Read the metadata of the wheels of *plan*, by file name.

    Raises:
        WheelNotFound, DigestMismatch: As :meth:`mendel.images.Wheels.path`.
        Corrupt: A file is not a wheel.
    """
    pins = (plan.runtime.wheel, *plan.environment.every_wheel)
    return {pin.filename: _wheel_facts(wheels.path(pin)) for pin in pins}


def attach_documents(
    layout: Layout,
    image: Descriptor,
    plan: ImagePlan,
    *,
    key: Path | None = None,
    origin: BuildOrigin | None = None,
    model: SbomModelFacts | None = None,
    wheels: Mapping[str, WheelFacts] | None = None,
) -> tuple[Descriptor, ...]:
    """
    Attach bill of materials and provenance to *image*; with a key, also the signed provenance.

    The same arguments attach the same documents, so a second call changes nothing. The signature covers the bill of
    materials by its digest.

    Args:
        key: The private key file; ``MENDEL_SIGNING_PASSWORD`` holds its password.
        origin, model, wheels: Facts for the documents that the plan does not hold.

    Returns:
        The attached manifests: bill of materials, provenance and, with a key, the signature.

    Raises:
        NotFound, InvalidInput: The key file is missing or invalid; then nothing is attached.
    """
    signer = None if key is None else read_signing_key(key, password=signing_password())
    sbom = render_sbom(plan, image=image.digest, origin=origin, model=model, wheels=wheels)
    provenance = render_provenance(plan, image=image.digest, origin=origin, sbom=sbom)
    attached = [
        layout.attach(image, sbom, artifact_type=CYCLONEDX),
        layout.attach(image, provenance, artifact_type=IN_TOTO),
    ]
    if signer is not None:
        bundle = sign_statement(provenance, signer)
        attached.append(layout.attach(image, bundle, artifact_type=SIGSTORE_BUNDLE, annotations=_BUNDLE_ANNOTATIONS))
    return tuple(attached)


def verify_attachments(layout: Layout, image: Digest, public_key: Path | None = None) -> AttachmentReport:
    """
    Check the documents attached to *image* against the image and each other; with a key, check the signature.

    Raises:
        NotFound, InvalidInput: The key file is missing or invalid.
        ImageNotFound, DigestMismatch: A listed document is missing or damaged.
    """
    key = None if public_key is None else read_verifying_key(public_key)
    bundles = _documents(layout, image, SIGSTORE_BUNDLE)
    statements = _documents(layout, image, IN_TOTO)
    signatures, signed = _signatures(bundles, image, key)
    trusted = signed if key is not None else tuple(document.content for document in statements)
    return AttachmentReport(
        image=image,
        findings=(
            *_sboms(_documents(layout, image, CYCLONEDX), trusted, signed=key is not None),
            *_provenances(statements, image, signed if key is not None else None),
            *signatures,
        ),
    )


def _documents(layout: Layout, image: Digest, artifact_type: str) -> tuple[_Document, ...]:
    found = (entry for entry in layout.attachments(image) if entry.artifact_type == artifact_type)
    blobs = (layer.digest for entry in found for layer in layout.manifest(entry.digest).layers)
    return tuple(_Document(layout.read(digest), digest) for digest in blobs)


def _signatures(
    bundles: tuple[_Document, ...], image: Digest, key: VerifyingKey | None
) -> tuple[tuple[Finding, ...], tuple[bytes, ...]]:
    """The findings about the signatures, and the statements signed with the key."""
    if key is None:
        return tuple(
            _finding("signature", Verdict.UNCHECKED, "no public key was given (--key)", each) for each in bundles
        ), ()
    reasons, signed, held = [], [], []
    for bundle in bundles:
        try:
            statement = verify_bundle(bundle.content, key)
        except SignatureInvalid as error:
            reasons.append(_finding("signature", Verdict.UNCHECKED, error.message, bundle))
            continue
        if (wrong := _about(statement, image)) is not None:
            reasons.append(_finding("signature", Verdict.BROKEN, wrong, bundle))
            continue
        signed.append(statement)
        held.append(_finding("signature", Verdict.HOLDS, f"signed with the key {key.hint[:12]}...", bundle))
    if not held:
        says = "the image is not signed" if not bundles else "no signature of the image was made with the given key"
        reasons.append(Finding(document="signature", verdict=Verdict.BROKEN, says=says))
    return (*held, *reasons), tuple(signed)


def _provenances(
    statements: tuple[_Document, ...], image: Digest, signed: tuple[bytes, ...] | None
) -> Iterator[Finding]:
    if not statements:
        yield Finding(document="provenance", verdict=Verdict.ABSENT, says="the image has none")
    for statement in statements:
        wrong = _about(statement.content, image)
        if wrong is None and signed is not None and statement.content not in signed:
            wrong = "no signature with the given key covers the provenance"
        right = "describes this image" if signed is None else "signed"
        yield _judged("provenance", statement, wrong, right=right, signed=signed is not None)


def _sboms(sboms: tuple[_Document, ...], trusted: tuple[bytes, ...], *, signed: bool) -> Iterator[Finding]:
    """A bill of materials is valid if a trusted provenance names its digest."""
    if not sboms:
        yield Finding(document="sbom", verdict=Verdict.ABSENT, says="the image has none")
    named = {digest for statement in trusted for digest in _byproducts(statement)}
    for sbom in sboms:
        wrong = (
            None
            if hashlib.sha256(sbom.content).hexdigest() in named
            else "no provenance of the image names this bill of materials"
        )
        yield _judged("sbom", sbom, wrong, right="named by the provenance", signed=signed)


def _judged(document: str, found: _Document, wrong: str | None, *, right: str, signed: bool) -> Finding:
    held = Verdict.HOLDS if signed else Verdict.UNSIGNED
    verdict = held if wrong is None else Verdict.BROKEN
    return _finding(document, verdict, right if wrong is None else wrong, found)


def _finding(document: str, verdict: Verdict, says: str, found: _Document) -> Finding:
    return Finding(document=document, verdict=verdict, says=says, digest=found.digest)


class _Said(msgspec.Struct):
    sha256: str = ""


class _Named(msgspec.Struct):
    digest: _Said


class _Details(msgspec.Struct):
    byproducts: list[_Named] = []


class _Predicate(msgspec.Struct, rename="camel"):
    run_details: _Details


class _Provenance(msgspec.Struct, rename="camel"):
    subject: list[_Named]
    predicate_type: str
    predicate: Any = None


def _about(statement: bytes, image: Digest) -> str | None:
    """Why *statement* is not a provenance of *image*; None if it is."""
    try:
        told = msgspec.json.decode(statement, type=_Provenance)
    except msgspec.DecodeError as error:
        return f"the document is not an in-toto statement: {error}"
    if told.predicate_type != PROVENANCE_TYPE:
        return f"the document is a {told.predicate_type}, not a provenance"
    if [one.digest.sha256 for one in told.subject] != [image.hex]:
        return "the document describes another image"
    return None


def _byproducts(statement: bytes) -> Iterator[str]:
    try:
        predicate = msgspec.convert(msgspec.json.decode(statement, type=_Provenance).predicate, _Predicate)
    except (msgspec.DecodeError, msgspec.ValidationError):  # its own finding says so
        return
    yield from (one.digest.sha256 for one in predicate.run_details.byproducts)


def _wheel_facts(path: Path) -> WheelFacts:
    try:
        with zipfile.ZipFile(path) as wheel:
            names = (name for name in wheel.namelist() if name.count("/") == 1)
            metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
            return WheelFacts.parse(wheel.read(metadata).decode())
    except (zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as error:
        raise Corrupt(f"The file {path} is not a wheel: METADATA is missing.") from error
