"""
Write ``docs/reference/*.md`` from the code: commands, policy and settings keys, routes, errors, events, metrics.

Run the script after a change of the code; ``--check`` only reports whether a page is out of date.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime, timedelta
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
    "hub.port": "The port the hub listens on; 0 chooses a free port.",
    "serving.host": "The address that REST, gRPC and ZMQ listen on.",
    "serving.workers": "The number of worker processes; 0 means one per core, at most `max_workers`.",
    "serving.max_workers": "The largest number of worker processes.",
    "serving.max_batch_rows": "The largest number of rows in one call of `predict`.",
    "serving.max_rows": "The largest number of rows in one request.",
    "serving.max_body_bytes": "The largest size of a request body.",
    "serving.memory_budget_bytes": (
        "The memory that all versions of a server may use, including the second version during a change of version and "
        "versions that still answer their last requests. Each worker gets an equal share. When a load needs room, idle "
        "models are unloaded."
    ),
    "serving.header_bytes": "The largest size of all headers of an HTTP request, each with 32 bytes more; beyond: 431.",
    "serving.header_timeout": "The time in which the headers of an HTTP request must arrive; else the answer is 408.",
    "serving.body_timeout": "The time in which the body of an HTTP request must arrive; else the answer is 504.",
    "serving.idle_timeout": "The time after which an HTTP connection without a request is closed.",
    "serving.max_connections": (
        "The largest number of connections of HTTP, of gRPC and of ZMQ, each. A further HTTP connection replaces an "
        "idle one, or gets 503; a further one of gRPC or ZMQ is closed."
    ),
    "serving.evict_unused_for": "How long a model must have had no request before it may be unloaded to make room.",
    "serving.doors": (
        "The servers behind the REST and gRPC ports: `fast` is of Mendel, on Linux; `standard` is uvicorn and grpcio; "
        "`auto` is `fast`. The answers are the same. Where fast doors cannot run, `fast` and `auto` mean `standard`, "
        "and the log says so."
    ),
    "serving.zmq_key": (
        "The file with the server's pair of CURVE keys, made by `zmq.auth.create_certificates` of pyzmq. With it, "
        "connections of ZMQ callers are encrypted, and unencrypted ones are refused."
    ),
    "serving.zmq_clients": (
        "The directory with the public CURVE keys (`*.key`) of the callers that may connect to ZMQ; needed with "
        "`serving.zmq_key`."
    ),
    "serving.tls.certificate": (
        "The PEM file with the certificate of the gRPC port, and those of the authorities between it and the root. "
        "Without it, the port is not encrypted."
    ),
    "serving.tls.key": "The PEM file with the private key of the certificate, not encrypted.",
    "serving.tls.client_ca": (
        "The PEM file with the certificates of the authorities whose clients may connect to the gRPC port; without it, "
        "clients need no certificate."
    ),
    "serving.repository_control": (
        "With `explicit`, clients with the scope `deploy` may load and unload models at every door; with `off`, such "
        "calls end with an error."
    ),
    "hub.anchor_copies": (
        "The places that get a copy of each checkpoint of the ledger: directories, for example on the disk of another "
        "machine, and git repositories, as `git:/srv/audit`, which get tags `mendel-ledger/*`."
    ),
    "hub.project_roots": (
        "The directories and URLs below which a registration with an API key may name a project's repository, for "
        "example `/srv/git` and `https://github.com/acme`; the user of the data directory may name every repository."
    ),
    "serving.model_roots": (
        "The directories from which clients may load a model by path; if the list is empty, such calls are refused."
    ),
    "serving.accelerate": (
        "With `onnx`, scikit-learn models are converted to ONNX graphs, which answer in the models' place where their "
        "answers are proven equal (docs/right-answers.md)."
    ),
    "serving.backend": (
        "Where models run: `process` gives each version a process of its own; `thread` runs models in the worker "
        "processes; `auto` gives a process to the code of projects and threads to other models. "
        "`predictor.backend` in `mlserver.yaml` goes before this setting "
        "(docs/how-to/isolate-a-model.md)."
    ),
    "serving.environments": (
        "With `build`, servers make the Python environment of a version that was trained with the packages of its "
        "release's lock; with `fixed`, the setting of images, they run only versions with the lock of the image "
        "(docs/how-to/isolate-a-model.md)."
    ),
    "serving.model_python": (
        "The Python that runs the models' own processes, for example of a virtual environment with the packages of the "
        "models; without this setting, the server's Python."
    ),
    "serving.model_memory_bytes": (
        "The largest resident memory of a model's own process; a process that needs more is ended and started again."
    ),
    "serving.predict_timeout": (
        "The time that one call of a model may take; a longer call is a fault of the version, and its process is ended "
        "or its worker process is replaced."
    ),
    "serving.load_timeout": "The time in which a version must load; a longer load has failed.",
    "serving.logging_required": "Whether a request ends with an error if its rows cannot be logged.",
    "serving.request_timeout": "How long a request may take, if the client sets no shorter deadline.",
    "serving.drain_timeout": "How long a stopping server, or a replaced version, waits for its requests in flight.",
    "serving.max_connection_age": "The age at which the server asks a gRPC client to open a new connection.",
    "serving.report_every": "How often a server reports its counters to the hub.",
    "spool.directory": (
        "The directory in which logged predictions wait for the hub; empty means a directory in the data directory."
    ),
    "rollback.error_rate": "The mean share of failed requests above which the criterion triggers.",
    "rollback.ood_rate": "The mean share of rows out of distribution above which the criterion triggers.",
    "rollback.latency_ratio": (
        "The largest allowed ratio of the mean p95 latency to the expected p95 latency, if the version "
        "has an expected p95."
    ),
    "rollback.drift_kl": (
        "The mean KL divergence of the features (in nats, bias removed) above which the criterion triggers."
    ),
    "rollback.min_requests": "The smallest number of requests for which error rate, latency and OOD rate are measured.",
    "rollback.min_requests_drift": "The smallest number of requests for which this section measures drift.",
    "rollback.profile": (
        "With `classic`, every triggered criterion leads to a rollback; with `default`, the cause decides the remedy."
    ),
    "governance.require": "The approvals that a version needs before it may serve users.",
    "governance.two_people": "Whether the key or user that registered a version must not approve the version.",
    "governance.inherit": (
        "Whether a version that no API key registered inherits its parent's approvals if code, dependencies and "
        "signature are equal."
    ),
    "monitoring.effects.wasserstein": (
        "The smallest Wasserstein distance that counts as drift, in standard deviations of the reference."
    ),
    "monitoring.effects.js": "The smallest Jensen-Shannon distance of a category feature that counts as drift.",
    "monitoring.effects.psi": (
        "If set, a feature counts as drifted only if its population stability index (over about ten groups) is also "
        "above this value."
    ),
    "monitoring.effects.kl": (
        "If set, a feature counts as drifted only if its KL divergence is also above this value."
    ),
    "monitoring.features.NAME.type": "The type of the feature; the default is inferred from the training data.",
    "monitoring.features.NAME.log": "This key has no effect; use `spool.features` in the settings.",
    "monitoring.reference": "This key has no effect.",
    "retraining.triggers": "This key has no effect: `healing.remedies` decides when a retraining starts.",
    "retraining.schedule": "This key has no effect.",
    "retraining.limits.memory": "The largest memory of one job, for example `4GiB`.",
    "retraining.limits.time": "The longest time of one job.",
    "gates.profile": "A named set of bounds; the keys below override single bounds of the profile.",
    "healing.autonomy.rollback": "What healing may do without approval when the remedy is a rollback.",
    "healing.autonomy.retrain": (
        "What healing may do without approval when the remedy is retraining; `propose` allows the "
        "training of a candidate."
    ),
    "healing.autonomy.promote": (
        "Whether healing may promote a candidate without approval; `act` needs `autonomy.retrain: act`, too."
    ),
    "healing.autonomy.notify": "What healing may do without approval when the remedy is a notification.",
}


def tables() -> dict[str, str]:
    """The pages, by file name."""
    return {
        "cli.md": cli_page(),
        "policies.md": policies_page(),
        "settings.md": settings_page(),
        "http.md": http_page(),
        "conformance.md": conformance_page(),
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
        "A command exits with 0 after success, with 1 and an error message on standard error after a failure,",
        "and with 2 if its arguments are invalid.\n",
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
    from mendel.healing.policy import REMEDIES, ROLLBACK  # noqa: PLC0415
    from mendel.operations import POLICIES  # noqa: PLC0415

    parts = [
        "# Policy keys\n",
        NOTE,
        "A policy is YAML with these sections, each of them optional.",
        "An unknown key is an error, which names the nearest known key.",
        "Durations are written `30s`, `5m`, `24h`, `7d`; shares are fractions from 0 to 1.",
        "The page [policies](../how-to/policies.md) describes the use of the keys.\n",
    ]
    for name, kind in POLICIES.items():
        meant = {key: f"{text}" for key, text in _said(Bounds).items()} if name == "gates" else {}
        parts += [f"## {name}\n", _keys(kind, name, meant)]
        if name == "gates":
            parts += ["### Profiles of gates\n", _profiles(Bounds, {p.value: PROFILES[p] for p in Profile})]
        if name == "healing":
            rows = [(f"`{cause.value}`", *_remedies(one, better=ROLLBACK)) for cause, one in REMEDIES.items()]
            parts += [
                "### Default remedies\n",
                _table(("Cause", "New version", "Former better", "Former as bad"), rows),
            ]
    return "\n".join(parts)


def _remedies(found: Any, *, better: str) -> tuple[str, str, str]:
    """Give the playbooks for a new version, and after a replay in which the former version did better, or as bad."""
    if found.at_once is not None:
        return (f"`{found.at_once}`",) * 3
    new = "as after a replay" if found.in_bake is None else f"`{found.in_bake}`"
    return new, f"`{better}`", f"`{found.as_bad}`"


def settings_page() -> str:
    """Every setting, with its environment variable."""
    from mendel.app.settings import OTHER_VARIABLES, Settings  # noqa: PLC0415
    from mendel.transports.door_table import DOORS  # noqa: PLC0415

    others = {
        "MENDEL_CACHE": (
            "The cache of wheels, layers and base images; default `$XDG_CACHE_HOME/mendel` or `~/.cache/mendel`."
        ),
        "MENDEL_CONFIG": "The settings file.",
        "MENDEL_IMAGE_COMMIT": "The project's commit in the image, shown by the server at `/info`.",
        "MENDEL_IMAGE_DIGEST": "The image's digest, shown by the server at `/info`; `mendel run` sets this variable.",
        "MENDEL_IMAGE_TAG": "The image's release tag, shown by the server at `/info`; `mendel run` sets this variable.",
        "MENDEL_KEY": "The API key that clients and servers send to a hub.",
        "MENDEL_REGISTRY_HOSTS": (
            "The hosts of image registries that get the user and password below, separated by commas."
        ),
        "MENDEL_REGISTRY_INSECURE": "The hosts of image registries that are used without TLS, separated by commas.",
        "MENDEL_REGISTRY_PASSWORD": "The password for the registries in `MENDEL_REGISTRY_HOSTS`.",
        "MENDEL_REGISTRY_USER": (
            "The user for the registries in `MENDEL_REGISTRY_HOSTS`; the default is the login of docker or podman."
        ),
        "MENDEL_SIGNING_PASSWORD": "The password of the signing key's file.",
        "MENDEL_URL": "The URL of the hub that clients and servers use.",
    }
    for door in DOORS:
        several = door.ports.several
        MEANINGS[f"serving.{door.ports.key}"] = (
            f"{'Ports' if several else 'Port'} of the {door.title} server; 0 chooses a free port"
            f"{'' if several else f', `off` switches {door.title} off'}."
        )
    assert others.keys() == OTHER_VARIABLES, "a variable has no meaning here"  # noqa: S101
    return "\n".join(
        [
            "# Settings\n",
            NOTE,
            "A command-line flag overrides an environment variable.",
            "An environment variable overrides the settings file `mendel.yaml`; the file overrides the default.",
            "For example, the key `serving.workers` is the environment variable `MENDEL_SERVING__WORKERS`,",
            "and `workers` in the section `serving` of the file.",
            "`mendel config show` prints the value of every setting, and its source.",
            "In the file, `${NAME}` is replaced by the environment variable `NAME`; `${NAME:text}` gives a default.\n",
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


def _shown_type(hint: Any) -> str:  # noqa: PLR0911 - one line per kind of type
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
    if is_dataclass(hint):
        return f"mapping with {', '.join(f'`{one.name}`' for one in fields(hint))}"
    return {datetime: "time", timedelta: "duration", float: "number", int: "whole number", str: "text", bool: "truth"}[
        hint
    ]


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
            "Clients send their API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
            "A key has one or more scopes, which are its rights; the scope `admin` includes all others.",
            "Errors are problem documents (RFC 9457) with a `remedy`.",
            "The name of an operation is also the name of its method in the Python client.",
            "`/openapi.json` describes every request, response and error; `/docs` shows this description as a page.",
            "The hub answers 400 if JSON is nested deeper than 64 levels, or contains an integer beyond 64 bits,",
            "a text longer than 100,000 characters, or the character NUL.\n",
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
            "The table gives the HTTP status with which the hub reports the error.\n",
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
            "An event has a sequence number, a time, a subject, an actor, data, and the hash of the event before.",
            "An event that changes versions, deployments or policies has the changed rows in its data, as `state`.",
            "An event `registry.state` has all of these rows.",
            "`mendel ledger show` prints the events; `GET /api/v1/events` returns events after a sequence number.\n",
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
    r"(?:model|promotion|incident|playbook|gate|retraining|label|deployment|healing|key|policy|ledger|decision|registry)"
    r"\.[a-z_]+"
)


def conformance_page() -> str:
    """Every check of `mendel conformance`."""
    from mendel.conformance import GRPC_CHECKS, REST_CHECKS, SPECIFICATION  # noqa: PLC0415

    checks = (*REST_CHECKS, *GRPC_CHECKS)
    rows = [(f"`{one.name}`", one.requirement, one.claim.replace("Expect ", "Expects "), one.section) for one in checks]
    return "\n".join(
        [
            "# Checks of conformance\n",
            NOTE,
            "What `mendel conformance` checks ([how to](../how-to/check-conformance.md)).",
            "Sections of REST checks are in `inference_rest.md`, those of gRPC checks in `inference_grpc.md`",
            f"([specification]({SPECIFICATION})).\n",
            _table(("Check", "Requirement", "What", "Section"), rows),
        ]
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
