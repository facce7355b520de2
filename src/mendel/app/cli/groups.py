"""Build the command line for click from commands (verbs), groups of commands (nouns) and sections of the help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, cast

import click

from mendel.app.cli.options import AsJson
from mendel.app.cli.output import Result, emit
from mendel.app.cli.parameters import parameters_of

Function = Callable[..., Result | Iterator[Result] | None]


@dataclass(frozen=True)
class Verb:
    """
    One command; the return value of its function is printed, as JSON if ``--json`` is given.

    A command whose function returns nothing has no option ``--json``. A function that needs to know whether ``--json``
    was given declares a parameter ``json``.

    Attributes:
        where: The module in ``mendel.app.cli`` and the function in it, for example ``release_tag:tag``.
    """

    name: str
    where: str

    @cached_property
    def function(self) -> Function:
        """The command's function; the first use imports its module."""
        module, _, function = self.where.partition(":")
        return cast("Function", getattr(import_module(f"mendel.app.cli.{module}"), function))

    @property
    def help(self) -> str:
        """The first line of the function's docstring, which the list of commands shows."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def build(self, *, hidden: bool = False) -> click.Command:
        """Build the click command; a hidden command works but does not appear in the help."""
        return click.Command(
            self.name,
            callback=self._run,
            params=[*parameters_of(self.function), *self._json()],
            help=inspect.getdoc(self.function),
            short_help=self.help,
            hidden=hidden,
        )

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    def _json(self) -> Iterator[click.Parameter]:
        if "json" not in self._signature.parameters and self._signature.return_annotation != "None":
            yield from parameters_of(_declare_json)

    def _run(self, **arguments: Any) -> int:
        as_json = bool(arguments.get("json"))
        taken = {name: value for name, value in arguments.items() if name in self._signature.parameters}
        return emit(self.function(**taken), as_json=as_json)


@dataclass(frozen=True)
class Noun:
    """
    A group of commands on one kind of object, for example ``incidents``.

    Attributes:
        alone: The verb that runs if no verb is given; None prints the help.
        of_id: The verb that runs if an id is given instead of a verb, for example ``runs INC-2026-1-1``.
    """

    name: str
    help: str
    verbs: Sequence[Verb]
    alone: str | None = None
    of_id: str | None = None

    def build(self, *, hidden: bool = False) -> click.Command:
        """Build the click group with the noun's commands."""
        return NounGroup(self, hidden=hidden)


@dataclass(frozen=True)
class Section:
    """Commands under one heading of the help."""

    title: str
    entries: Sequence[Verb | Noun]


class MendelGroup(click.Group):
    """A group that builds a command on demand, and suggests the most similar name for an unknown command."""

    def __init__(self, shown: Iterable[Verb | Noun], former: Iterable[Verb] = (), **more: Any) -> None:
        super().__init__(**more)
        self._shown = {entry.name: entry for entry in shown}
        self._former = {entry.name: entry for entry in former}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names of all commands, in the order of the help; former names last."""
        return [*self._shown, *self._former]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Build the command with the name *cmd_name*; None for an unknown name."""
        if cmd_name in self._shown:
            return self._shown[cmd_name].build()
        return self._former[cmd_name].build(hidden=True) if cmd_name in self._former else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; an unknown name is a usage error with a suggestion."""
        name = args[0]
        if name not in self.list_commands(ctx) and not name.startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - for wrong usage only

            meant = ", ".join(map(repr, self._verbs(name) or get_close_matches(name, self._shown, n=1)))
            raise click.UsageError(
                f"The command {name!r} does not exist.{f' Did you mean {meant}?' if meant else ''}", ctx=ctx
            )
        return super().resolve_command(ctx, args)

    def _verbs(self, name: str) -> list[str]:
        """Give the full commands that end with the verb *name*: ``healing pause`` for ``pause``."""
        nouns = [entry for entry in self._shown.values() if isinstance(entry, Noun)]
        return [f"{noun.name} {verb.name}" for noun in nouns for verb in noun.verbs if verb.name == name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write one help line for each command."""
        write_section(formatter, "Commands", tuple(self._shown.values()))


class NounGroup(MendelGroup):
    """The click group of a noun, which inserts the default verb if no verb is given."""

    def __init__(self, noun: Noun, *, hidden: bool) -> None:
        super().__init__(
            noun.verbs,
            name=noun.name,
            help=noun.help,
            short_help=noun.help,
            no_args_is_help=not noun.alone,
            hidden=hidden,
        )
        self._noun = noun

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default verb if the first argument is not a verb."""
        first = next(iter(args), "-")
        if self._noun.alone and first.startswith("-") and first not in ctx.help_option_names:
            args = [self._noun.alone, *args]
        elif self._noun.of_id and any(letter.isupper() or letter.isdigit() for letter in first):
            args = [self._noun.of_id, *args]
        return super().parse_args(ctx, args)


class RootGroup(MendelGroup):
    """The whole command line, in sections; former names of commands work but are not shown in the help."""

    def __init__(self, sections: Sequence[Section], former: Iterable[Verb], **more: Any) -> None:
        entries = (entry for section in sections for entry in section.entries)
        super().__init__(entries, former, no_args_is_help=True, **more)
        self._sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write one help line for each command, section by section."""
        for section in self._sections:
            write_section(formatter, section.title, section.entries)


def write_section(formatter: click.HelpFormatter, title: str, entries: Sequence[Verb | Noun]) -> None:
    """Write one line for each entry, without wrapping or shortening long lines."""
    width = max(len(entry.name) for entry in entries)
    with formatter.section(title):
        for entry in entries:
            formatter.write(f"  {entry.name:<{width}}  {entry.help}\n")


def _declare_json(json: AsJson = False) -> None:
    """Declare the option ``--json`` for every command with a result."""
