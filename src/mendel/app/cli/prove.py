"""Commands that verify the ledger, and sign and verify model directories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import EVENTS, principal

if TYPE_CHECKING:
    from mendel.operations.ledger import LedgerProof

_SIGNATURE = "model.sig"

ModelDirectory = Annotated[Path, argument("DIR", "The model directory.")]
Signature = Annotated[
    Path | None,
    option("--signature", metavar="FILE", help="The signature file.", show_default=f"DIR/{_SIGNATURE}"),
]


def verify_ledger(*, directory: Directory = None) -> Result:
    """Check the whole hash chain and every signed anchor."""
    with hub(directory) as client:
        proof = client.verify_ledger()
    return Result(proof, _proof_lines(proof))


def show_ledger(
    *,
    after: Annotated[int, option(metavar="N", help="List the events after this sequence number.")] = 0,
    subject: Annotated[
        str | None, option(metavar="NAME", help="Only events of this model, version or incident.")
    ] = None,
    limit: Annotated[int, option(metavar="N", bounds=(1, 2000), help="Print at most this many events.")] = 1000,
    directory: Directory = None,
) -> Result:
    """List events, oldest first."""
    with hub(directory) as client:
        page, labels = client.events(after=after, limit=limit, subject=subject), client.principals()
    named = [replace(one, event=replace(one.event, actor=principal(one.event.actor, labels))) for one in page.entries]
    return Result(page, [EVENTS.grid(named)])


def new_signing_key(
    file: Annotated[Path, argument("FILE", "The file of the new private key; the public key goes to FILE.pub.")],
) -> Result:
    """
    Make a key that signs images and model directories.

    The key is on the curve P-256. Its file is encrypted if MENDEL_SIGNING_PASSWORD is set.
    """
    from mendel.adapters.signing import make_key, read_verifying_key  # noqa: PLC0415 - help must be quick
    from mendel.app.images.attestations import signing_password  # noqa: PLC0415

    password = signing_password()
    public = make_key(file, password=password)
    hint = read_verifying_key(public).hint
    return Result(
        {"private": str(file), "public": str(public), "hint": hint, "encrypted": password is not None},
        [
            f"{file}: private key, {'encrypted' if password else 'not encrypted'}; keep this file secret",
            f"{public}: public key; give this file to everyone who verifies signatures",
        ],
    )


def sign_model(
    directory: ModelDirectory,
    *,
    key: Annotated[
        Path, option("--key", metavar="FILE", help="The private key file; MENDEL_SIGNING_PASSWORD holds its password.")
    ],
    output: Annotated[
        Path | None,
        option("--output", "-o", metavar="FILE", help="Write the signature to FILE.", show_default=f"DIR/{_SIGNATURE}"),
    ] = None,
    ignore: Annotated[
        list[str] | None, option(metavar="PATH", help="Do not sign this path, relative to DIR; may be repeated.")
    ] = None,
) -> Result:
    """Sign a model directory (OpenSSF Model Signing v1)."""
    from mendel.adapters import signing  # noqa: PLC0415 - help must be quick
    from mendel.app.images.attestations import signing_password  # noqa: PLC0415

    signer = signing.read_signing_key(key, password=signing_password())
    where = output or directory / _SIGNATURE
    signed = signing.sign_model(directory, signer, signature=where, ignore=tuple(ignore or ()))
    return Result(signed, [f"{where}: signature of {len(signed.files)} files, {signed.digest}"])


def verify_model(
    directory: ModelDirectory,
    *,
    key: Annotated[Path, option("--key", metavar="FILE", help="The public key file of the signer.")],
    signature: Signature = None,
) -> Result:
    """Check a model directory against its signature."""
    from mendel.adapters import signing  # noqa: PLC0415 - help must be quick

    where = signature or directory / _SIGNATURE
    signed = signing.verify_model(directory, signing.read_verifying_key(key), signature=where)
    return Result(signed, [f"{directory}: {len(signed.files)} files match the signature, {signed.digest}"])


def _proof_lines(proof: LedgerProof) -> Iterator[str]:
    yield f"The hash chain of the ledger is intact: entries {proof.first} to {proof.last}, head {proof.head_hash[:16]}."
    if proof.anchors:
        anchored = f"Signed anchors confirm the entries up to {proof.anchored} ({proof.anchors} anchors)"
        yield f"{anchored}; later entries are not confirmed by an anchor yet."
    else:
        yield "No anchor was signed yet, so no signature confirms the entries."
