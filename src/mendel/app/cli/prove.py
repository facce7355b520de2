"""Commands that make signing keys, and sign and verify model directories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option

_SIGNATURE = "model.sig"

ModelDirectory = Annotated[Path, argument("DIR", "The model directory.")]
Signature = Annotated[
    Path | None,
    option("--signature", metavar="FILE", help="The signature file.", show_default=f"DIR/{_SIGNATURE}"),
]


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
