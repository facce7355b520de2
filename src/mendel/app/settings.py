"""Read settings from command-line flags, environment variables, mendel.yaml and defaults; the first source wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from mendel.errors import InvalidSettings
from mendel.predictions import SpoolPolicy
from mendel.resilience import BreakerPolicy, BulkheadPolicy
from mendel.transports.door_table import DOORS
from mendel.values import TlsFiles, from_mapping, render_duration

if TYPE_CHECKING:
    from mendel.serving import ServingPolicy

T = TypeVar("T")

_INTERPOLATION = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")
OTHER_VARIABLES = frozenset(
    {
        *("MENDEL_CONFIG", "MENDEL_KEY", "MENDEL_URL"),
        *("MENDEL_CACHE", "MENDEL_REGISTRY_USER", "MENDEL_REGISTRY_PASSWORD", "MENDEL_SIGNING_PASSWORD"),
        *("MENDEL_REGISTRY_HOSTS", "MENDEL_REGISTRY_INSECURE"),
        *("MENDEL_IMAGE_TAG", "MENDEL_IMAGE_COMMIT", "MENDEL_IMAGE_DIGEST"),
    }
)
"""Environment variables with the prefix ``MENDEL_`` that are not settings: locations, secrets, identity of an image."""
_SECRET = re.compile(r"key|secret|password|token", re.IGNORECASE)
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """
    The settings of the hub.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 means any free port.
        url: The URL at which clients and servers reach the hub; empty means ``http://<host>:<port>``.
        look_every: The interval between checks of the servers' counters.
        ship_every: The interval between writes of received segments to the lake.
        anchor_every: The interval between checkpoints of the ledger, besides those after promotions and rollbacks.
        anchor_copies: The directories, and git repositories as ``git:PATH``, that get a copy of each checkpoint.
        keep_reports: The time for which reports of servers are kept.
        keep_looks: The time for which looks (evaluations of models with their inputs) are kept.
        project_roots: The directories and URLs below which a registration with an API key may name a repository.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    url: str = ""
    look_every: timedelta = timedelta(seconds=1)
    ship_every: timedelta = timedelta(seconds=30)
    anchor_every: timedelta = timedelta(hours=1)
    anchor_copies: tuple[str, ...] = ()
    keep_reports: timedelta = timedelta(days=2)
    keep_looks: timedelta = timedelta(days=400)
    project_roots: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_ports("hub.port", self.port)
        for name in ("look_every", "ship_every", "anchor_every", "keep_reports", "keep_looks"):
            _require(getattr(self, name) > timedelta(0), f"hub.{name} must be longer than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResilienceSettings:
    """The limits that keep a failing or slow model from slowing the other models of a server."""

    circuit_breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    bulkhead: BulkheadPolicy = field(default_factory=BulkheadPolicy)


def _with_door_ports(kind: type[T]) -> type[T]:
    """Add a field for the ports of each protocol to the class *kind*, before it becomes a dataclass."""
    for door in DOORS:
        kind.__annotations__[door.ports.key] = tuple[int, ...] if door.ports.several else int | None
        setattr(kind, door.ports.key, door.ports.default)
    return kind


_POSITIVE_TIMES = (
    *("request_timeout", "predict_timeout", "load_timeout", "max_connection_age", "report_every"),
    *("header_timeout", "body_timeout", "idle_timeout", "evict_unused_for"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
@_with_door_ports
class ServingSettings:
    """
    The settings of a server; :class:`mendel.serving.ServingPolicy` explains those that are not explained here.

    Each protocol in ``DOORS`` adds a field for its ports: ``rest_ports``, ``grpc_port``, ... Port 0 means any free
    port; ``off`` instead of a single port switches the protocol off. ``report_every`` is the interval between reports
    to the hub.
    """

    host: str = "127.0.0.1"
    workers: int = 1
    max_workers: int = 16
    max_batch_rows: int = 1024
    max_rows: int = 10_000
    max_body_bytes: int = 100 << 20
    header_bytes: int = 64 << 10
    header_timeout: timedelta = timedelta(seconds=10)
    body_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(seconds=75)
    max_connections: int = 4096
    memory_budget_bytes: int | None = None
    evict_unused_for: timedelta = timedelta(minutes=1)
    doors: Literal["fast", "standard", "auto"] = "auto"
    zmq_key: str | None = None
    zmq_clients: str | None = None
    repository_control: Literal["off", "explicit"] = "off"
    model_roots: tuple[str, ...] = ()
    backend: Literal["auto", "thread", "process"] = "auto"
    environments: Literal["build", "fixed"] = "build"
    model_python: str | None = None
    model_memory_bytes: int | None = None
    accelerate: Literal["off", "onnx"] = "off"
    logging_required: bool = False
    tls: TlsFiles = field(default_factory=TlsFiles)
    request_timeout: timedelta = timedelta(seconds=30)
    predict_timeout: timedelta = timedelta(seconds=10)
    load_timeout: timedelta = timedelta(minutes=5)
    drain_timeout: timedelta = timedelta(seconds=30)
    max_connection_age: timedelta = timedelta(minutes=5)
    report_every: timedelta = timedelta(seconds=2)

    def __post_init__(self) -> None:
        for door in DOORS:
            ports = self.ports[door.name]
            _require(bool(ports) or not door.ports.several, f"serving.{door.ports.key} must name at least one port")
            _require_ports(f"serving.{door.ports.key}", *ports)
        _require(self.workers >= 0, f"serving.workers must be 0 or more, not {self.workers}")
        for name in ("max_workers", "max_batch_rows", "max_rows", "max_body_bytes", "header_bytes", "max_connections"):
            _require(getattr(self, name) >= 1, f"serving.{name} must be 1 or more, not {getattr(self, name)}")
        for name in _POSITIVE_TIMES:
            _require(getattr(self, name) > timedelta(0), f"serving.{name} must be longer than 0")

    @property
    def ports(self) -> Mapping[str, tuple[int, ...]]:
        """The ports of each protocol by its name; empty for a protocol that is off."""
        return {door.name: door.ports.numbers(getattr(self, door.ports.key)) for door in DOORS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings(SpoolPolicy):
    """The settings of the prediction log on a server's disk; an empty ``directory`` means below the data directory."""

    directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    All settings of an installation.

    Attributes:
        log_format: The format of the log lines of hub and server; ``auto`` writes text to a terminal, else JSON.
    """

    directory: str = ".mendel"
    log_format: Literal["auto", "text", "json"] = "auto"
    hub: HubSettings = field(default_factory=HubSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    resilience: ResilienceSettings = field(default_factory=ResilienceSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)

    def serving_policy(self, **changes: Any) -> ServingPolicy:
        """Give the limits and timeouts of a server, with *changes*."""
        from mendel.serving.policy import ServingPolicy  # noqa: PLC0415 - most commands need none

        serving = self.serving
        named = {one.name: getattr(serving, one.name) for one in fields(ServingPolicy) if hasattr(serving, one.name)}
        shared = {"breaker": self.resilience.circuit_breaker, "bulkhead": self.resilience.bulkhead}
        return ServingPolicy(**{**named, **shared, **changes})

    def json_log(self, *, terminal: bool) -> bool:
        """Whether log lines are JSON; *terminal* says whether the log is written to a terminal."""
        return self.log_format == "json" or (self.log_format == "auto" and not terminal)

    @property
    def root(self) -> Path:
        """The absolute path of the data directory."""
        return Path(self.directory).absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """
    The value of a setting and its source; secrets are masked with ``***``.

    ``source`` is ``flag``, ``environment``, the path of the file, or ``default``.
    """

    key: str
    value: str
    source: str


def read_settings(
    *, environment: Mapping[str, str], file: Path | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """
    Merge flags, environment, ``mendel.yaml`` and defaults.

    Args:
        environment: The environment variables; for example ``MENDEL_SERVING__WORKERS=2`` sets ``serving.workers``.
        file: The file to read; None uses ``MENDEL_CONFIG``, else ``mendel.yaml`` in the working directory, if present.
        flags: Values by dotted key, for example ``{"hub.port": 8081}``; None values are ignored.

    Raises:
        InvalidSettings: A key is unknown (the message names the nearest known key), a value is invalid, or the file
            does not exist.
    """
    tree: dict[str, Any] = {}
    for layer, source in _layers(environment, file, flags or {}):
        from_mapping(
            Settings, layer, at=source, error=InvalidSettings
        )  # checked per source, so that the error names the source
        _merge(tree, layer)
    return from_mapping(Settings, tree, at="settings", error=InvalidSettings)


def explain_settings(
    *, environment: Mapping[str, str], file: Path | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[Origin, ...]:
    """Give every setting with its value and its source, sorted by key."""
    settings = read_settings(environment=environment, file=file, flags=flags)
    layers = [(frozenset(_flatten(layer)), source) for layer, source in _layers(environment, file, flags or {})]
    return tuple(
        Origin(
            key=key,
            value="***" if _SECRET.search(key) and value else _CREDENTIALS.sub("//***@", _render(value)),
            source=next((source for keys, source in reversed(layers) if _speaks_of(keys, key)), "default"),
        )
        for key, value in sorted(_flatten_nouns(settings))
    )


def _layers(
    environment: Mapping[str, str], file: Path | None, flags: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], str]]:
    if file is None and (named := environment.get("MENDEL_CONFIG")):
        file = Path(named)
    path = file or Path("mendel.yaml")
    if file is not None and not file.is_file():
        raise InvalidSettings(f"The settings file {file} does not exist.", remedy="Correct --config or MENDEL_CONFIG.")
    if path.is_file():
        yield _with_off(_read_file(path, environment)), str(path)
    yield _with_off(_from_environment(environment)), "environment"
    yield _with_off(_nest({key: value for key, value in flags.items() if value is not None})), "flag"


def _read_file(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - only where there is a file

    def fill(found: re.Match[str]) -> str:
        name, default = found.group(1), found.group(2)
        value = environment.get(name, default)
        if value is None:
            raise InvalidSettings(
                f"{path}: ${{{name}}} names an environment variable that is not set, and gives no default."
            )
        return value

    try:
        tree = yaml.safe_load(_INTERPOLATION.sub(fill, path.read_text(encoding="utf-8"))) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"The settings file {path} is not YAML: {error}.") from error
    if not isinstance(tree, dict):
        raise InvalidSettings(f"The settings file {path} is not a mapping of sections.")
    return tree


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in environment.items():
        if not name.startswith("MENDEL_") or name in OTHER_VARIABLES:
            continue
        key = name.removeprefix("MENDEL_").lower().replace("__", ".")
        found[key] = _FROM_TEXT[key](value) if key in _FROM_TEXT else value
    return _nest(found)


def _with_off(tree: dict[str, Any]) -> dict[str, Any]:
    """Replace a port ``off`` by None, and False, which YAML reads for ``off``, by ``off`` where that is a value."""
    serving = tree.get("serving")
    if not isinstance(serving, dict):
        return tree
    single = [door.ports.key for door in DOORS if not door.ports.several]
    closed = dict.fromkeys(key for key in single if serving.get(key) is False or serving.get(key) == "off")
    off = {key: "off" for key in ("repository_control", "accelerate") if serving.get(key) is False}
    return {**tree, "serving": {**serving, **closed, **off}}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _paired(text: str) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in _listed(text))}


_FROM_TEXT: dict[str, Callable[[str], object]] = {
    **{f"serving.{door.ports.key}": _listed for door in DOORS if door.ports.several},
    "serving.model_roots": _listed,
    "hub.anchor_copies": _listed,
    "hub.project_roots": _listed,
    "spool.features": _paired,
}
"""How environment variables of settings with several values are parsed: ``8008, 8000`` and ``age=keep, name=hash``."""


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise InvalidSettings(
                    f"The settings give {parent} a value and also its key {key}.", remedy=f"Set only keys of {parent}."
                )
        if isinstance(node.get(leaf), dict):
            raise InvalidSettings(
                f"The settings give {key} a value and also keys of {key}.", remedy=f"Set only keys of {key}."
            )
        node[leaf] = value
    return tree


def _merge(tree: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _speaks_of(keys: frozenset[str], key: str) -> bool:
    return any(said == key or said.startswith(f"{key}.") for said in keys)


def _flatten_nouns(noun: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in get_type_hints(type(noun)):
        value = getattr(noun, name)
        if is_dataclass(value):
            yield from _flatten_nouns(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _render(value: object) -> str:
    if isinstance(value, timedelta):
        return render_duration(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={inner}" for name, inner in sorted(value.items()))
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidSettings(otherwise)


def _require_ports(key: str, *ports: int) -> None:
    for port in ports:
        _require(
            0 <= port <= _MAX_PORT, f"{key} must be a port from 1 to {_MAX_PORT}, or 0 for any free port, not {port}"
        )
