"""Options that many commands share, and how a command reaches the hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.output import json_asked
from mendel.app.cli.parameters import argument, option
from mendel.errors import InvalidValue

if TYPE_CHECKING:
    from mendel.app.directory import DataDirectory
    from mendel.app.settings import Settings
    from mendel.client.client import Client
    from mendel.images import Platform
    from mendel.values import VersionRef

Directory = Annotated[
    str | None, option("--directory", "-C", metavar="DIR", help="The data directory.", show_default=".mendel")
]
Config = Annotated[
    Path | None,
    option("--config", metavar="FILE", help="The settings file.", show_default="mendel.yaml", envvar="MENDEL_CONFIG"),
]
AsJson = Annotated[bool, option("--json", help="Print JSON.")]
DryRun = Annotated[bool, option("--dry-run", help="Print what the command would do; change nothing.")]

Version = Annotated[str, argument("NAME@N", "A model version, for example credit@3 or credit/3.")]
Model = Annotated[str, argument("MODEL", "The name of a model.")]
OneModel = Annotated[str | None, option("--model", metavar="MODEL", help="Limit the command to this model.")]
Reason = Annotated[str, option("--reason", metavar="WHY", help="The reason; recorded in the ledger.")]

ProjectPath = Annotated[
    Path | None,
    option("--path", metavar="DIR", help="The project's directory.", show_default="this directory, then its parents"),
]
ClassifierName = Annotated[
    str | None, option("--classifier", metavar="NAME", help="The name of a classifier of the project.")
]
Force = Annotated[bool, option("--force", help="Overwrite existing files.")]
ToolUrl = Annotated[
    str | None,
    option("--tool-url", metavar="URL", help="The git repository from which the CI workflow installs Mendel."),
]
Platforms = Annotated[
    list[str] | None, option("--platform", metavar="OS/ARCH", help="linux/amd64 or linux/arm64; may be repeated.")
]


_PATIENCE_S = 1.0


def settings_of(directory: str | None, config: Path | None = None, **flags: object) -> Settings:
    """
    Read the settings; *flags* override all other sources.

    The name of a flag is the key of the setting with ``__`` instead of a dot, for example ``hub__port``.
    """
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.settings import read_settings  # noqa: PLC0415 - help must be quick

    given = {name.replace("__", "."): value for name, value in flags.items()}
    return read_settings(environment=system_environment(), file=config, flags={"directory": directory, **given})


@contextmanager
def hub(directory: str | None, *, create: bool = False, quiet: bool = False) -> Iterator[Client]:
    """
    Open a client of the hub that runs with *directory*; if no hub runs, the client opens the directory itself.

    Args:
        create: Whether the command may create the data directory.
        quiet: Whether the command itself shows what it waits for; otherwise a terminal shows it.

    Raises:
        DataDirectoryNotFound: No hub runs, the data directory does not exist, and *create* is False.
    """
    from mendel.app.connect import open_client  # noqa: PLC0415 - help must be quick

    stream = None if quiet or json_asked() or not sys.stderr.isatty() else sys.stderr
    with open_client(directory=directory, stream=stream, after_s=_PATIENCE_S) as client:
        if client.embedded and not create:
            data_directory(directory).require()
        yield client


def data_directory(directory: str | None) -> DataDirectory:
    """Give the data directory that ``--directory`` or the settings name; nothing is created."""
    from mendel.app.directory import DataDirectory  # noqa: PLC0415 - help must be quick

    return DataDirectory(settings_of(directory).root)


@contextmanager
def as_usage() -> Iterator[None]:
    """Convert InvalidValue in the ``with`` block to a usage error, so that the command exits with 2."""
    try:
        yield
    except InvalidValue as error:
        raise click.BadParameter(str(error)) from error


def check_point(text: str | None) -> None:
    """Check the form of a point in time; another form, or the future, is a usage error."""
    from mendel.app.clock import utc_now  # noqa: PLC0415 - help must be quick
    from mendel.registry import parse_point  # noqa: PLC0415

    if text is not None:
        with as_usage():
            parse_point(text, now=utc_now())


def parse_platforms(given: list[str] | None) -> tuple[Platform, ...]:
    """Parse the values of ``--platform``; a repeated platform is returned once."""
    from mendel.images import Platform  # noqa: PLC0415 - help must be quick

    with as_usage():
        return tuple(dict.fromkeys(Platform.parse(text) for text in given or ()))


def parse_version(model: str | None, classifier: str | None) -> VersionRef | None:
    """Parse the value of ``--model``; giving ``--model`` together with ``--classifier`` is a usage error."""
    from mendel.values import VersionRef  # noqa: PLC0415 - help must be quick

    if model is None:
        return None
    if classifier is not None:
        raise click.BadParameter("give --classifier or --model, not both")
    with as_usage():
        return VersionRef.parse(model)
