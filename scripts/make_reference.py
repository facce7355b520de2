"""
Write ``docs/reference/*.md`` from the code: commands, policy and settings keys, routes, errors, events, metrics.

Run it after one of them changed; ``--check`` only says whether that was forgotten.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference"
NOTE = "<!-- Made by scripts/make_reference.py; change the code, then run it. -->\n"

# What the docstrings of the nouns leave to their names.
MEANINGS = {
    "directory": "The data directory.",
    "hub.host": "The address the hub listens on.",
    "hub.port": "Its port; 0 takes a free one.",
    "serving.host": "The address every door listens on.",
    "serving.workers": "Worker processes; 0 is one per core, at most `max_workers`.",
    "serving.max_workers": "Bound on worker processes.",
    "serving.max_batch_rows": "Most rows in one call of `predict`.",
    "serving.max_rows": "Most rows in one request.",
    "serving.max_body_bytes": "Largest body of a request.",
    "serving.memory_budget_bytes": "What all versions of a server may take, the second copy during a swap included.",
    "serving.repository_control": (
        "`none` refuses calls that load or unload a model; `explicit` is read, but this version refuses them, too."
    ),
    "serving.logging_required": "Whether a request whose rows cannot be logged is refused.",
    "serving.request_timeout": "How long a request may take, where its caller sets no shorter deadline.",
    "serving.drain_timeout": "How long requests in flight may take when a version or the server goes.",
    "serving.max_connection_age": "How long a gRPC connection lives before it is asked to connect again.",
    "serving.report_every": "How often a server reports its counters to the hub.",
    "spool.directory": "Where the prediction log waits for the hub; empty means below the data directory.",
    "rollback.error_rate": "Mean share of requests that fault, above which the criterion triggers.",
    "rollback.ood_rate": "Mean share of rows out of distribution, above which the criterion triggers.",
    "rollback.latency_ratio": "How many times the expected p95 the mean p95 may be; measured where one is expected.",
    "rollback.drift_kl": "Mean KL divergence of features in nats, bias removed, above which the criterion triggers.",
    "rollback.min_requests": "Below so many requests, error rate, latency and OOD rate are not measured.",
    "rollback.min_requests_drift": "Below so many requests, drift is not measured by this section.",
    "rollback.profile": "`classic`: every trigger rolls back. `default`: the cause decides the remedy.",
    "governance.require": "Flags that a version needs to reach users.",
    "governance.inherit": "Whether flags pass from the parent version when code, dependencies and signature are equal.",
    "monitoring.effects.wasserstein": "Smallest distance that matters, in standard deviations of the reference.",
    "monitoring.effects.js": "Smallest Jensen-Shannon distance of a category feature that matters.",
    "monitoring.effects.psi": "Smallest population stability index, over about ten groups; agrees where it is set.",
    "monitoring.effects.kl": "Smallest KL divergence; agrees where it is set.",
    "monitoring.features.NAME.type": "Its type; inferred from the training data otherwise.",
    "monitoring.features.NAME.log": "Read and checked; nothing acts on it: `spool.features` in the settings does.",
    "monitoring.reference": "Read and checked; nothing acts on it.",
    "retraining.triggers": "Read and checked; nothing acts on it. The table of remedies decides what starts a run.",
    "retraining.schedule": "Read and checked; nothing acts on it.",
    "retraining.limits.memory": "Most memory of one job, written `4GiB`.",
    "retraining.limits.time": "Most time of one job.",
    "gates.profile": "A named set of bounds; the keys below differ from it where they are given.",
    "healing.autonomy.rollback": "How far rolling back may go on its own.",
    "healing.autonomy.retrain": "How far retraining may go on its own; `propose` trains up to the candidate.",
    "healing.autonomy.promote": "How far promoting a candidate may go on its own, where `retrain` says `act`, too.",
    "healing.autonomy.notify": "How far telling may go on its own.",
}


def tables() -> dict[str, str]:
    """The pages, by file name."""
    return {
        "cli.md": cli_page(),
        "policies.md": policies_page(),
        "settings.md": settings_page(),
        "http.md": http_page(),
        "errors.md": errors_page(),
        "events.md": events_page(),
        "metrics.md": metrics_page(),
    }


# -- commands --


def cli_page() -> str:
    """Every command with its help, as ``--help`` prints it."""
    import click  # noqa: PLC0415 - a moment

    from mendel.app.cli.main import command_line, commands  # noqa: PLC0415

    parts = [
        "# Commands\n",
        NOTE,
        "`mlserver` is the same program under an older name.\n",
        "A command exits with 0 when it did what it was asked, 1 with a sentence on standard error when it could not,",
        "and 2 when it was called wrongly.\n",
    ]
    shown = [((), command_line()), *((words, command) for words, command in commands() if not command.hidden)]
    for words, command in shown:
        name = " ".join(("mendel", *words))
        context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    parts += ["## Former names\n", "These names work as before; the help does not list them.\n"]
    parts.append(_table(("Former name", "Name"), _former_names()))
    return "\n".join(parts)


def _former_names() -> list[tuple[str, str]]:
    from mendel.app.cli.main import FORMER_NAMES, SECTIONS  # noqa: PLC0415 - a moment

    entries = [entry for section in SECTIONS for entry in section.entries]
    names = {verb.function: f"{noun.name} {verb.name}" for noun in entries for verb in getattr(noun, "verbs", ())}
    return [(f"`mendel {verb.name}`", f"`mendel {names[verb.function]}`") for verb in FORMER_NAMES]


# -- keys --


def policies_page() -> str:
    """Every section and key of a policy."""
    from mendel.gates.policy import PROFILES, Bounds, Profile  # noqa: PLC0415
    from mendel.healing.policy import REMEDIES  # noqa: PLC0415
    from mendel.operations import POLICIES  # noqa: PLC0415

    parts = [
        "# Policy keys\n",
        NOTE,
        "A policy is YAML with these sections, each of them optional.",
        "An unknown key is refused, naming the nearest known one.",
        "Durations are written `30s`, `5m`, `24h`, `7d`; shares are fractions from 0 to 1.",
        "How to use them: [policies](../how-to/policies.md).\n",
    ]
    for name, kind in POLICIES.items():
        meant = {key: f"{text}" for key, text in _said(Bounds).items()} if name == "gates" else {}
        parts += [f"## {name}\n", _keys(kind, name, meant)]
        if name == "gates":
            parts += ["### Profiles of gates\n", _profiles(Bounds, {p.value: PROFILES[p] for p in Profile})]
        if name == "healing":
            rows = [(f"`{cause.value}`", f"`{playbook}`") for cause, playbook in REMEDIES.items()]
            parts += ["### Default remedies\n", _table(("Cause", "Playbook"), rows)]
    return "\n".join(parts)


def settings_page() -> str:
    """Every setting, with its environment variable."""
    from mendel.app.settings import OTHER_VARIABLES, Settings  # noqa: PLC0415
    from mendel.transports.door_table import DOORS  # noqa: PLC0415

    others = {
        "MENDEL_CACHE": "Where wheels, layers and bases are kept; else `$XDG_CACHE_HOME/mendel` or `~/.cache/mendel`.",
        "MENDEL_CONFIG": "The settings file.",
        "MENDEL_IMAGE_COMMIT": "The project's commit, for a server that answers for an image.",
        "MENDEL_IMAGE_DIGEST": "The image's digest, which `mendel run` tells the server in it.",
        "MENDEL_IMAGE_TAG": "The image's release tag, which `mendel run` tells the server in it.",
        "MENDEL_KEY": "The key that clients and servers show to a hub.",
        "MENDEL_REGISTRY_HOSTS": "Image registries, with commas, that get the user and password below.",
        "MENDEL_REGISTRY_INSECURE": "Image registries, with commas, that are talked to without TLS.",
        "MENDEL_REGISTRY_PASSWORD": "The password for `MENDEL_REGISTRY_HOSTS`.",
        "MENDEL_REGISTRY_USER": "The user for `MENDEL_REGISTRY_HOSTS`; without, docker's and podman's logins are used.",
        "MENDEL_SIGNING_PASSWORD": "The password of a signing key.",
        "MENDEL_URL": "The hub that clients and servers use.",
    }
    for door in DOORS:
        several = door.ports.several
        MEANINGS[f"serving.{door.ports.key}"] = (
            f"{'Ports' if several else 'Port'} of the {door.title} door; 0 takes a free one"
            f"{'' if several else ', `off` opens no such door'}."
        )
    assert others.keys() == OTHER_VARIABLES, "a variable has no meaning here"  # noqa: S101
    return "\n".join(
        [
            "# Settings\n",
            NOTE,
            "A flag wins over the environment, the environment over `mendel.yaml`, the file over the default.",
            "`serving.workers` is `MENDEL_SERVING__WORKERS` in the environment, `workers` below `serving` in the file.",
            "`mendel config show` prints every effective value and where it came from.",
            "In the file, `${NAME}` and `${NAME:default}` are filled in from the environment.\n",
            _keys(Settings, "", {}),
            "## Other environment variables\n",
            _table(("Variable", "Meaning"), [(f"`{name}`", text) for name, text in sorted(others.items())]),
        ]
    )


def _profiles(kind: type, profiles: dict[str, Any]) -> str:
    rows = [
        (f"`{one.name}`", *(_shown(getattr(bounds, one.name)) for bounds in profiles.values())) for one in fields(kind)
    ]
    return _table(("Key", *(f"`{name}`" for name in profiles)), rows)


def _keys(kind: type, at: str, meanings: dict[str, str]) -> str:
    rows = [
        (f"`{key.removeprefix(f'{at}.')}`", _shown_type(hint), _shown(default), text)
        for key, hint, default, text in _leaves(kind, at, meanings)
    ]
    return _table(("Key", "Kind", "Default", "Meaning"), rows)


def _leaves(kind: type, at: str, meanings: dict[str, str]) -> Iterator[tuple[str, Any, Any, str]]:
    hints, said = get_type_hints(kind), _said(kind) | meanings
    for one in fields(kind):
        key, hint, default = f"{at}.{one.name}".lstrip("."), hints[one.name], _default(one)
        values = get_args(hint)[1] if get_origin(hint) is dict else None
        if is_dataclass(hint):
            yield from _leaves(hint, key, {})
        elif values is not None and is_dataclass(values):
            yield from _leaves(values, f"{key}.NAME", {})
        else:
            text = MEANINGS.get(key) or said.get(one.name)
            if text is None:
                raise SystemExit(f"{key} has no meaning: say it in the docstring of {kind.__name__}.")
            yield key, hint, default, text


def _default(one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    return one.default_factory() if one.default_factory is not MISSING else MISSING


def _said(kind: type) -> dict[str, str]:
    """What the docstrings of *kind* and its parents say of each attribute."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        text = inspect.cleandoc(one.__doc__ or "")
        block = re.search(r"^(?:Attributes|Args):\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
        for names, said in re.findall(
            r"^    ([\w, ]+): ((?:.*)(?:\n(?:        .*|$))*)", block.group(1) if block else "", re.MULTILINE
        ):
            for name in names.split(","):
                found[name.strip()] = " ".join(said.split()).replace("``", "`")
    return found


def _shown(value: Any) -> str:  # noqa: PLR0911 - one line per kind of value
    from mendel.values import render_duration  # noqa: PLC0415

    match value:
        case None:
            return "none"
        case timedelta():
            return f"`{render_duration(value)}`"
        case StrEnum():
            return f"`{value.value}`"
        case tuple():
            return ", ".join(_shown(one) for one in value) or "none"
        case dict():
            return "none" if not value else f"`{value}`"
        case bool():
            return f"`{str(value).lower()}`"
        case "":
            return "empty"
        case _:
            return f"`{value}`"


def _shown_type(hint: Any) -> str:
    if get_origin(hint) in {Union, UnionType}:
        return " or ".join(_shown_type(arm) for arm in get_args(hint) if arm is not NoneType)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of: {_shown_type(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"mapping to: {_shown_type(get_args(hint)[1])}"
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return ", ".join(f"`{one.value}`" for one in hint)
    return {timedelta: "duration", float: "number", int: "whole number", str: "text", bool: "truth"}[hint]


# -- routes --


def http_page() -> str:
    """Routes of the hub and of the REST door, with the scope each needs, and the methods of the other doors."""
    from mendel.protos import modelops_pb2, open_inference_pb2  # noqa: PLC0415
    from mendel.transports.rest.application import ROUTES  # noqa: PLC0415
    from mendel.transports.zmq.message_types import METHODS  # noqa: PLC0415

    rest = [
        (r.method, f"`{r.pattern}`", r.scope.value if r.scope else "none", _first(r.endpoint.__doc__)) for r in ROUTES
    ]
    services = [
        (f"`{service.full_name}`", ", ".join(f"`{method.name}`" for method in service.methods))
        for module in (modelops_pb2, open_inference_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    zmq = [(f"`{m.type}`", f"`{m.reply}`", m.scope.value if m.scope else "none") for m in METHODS]
    return "\n".join(
        [
            "# Routes\n",
            NOTE,
            "## The hub\n",
            "A key stands in `Authorization: Bearer KEY` or `X-API-Key: KEY`; `admin` includes every scope.",
            "Errors are problem documents (RFC 9457) with a `remedy`.",
            "The name of an operation is also the name of its method in the Python client.",
            "`/openapi.json` describes every request, response and error; `/docs` shows it.",
            "JSON is refused when it is nested deeper than 64 levels, or holds an integer beyond 64 bits,",
            "a text beyond 100,000 characters or the character NUL.\n",
            *_hub_routes(),
            "## A server, REST\n",
            _table(("Method", "Path", "Scope", "What"), rest),
            "## A server, gRPC\n",
            "The Open Inference Protocol (v2), the standard health and reflection services, and ModelOps.\n",
            _table(("Service", "Methods"), services),
            "## A server, ZMQ\n",
            "A DEALER sends one JSON object: `type`, `client_id`, `request_id`, `timestamp`, `data`.\n",
            _table(("Type", "Reply", "Scope"), zmq),
        ]
    )


def _hub_routes() -> Iterator[str]:
    """The operations of the control API, a table for each topic."""
    from mendel.operations import OPERATIONS  # noqa: PLC0415 - half a second
    from mendel.operations.openapi import errors_by_status  # noqa: PLC0415

    rows: dict[str, list[tuple[str, ...]]] = {}
    for one in OPERATIONS.values():
        statuses = sorted({one.status, *errors_by_status(one), *((one.alternative.status,) if one.alternative else ())})
        told = ", ".join(map(str, statuses))
        scope = one.scope.value if one.scope else "none"
        rows.setdefault(one.topic, []).append(
            (one.method, f"`{one.url}`", scope, one.summary.replace("``", "`"), f"`{one.name}`", told)
        )
    for topic, table in rows.items():
        yield f"### {topic.capitalize()}\n"
        yield _table(("Method", "Path", "Scope", "What", "Operation", "Statuses"), table)


# -- errors, events, metrics --


def errors_page() -> str:
    """The tree, and the status of each error at each door."""
    import mendel.errors as tree  # noqa: PLC0415
    from mendel.operations.problems import status_of  # noqa: PLC0415

    kinds = [one for one in vars(tree).values() if isinstance(one, type) and issubclass(one, tree.MendelError)]
    rows = [(f"`{one.__name__}`", str(status_of(_blank(one))), _first(one.__doc__)) for one in kinds]
    drawn = inspect.cleandoc(tree.__doc__ or "").split("\n\n")[1]
    return "\n".join(
        [
            "# Errors\n",
            NOTE,
            "Every error says what happened, to which thing, and what to do.",
            "The status is the one that the hub answers with.\n",
            f"```text\n{inspect.cleandoc(drawn)}\n```\n",
            _table(("Error", "Status", "What happened"), rows),
        ]
    )


def _blank(kind: type[Exception]) -> Any:
    return kind.__new__(kind)


def events_page() -> str:
    """Every type of event that the code appends."""
    return "\n".join(
        [
            "# Events\n",
            NOTE,
            "Every change appends one event to the ledger in its own transaction.",
            "Each has a sequence number, a time, a subject, an actor, data, and the hash of the entry before.",
            "`mendel ledger show` prints them; `GET /api/v1/events` gives them after any sequence number.\n",
            _table(("Event", "Appended by"), [(f"`{name}`", f"`{room}`") for name, room in sorted(_events().items())]),
        ]
    )


def _events() -> dict[str, str]:
    """Literal event types in calls that make or say an event, and the room each stands in."""
    found: dict[str, str] = {}
    rooms = ("durable", "registry", "healing", "retraining", "predictions", "app")
    for path in sorted(p for room in rooms for p in (ROOT / "src/mendel" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                for word in [*node.args, *(one.value for one in node.keywords if one.arg == "type")]:
                    if isinstance(word, ast.Constant) and isinstance(word.value, str) and _EVENT.fullmatch(word.value):
                        found[word.value] = path.relative_to(ROOT / "src/mendel").parts[0]
    return found


_EVENT = re.compile(
    r"(?:model|incident|playbook|gate|retraining|label|deployment|healing|key|policy|ledger|decision)\.[a-z_]+"
)


def metrics_page() -> str:
    """Every metric of a server."""
    from mendel.serving import metrics  # noqa: PLC0415

    families = [one for one in vars(metrics).values() if isinstance(one, metrics.Family)]
    rows = [(f"`{one.name}`", one.kind, one.text) for one in families]
    return "\n".join(
        [
            "# Metrics\n",
            NOTE,
            "A server gives them at `/metrics` in Prometheus' text format, summed over its worker processes.\n",
            _table(("Metric", "Kind", "What"), rows),
        ]
    )


# -- pages --


def _first(doc: str | None) -> str:
    """The first sentence of a docstring."""
    text = " ".join(inspect.cleandoc(doc or "").split("\n\n")[0].split())
    return text.replace("``", "`")


def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headers, tuple("---" for _ in headers), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def main() -> None:
    """Write the pages, or check them."""
    late = []
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, text in tables().items():
        path = TARGET / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        late.append(name)
        if sys.argv[1:] != ["--check"]:
            path.write_text(text, encoding="utf-8")
    if late and sys.argv[1:] == ["--check"]:
        raise SystemExit(f"Run scripts/make_reference.py: {', '.join(late)} differ.")


if __name__ == "__main__":
    main()
