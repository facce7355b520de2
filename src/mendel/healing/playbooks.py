"""Playbooks: named lists of actions, written in YAML and checked when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from mendel.errors import InvalidPolicy, MendelError
from mendel.healing.policy import Autonomy
from mendel.values import from_mapping, parse_duration, to_json, unknown_key_message


class Action(StrEnum):
    """The actions of playbooks."""

    ROLL_BACK = "roll_back"
    END_CANARY = "end_canary"
    AWAIT_CONVERGENCE = "await_convergence"
    REPLAY_FORMER = "replay_former"
    RETRAIN = "retrain"
    PROMOTE_CANDIDATE = "promote_candidate"
    REJECT_CANDIDATE = "reject_candidate"
    WATCH = "watch"
    RESOLVE_INCIDENT = "resolve_incident"
    ESCALATE = "escalate"
    NOTIFY = "notify"

    @property
    def live(self) -> bool:
        """Whether the action changes the served version, so that a pause holds it."""
        return self in {Action.ROLL_BACK, Action.END_CANARY, Action.PROMOTE_CANDIDATE}


CONDITIONS: Mapping[str, str] = {
    "cause": "the incident's cause",
    "severity": "the incident's severity",
    "profile": "the policy's profile",
    "verdict": "the gates' verdict: pass, fail or undecided",
    "converged": "whether the servers serve the deployment: yes, no, failed (version not loadable), unloaded (by "
    "request) or unobserved",
    "former": "whether the former version does better on the incident's rows: better, as_bad or unknown",
    "effect": "the incident's signals after the playbook: gone, persists or not_measured",
}
"""The facts that a step's ``when`` may use, with their meanings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One action of a playbook.

    Attributes:
        when: The accepted values for each named fact; the step is skipped unless every named fact has such a value.
        timeout: The longest wait of a waiting action; None takes the policy's bound.
        retries: How often the action is retried while a service is unavailable.
        requires: ``approval`` holds the run before this step until a person approves.
    """

    action: Action
    name: str = ""
    when: dict[str, tuple[str, ...]] = field(default_factory=dict)
    timeout: timedelta | None = None
    retries: int = 5
    requires: str | None = None

    def applies(self, facts: Mapping[str, Any]) -> bool:
        """Whether *facts* meet every condition; an unknown fact meets no condition."""
        return all(str(facts.get(fact)) in accepted for fact, accepted in self.when.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """
    A named list of actions.

    Attributes:
        autonomy: The key of the policy's ``autonomy`` that guards the playbook.
        starts_under: The lowest level at which the playbook starts without approval: ``propose`` if a later step
            asks for approval before it changes what is served; ``observe`` counts only for a harmless playbook.
        urgent: The playbook stops a run that is not urgent, and does not wait for the cooldown.
        harmless: The playbook changes nothing, so cooldown and ``max_runs_per_day`` do not apply.
    """

    name: str
    title: str
    autonomy: str
    steps: tuple[Step, ...]
    starts_under: str = "act"
    urgent: bool = False
    harmless: bool = False

    @property
    def hash(self) -> str:
        """The SHA-256 (hex) of the playbook's canonical JSON; decisions record it."""
        return hashlib.sha256(to_json(self)).hexdigest()

    def preview(self) -> tuple[str, ...]:
        """Describe the steps of a run, one line each, for a dry run."""
        return tuple(
            step.name
            + "".join(f", if {fact} is {' or '.join(accepted)}" for fact, accepted in step.when.items())
            + (", after approval" if step.requires else "")
            for step in self.steps
        )


def shipped_playbooks() -> dict[str, Playbook]:
    """The playbooks that come with Mendel, by name."""
    return {book.name: book for book in _shipped()}


@cache
def _shipped() -> tuple[Playbook, ...]:
    folder = files("mendel.healing") / "shipped"
    documents = sorted((one for one in folder.iterdir() if one.name.endswith(".yaml")), key=lambda one: one.name)
    return tuple(parse_playbook(one.read_text(encoding="utf-8"), where=one.name) for one in documents)


def load_playbooks(directory: Path | None = None) -> dict[str, Playbook]:
    """
    Load the shipped playbooks and the user's; a user's playbook replaces a shipped one of the same name.

    Args:
        directory: Directory of the user's ``*.yaml`` files, if any.

    Raises:
        InvalidPolicy: A file is not a playbook; the message names file, line and the nearest known key.
    """
    books = shipped_playbooks()
    if directory is not None:
        for path in sorted(directory.glob("*.yaml")):
            book = parse_playbook(path.read_text(encoding="utf-8"), where=str(path))
            books[book.name] = book
    return books


def parse_playbook(text: str, *, where: str) -> Playbook:
    """
    Read one playbook.

    Raises:
        InvalidPolicy: The YAML is invalid, a key, action or condition is unknown, or a value is out of range.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise InvalidPolicy(f"{where}{line}: the playbook is not YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(tree, dict):
        raise InvalidPolicy(f"{where}:1: a playbook must be a mapping with name, title, autonomy and steps.")
    _refuse_unknown(node, where)
    try:
        steps = [_with_defaults(step) for step in tree.get("steps") or [] if isinstance(step, dict)]
        book = from_mapping(Playbook, {**tree, "steps": steps}, at="playbook")
    except MendelError as error:
        raise InvalidPolicy(f"{where}:{node.start_mark.line + 1}: {error}") from error
    return _checked(book, where)


def _with_defaults(step: dict[str, Any]) -> dict[str, Any]:
    when = step.get("when") or {}
    accepted = {str(fact): [_word(v) for v in (x if isinstance(x, list) else [x])] for fact, x in when.items()}
    timeout = {"timeout": parse_duration(step["timeout"])} if "timeout" in step else {}
    return {**step, **timeout, "name": step.get("name") or step.get("action"), "when": accepted}


def _word(value: object) -> str:
    """Give the word as written in the file: YAML reads yes and no as booleans."""
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _checked(book: Playbook, where: str) -> Playbook:
    keys = [one.name for one in fields(Autonomy)]
    names = [step.name for step in book.steps]
    if book.autonomy not in keys:
        raise InvalidPolicy(f"{where}: autonomy is {book.autonomy!r}, but must be one of {', '.join(keys)}.")
    if book.starts_under not in {"observe", "propose", "act"}:
        raise InvalidPolicy(f"{where}: starts_under is {book.starts_under!r}, but must be observe, propose or act.")
    if not names:
        raise InvalidPolicy(f"{where}: the playbook has no step; add at least one step.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidPolicy(f"{where}: two steps are named {twice!r}.", remedy="Give each step a different name.")
    return book


def _refuse_unknown(document: yaml.MappingNode, where: str) -> None:
    _refuse_keys(document, [one.name for one in fields(Playbook)], where, "playbook")
    for step in _steps(document):
        _refuse_keys(step, [one.name for one in fields(Step)], where, "step")
        for key, value in _pairs(step):
            if key.value == "action":
                _refuse_value(value, [action.value for action in Action], where, "action")
            if key.value == "requires":
                _refuse_value(value, ["approval"], where, "requires")
            if key.value == "when" and isinstance(value, yaml.MappingNode):
                _refuse_keys(value, list(CONDITIONS), where, "when")


def _steps(document: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    for key, value in _pairs(document):
        if key.value == "steps" and isinstance(value, yaml.SequenceNode):
            yield from (step for step in value.value if isinstance(step, yaml.MappingNode))


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    yield from node.value


def _refuse_keys(node: yaml.MappingNode, known: list[str], where: str, at: str) -> None:
    for key, _ in _pairs(node):
        if key.value not in known:
            raise InvalidPolicy(unknown_key_message(str(key.value), known, f"{where}:{key.start_mark.line + 1}: {at}"))


def _refuse_value(node: yaml.Node, known: list[str], where: str, at: str) -> None:
    if node.value not in known:
        told = unknown_key_message(str(node.value), known, f"{where}:{node.start_mark.line + 1}: {at}")
        raise InvalidPolicy(told.replace("unknown key", "unknown value"))
