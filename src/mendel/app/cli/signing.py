"""Commands that sign and verify model directories, and make keys for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mendel.app.cli.options import AsJson
from mendel.app.cli.output import print_json, say

_SIGNATURE = "model.sig"

ModelDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the model.")]
PrivateKey = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", help="The private key; its password stands in MENDEL_SIGNING_PASSWORD."),
]


def add_to(app: typer.Typer) -> None:
    """Add them."""
    keys = typer.Typer(help="Keys that sign images and model directories.", no_args_is_help=True)
    keys.callback()(_of_group)
    keys.command("new")(new_key)
    app.add_typer(keys, name="signing-key")
    signing = typer.Typer(help="Sign a model directory.", no_args_is_help=True)
    signing.callback()(_of_group)
    signing.command("model")(sign_model)
    app.add_typer(signing, name="sign")
    app.command("verify-model")(verify_model)


def _of_group() -> None:
    """Keep a group of one command a group."""


def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub is the public.")],
    *,
    json: AsJson = False,
) -> None:
    """Make a signing key (P-256), encrypted when MENDEL_SIGNING_PASSWORD is set."""
    from mendel.adapters.signing import make_key, read_verifying_key  # noqa: PLC0415 - help must be quick
    from mendel.app.images.attestations import signing_password  # noqa: PLC0415

    password = signing_password()
    public = make_key(file, password=password)
    hint = read_verifying_key(public).hint
    if json:
        print_json({"private": str(file), "public": str(public), "hint": hint, "encrypted": password is not None})
        return
    say(f"{file}: private, {'encrypted' if password else 'not encrypted'}; keep it to yourself")
    say(f"{public}: public; give it to whoever verifies")


def sign_model(
    directory: ModelDirectory,
    *,
    key: PrivateKey,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The signature.", show_default=f"DIR/{_SIGNATURE}"),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="PATH", help="Leave it out; relative to DIR.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Sign every file of a model directory (OpenSSF Model Signing v1)."""
    from mendel.adapters import signing  # noqa: PLC0415 - help must be quick
    from mendel.app.images.attestations import signing_password  # noqa: PLC0415

    signer = signing.read_signing_key(key, password=signing_password())
    where = output or directory / _SIGNATURE
    signed = signing.sign_model(directory, signer, signature=where, ignore=tuple(ignore or ()))
    if json:
        print_json(signed)
        return
    say(f"{where}: signs {len(signed.files)} files, {signed.digest}")


def verify_model(
    directory: ModelDirectory,
    *,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The public key of whoever signed.")],
    signature: Annotated[
        Path | None,
        typer.Option("--signature", metavar="FILE", help="The signature.", show_default=f"DIR/{_SIGNATURE}"),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check that a model directory holds exactly what was signed."""
    from mendel.adapters import signing  # noqa: PLC0415 - help must be quick

    where = signature or directory / _SIGNATURE
    signed = signing.verify_model(directory, signing.read_verifying_key(key), signature=where)
    if json:
        print_json(signed)
        return
    say(f"{directory}: {len(signed.files)} files as signed, {signed.digest}")
