"""Options that many commands share, and how a command reaches the hub."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.errors import InvalidValue

if TYPE_CHECKING:
    from mendel.app.settings import Settings
    from mendel.client.client import Client

Directory = Annotated[
    str | None,
    typer.Option("--directory", "-C", metavar="DIR", help="The data directory.", show_default=".mendel"),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The settings file.", show_default="mendel.yaml", envvar="MENDEL_CONFIG"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Version = Annotated[str, typer.Argument(metavar="NAME@N", help="A model version.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model.")]
Why = Annotated[str, typer.Option("--reason", help="Why; stands in the ledger.")]
ProjectPath = Annotated[
    Path | None, typer.Option("--path", metavar="DIR", help="The project.", show_default="here, then its parents")
]
ClassifierName = Annotated[str | None, typer.Option("--classifier", metavar="NAME", help="Which classifier.")]


def settings_of(directory: str | None, config: Path | None = None, **flags: object) -> Settings:
    """The settings, with flags on top; a flag's name has ``__`` where its key has a dot."""
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.settings import read_settings  # noqa: PLC0415 - help must be quick

    given = {name.replace("__", "."): value for name, value in flags.items()}
    return read_settings(environment=system_environment(), file=config, flags={"directory": directory, **given})


@contextmanager
def hub(directory: str | None) -> Iterator[Client]:
    """A client of the hub that runs on the directory, else of the directory itself."""
    from mendel.app.connect import connect  # noqa: PLC0415 - help must be quick

    with connect(directory=directory, actor=f"cli:{_user()}") as client:
        yield client


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.getuid())


@contextmanager
def as_usage() -> Iterator[None]:
    """A value that a flag cannot have is wrong usage."""
    try:
        yield
    except InvalidValue as error:
        raise typer.BadParameter(str(error)) from error
