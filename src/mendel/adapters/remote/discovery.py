"""Ask the servers of a remote model what they take and give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mendel.adapters.remote.server_client import (
    Announced,
    NoAnswer,
    ServerClient,
    bounded,
    prediction_output,
)
from mendel.adapters.remote.tensor_form import announced_signature
from mendel.errors import NotReady
from mendel.serving import RemoteAddress, RemoteModel

__all__ = ["announced_signature", "announced_task", "client_of", "discover", "key_of"]

ASK_S: Final = 2.0
"""How long a server may take to answer a question about itself."""


def discover(model: RemoteModel, *, environment: Mapping[str, str], most_bytes: int = 1 << 20) -> Announced:
    """
    Give what the first server that answers announces for *model*.

    Args:
        environment: The variables among which ``model.key_variable`` is.

    Raises:
        NotReady: No server answers, or none has the model.
        ModelFailed: A server's answer cannot be read.
    """
    key, reasons = key_of(model, environment), []
    for address in model.addresses:
        client = client_of(address, model, key=key, most_bytes=most_bytes)
        try:
            with bounded(ASK_S) as attempt:
                return client.announced(attempt)
        except NoAnswer as failure:
            reasons.append(f"{address}: {failure}")
        finally:
            client.close()
    raise NotReady(
        f"No server answers for the remote model {model.model!r} ({'; '.join(reasons)}).",
        remedy="Start a server, correct the address, or give a signature.",
    )


def announced_task(announced: Announced) -> str:
    """Give the task that the announced outputs show: regression for a single output of floating-point numbers."""
    kinds = {spec.name: spec.datatype for spec in announced.outputs}
    if announced.proba or not kinds:
        return "classification"
    return "regression" if kinds[prediction_output(list(kinds))].startswith("FP") else "classification"


def key_of(model: RemoteModel, environment: Mapping[str, str]) -> str | None:
    """
    Give the key to send to the servers of *model*; None if it names no variable.

    Raises:
        NotReady: The variable is not set, or holds no text that may stand in a header.
    """
    if not model.key_variable:
        return None
    key = environment.get(model.key_variable, "").strip()
    if not (key.isascii() and key.isprintable() and key) or " " in key:
        raise NotReady(
            f"The environment variable {model.key_variable} is not set to the key of the remote model.",
            remedy=f"Set {model.key_variable} in the environment of this process, and start it again.",
        )
    return key


def client_of(address: RemoteAddress, model: RemoteModel, *, key: str | None, most_bytes: int) -> ServerClient:
    """Open a client for the protocol of *address*; nothing is sent yet."""
    match address.scheme:
        case "grpc":
            from mendel.adapters.remote.grpc_client import GrpcClient  # noqa: PLC0415 - half a second, for gRPC only

            return GrpcClient(address, model, key=key, most_bytes=most_bytes)
        case "zmq":
            from mendel.adapters.remote.zmq_client import ZmqClient  # noqa: PLC0415 - for ZMQ only

            return ZmqClient(address, model, key=key, most_bytes=most_bytes)
        case _:
            from mendel.adapters.remote.rest_client import RestClient  # noqa: PLC0415 - as the others

            return RestClient(address, model, key=key, most_bytes=most_bytes)
