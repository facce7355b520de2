"""The flavour ``remote``: a model that other servers run; the artefact holds their addresses and no model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import numpy as np

from mendel.errors import InvalidValue, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.flavour import ArtifactDescription, Sections
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor

SCHEMES: Final = frozenset({"http", "https", "grpc", "zmq"})
_VARIABLE: Final = re.compile(r"REMOTE_MODEL_KEY(_[A-Z0-9_]+)?")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")
_MOST_SERVERS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAddress:
    """The address of a server: its protocol (one of :data:`SCHEMES`), host and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parse ``SCHEME://HOST:PORT``.

        Raises:
            InvalidValue: The text is not such an address; a user name, password or path is not allowed.
        """
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
            known = bool(IPv6Address(host) if ":" in host else _NAME.fullmatch(host))
        except ValueError:
            host, port, known, parts = "", None, False, urlsplit("")
        rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
        if parts.scheme not in SCHEMES or not known or not port or any(rest):
            shown = "The address" if "@" in text else f"{text!r}"  # it may contain a password
            raise InvalidValue(
                f"{shown} is not the address of a remote model's server.",
                remedy="Write http://HOST:PORT or https://HOST:PORT (v2 over REST), grpc://HOST:PORT (v2 over gRPC) or "
                "zmq://HOST:PORT, without user name, password and path.",
            )
        return cls(scheme=parts.scheme, host=host, port=port)

    @property
    def netloc(self) -> str:
        """Host and port as in a URL: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """
    A model that other servers run. Register it like a fitted model.

    Attributes:
        servers: The addresses of the servers, which all run the same model: ``http://HOST:PORT`` or ``https://...`` for
            the Open Inference Protocol v2 over REST, ``grpc://HOST:PORT`` for v2 over gRPC, ``zmq://HOST:PORT`` for the
            ZMQ messages of Mendel.
        model: The name of the model there; empty means the name under which the model is registered.
        version: The version there; empty lets the servers choose.
        key_variable: The environment variable of the Mendel server that holds the key to send to the servers:
            ``REMOTE_MODEL_KEY`` or a name that begins with ``REMOTE_MODEL_KEY_``. Empty sends no key.
        classes: The classes in the order of the probabilities; None when unknown, because servers do not tell them.
    """

    servers: tuple[str, ...]
    model: str = ""
    version: str = ""
    key_variable: str = ""
    classes: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.servers, tuple | list) or not 0 < len(self.servers) <= _MOST_SERVERS:
            raise InvalidValue(f"A remote model has a list of 1 to {_MOST_SERVERS} servers.")
        addresses = tuple(dict.fromkeys(str(RemoteAddress.parse(server)) for server in self.servers))
        object.__setattr__(self, "servers", addresses)
        if self.key_variable and not _VARIABLE.fullmatch(self.key_variable):
            raise InvalidValue(
                f"{self.key_variable!r} is not a name for the environment variable of a remote model's key.",
                remedy="Use REMOTE_MODEL_KEY or a name that begins with REMOTE_MODEL_KEY_; never write the key itself.",
            )

    @property
    def addresses(self) -> tuple[RemoteAddress, ...]:
        return tuple(map(RemoteAddress.parse, self.servers))

    @classmethod
    def of_section(cls, section: Mapping[str, Any]) -> Self:
        """
        Read the section of an ``MLmodel``.

        Raises:
            ModelNotLoadable: The section does not describe a remote model.
        """
        servers, classes = section.get("servers"), section.get("classes")
        texts = {key: section.get(key, "") for key in ("model", "version", "key_variable")}
        strings = isinstance(servers, list) and all(isinstance(one, str) for one in [*servers, *texts.values()])
        if not strings or not texts["model"] or not isinstance(classes, list | None):
            raise ModelNotLoadable(
                "The section 'remote' of the MLmodel does not describe a remote model.",
                remedy="Register the model again with: mendel register NAME --remote ADDRESS",
            )
        try:
            return cls(servers=tuple(servers or ()), classes=tuple(classes) if classes else None, **texts)
        except InvalidValue as error:
            raise ModelNotLoadable(error.message, remedy=error.remedy) from error


class RemoteFlavour:
    """Writes and reads the addresses of servers; the backend ``remote`` asks them."""

    name = "remote"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is a :class:`RemoteModel`."""
        return isinstance(model, RemoteModel)

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: RemoteModel) -> RemoteModel:
        """Give *model* unchanged; it answers nothing here, because its servers answer."""
        return model

    def write(self, model: RemoteModel, directory: Path) -> Sections:
        """Give the ``MLmodel`` section; write no file."""
        del directory
        if not model.model:
            raise InvalidValue("The remote model has no name.", remedy="Give RemoteModel(model=...).")
        section: dict[str, Any] = {"servers": list(model.servers), "model": model.model}
        section |= {key: text for key in ("version", "key_variable") if (text := getattr(model, key))}
        if model.classes is not None:
            section["classes"] = [value.item() if isinstance(value, np.generic) else value for value in model.classes]
        return {self.name: section}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the signature and the classes that the artefact states."""
        return ArtifactDescription(
            flavour=self.name,
            signature=mlmodel.signature,
            classes=RemoteModel.of_section(mlmodel.flavors[self.name]).classes,
        )

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        """Refuse, because only a server's backend ``remote`` connects to other servers."""
        del directory, project
        servers = ", ".join(RemoteModel.of_section(mlmodel.flavors[self.name]).servers)
        raise ModelNotLoadable(
            f"The model runs on other servers ({servers}), so it cannot be loaded here.",
            remedy="Send requests to a Mendel server that serves the version.",
        )
