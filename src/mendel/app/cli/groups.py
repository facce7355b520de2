"""The command line as click runs it: sections, nouns with verbs, and one way to print what a command returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import click

from mendel.app.cli.options import AsJson
from mendel.app.cli.output import Result, emit
from mendel.app.cli.parameters import parameters_of

Function = Callable[..., Result | Iterator[Result] | None]


@dataclass(frozen=True)
class Verb:
    """
    One command; what its function returns is printed, as JSON where ``--json`` is given.

    A function that returns nothing has no ``--json``. One that must know of it declares a parameter ``json``.
    """

    name: str
    function: Function

    @property
    def help(self) -> str:
        """The line that lists show: the first one of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def build(self, *, hidden: bool = False) -> click.Command:
        """The command."""
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
    Commands on one kind of thing.

    Attributes:
        alone: The verb that is meant where none is given.
        of_id: The verb that is meant where an id is given in its place, for example ``runs INC-2026-1-1``.
    """

    name: str
    help: str
    verbs: Sequence[Verb]
    alone: str | None = None
    of_id: str | None = None

    def build(self, *, hidden: bool = False) -> click.Command:
        """The group of the noun's commands."""
        return NounGroup(self, hidden=hidden)


@dataclass(frozen=True)
class Section:
    """Commands under one heading of the help."""

    title: str
    entries: Sequence[Verb | Noun]


class MendelGroup(click.Group):
    """A group that makes a command when it is asked for, and suggests the nearest one when there is none."""

    def __init__(self, shown: Iterable[Verb | Noun], former: Iterable[Verb] = (), **more: Any) -> None:
        super().__init__(**more)
        self._shown = {entry.name: entry for entry in shown}
        self._former = {entry.name: entry for entry in former}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every name, in the order of the table; former names last."""
        return [*self._shown, *self._former]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name, if there is one."""
        if cmd_name in self._shown:
            return self._shown[cmd_name].build()
        return self._former[cmd_name].build(hidden=True) if cmd_name in self._former else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names, or an error with the nearest one."""
        name = args[0]
        if name not in self.list_commands(ctx) and not name.startswith("-"):
            meant = ", ".join(map(repr, self._verbs(name) or get_close_matches(name, self._shown, n=1)))
            raise click.UsageError(
                f"The command {name!r} does not exist.{f' Did you mean {meant}?' if meant else ''}", ctx=ctx
            )
        return super().resolve_command(ctx, args)

    def _verbs(self, name: str) -> list[str]:
        """Nouns with the verb *name*, for who says ``pause`` in place of ``healing pause``."""
        nouns = [entry for entry in self._shown.values() if isinstance(entry, Noun)]
        return [f"{noun.name} {verb.name}" for noun in nouns for verb in noun.verbs if verb.name == name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """One line for each command."""
        write_section(formatter, "Commands", tuple(self._shown.values()))


class NounGroup(MendelGroup):
    """The commands of a noun, and what the noun means without a verb."""

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
        """Put in the verb that is meant."""
        first = next(iter(args), "-")
        if self._noun.alone and first.startswith("-") and first not in ctx.help_option_names:
            args = [self._noun.alone, *args]
        elif self._noun.of_id and any(letter.isupper() or letter.isdigit() for letter in first):
            args = [self._noun.of_id, *args]
        return super().parse_args(ctx, args)


class RootGroup(MendelGroup):
    """The whole command line, in sections; former names work and are not shown."""

    def __init__(self, sections: Sequence[Section], former: Iterable[Verb], **more: Any) -> None:
        entries = (entry for section in sections for entry in section.entries)
        super().__init__(entries, former, no_args_is_help=True, **more)
        self._sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """One line for each command, section by section."""
        for section in self._sections:
            write_section(formatter, section.title, section.entries)


def write_section(formatter: click.HelpFormatter, title: str, entries: Sequence[Verb | Noun]) -> None:
    """Write one line for each entry, never wrapped and never cut off."""
    width = max(len(entry.name) for entry in entries)
    with formatter.section(title):
        for entry in entries:
            formatter.write(f"  {entry.name:<{width}}  {entry.help}\n")


def _declare_json(json: AsJson = False) -> None:
    """Declare the option that every command with a result has."""
