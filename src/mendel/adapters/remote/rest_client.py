"""Ask a server of the Open Inference Protocol v2 over REST, with binary tensors if the server announces them."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec
import numpy as np
import orjson

from mendel.adapters.remote.server_client import (
    Announced,
    Answer,
    Attempt,
    Busy,
    NoAnswer,
    Overdue,
    Refused,
    Unreachable,
    answer_of,
    failed,
    invalid,
    shaped,
    shortened,
)
from mendel.errors import InvalidRequest, ModelFailed
from mendel.serving import RemoteAddress, RemoteModel, Tensor, TensorSpec, from_raw, to_raw

_Headers = http.client.HTTPMessage
_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_BINARY: Final = "binary_tensor_data"
_CONNECT_S: Final = 2.0
_BUSY: Final = frozenset({408, 425, 429, 502, 503, 504})
_DENIED: Final = frozenset({401, 403})
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MOST_DIGITS: Final = 18


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: Any = None
    parameters: dict[str, Any] | None = None


class _Answered(msgspec.Struct):
    outputs: list[_Output]


class _Spec(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    inputs: list[_Spec] = []
    outputs: list[_Spec] = []


class _Server(msgspec.Struct):
    extensions: list[str] = []


_read_answer = msgspec.json.Decoder(_Answered).decode
_read_metadata = msgspec.json.Decoder(_Metadata).decode
_read_server = msgspec.json.Decoder(_Server).decode


class RestClient:
    """
    Implements :class:`~mendel.adapters.remote.server_client.ServerClient` with kept HTTP connections.

    Redirects are not followed, proxies are not used, and compressed answers are not asked for.

    Args:
        key: Sent as a bearer token; None sends none.
        most_bytes: The largest answer that is read.
    """

    def __init__(self, address: RemoteAddress, model: RemoteModel, *, key: str | None, most_bytes: int) -> None:
        version = f"/versions/{quote(model.version, safe='')}" if model.version else ""
        self._path = f"/v2/models/{quote(model.model, safe='')}{version}"
        self._address, self._most = address, most_bytes
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._tls = ssl.create_default_context() if address.scheme == "https" else None
        self._binary = False
        self._mutex = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def announced(self, attempt: Attempt) -> Announced:
        status, _, text = self._exchange("GET", "/v2", None, {}, attempt)
        with suppress(*_UNREADABLE):
            self._binary = status == HTTPStatus.OK and _BINARY in _read_server(text).extensions
        status, headers, text = self._exchange("GET", self._path, None, {}, attempt)
        self._check(status, headers, text)
        try:
            told = _read_metadata(text)
        except _UNREADABLE as error:
            raise Refused("its metadata of the model cannot be read") from error
        return Announced(inputs=tuple(map(_spec, told.inputs)), outputs=tuple(map(_spec, told.outputs)))

    def unready(self, attempt: Attempt) -> str | None:
        status, headers, text = self._exchange("GET", f"{self._path}/ready", None, {}, attempt)
        if status == HTTPStatus.OK:
            return "it says that the model is not ready" if _says_no(text) else None
        try:
            self._check(status, headers, text)
        except ModelFailed as error:
            return error.message
        except Busy as error:
            return str(error)
        return None

    def infer(self, inputs: Sequence[Tensor], attempt: Attempt) -> Answer:
        body, more = self._request(inputs)
        status, headers, content = self._exchange("POST", f"{self._path}/infer", body, more, attempt)
        self._check(status, headers, content)
        return answer_of(self._tensors(headers, content), self._address)

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _request(self, inputs: Sequence[Tensor]) -> tuple[bytes, dict[str, str]]:
        parts: list[bytes] = []
        tensors = []
        for tensor in inputs:
            document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
            if self._binary and isinstance(tensor.values, np.ndarray):
                parts.append(to_raw(tensor.values, tensor.datatype))
                document["parameters"] = {"binary_data_size": len(parts[-1])}
            elif isinstance(tensor.values, np.ndarray):
                document["data"] = tensor.values.ravel().tolist()  # orjson writes null for NaN and infinities
            else:
                document["data"] = tensor.values
            tensors.append(document)
        request: dict[str, Any] = {"inputs": tensors}
        if self._binary:
            request["parameters"] = {"binary_data_output": True}
        head = orjson.dumps(request)
        if not parts:
            return head, {"content-type": "application/json"}
        lengths = {"content-type": "application/octet-stream", _HEADER_LENGTH: str(len(head))}
        return b"".join([head, *parts]), lengths

    def _tensors(self, headers: _Headers, content: bytes) -> list[Tensor]:
        split = _whole(headers.get(_HEADER_LENGTH, str(len(content))))
        try:
            told = _read_answer(content[: split or 0])
        except _UNREADABLE:
            raise invalid(self._address, "is not an answer of the Open Inference Protocol v2") from None
        tensors, place = [], split or 0
        for output in told.outputs:
            size = (output.parameters or {}).get("binary_data_size")
            if size is None:
                values = _flat(output.data)
            elif type(size) is int and 0 <= size <= len(content) - place:
                raw = content[place : place + size]
                values, place = values_of_raw(raw, output.datatype, output.shape, self._address), place + size
            else:
                raise invalid(self._address, "has fewer bytes than its outputs need")
            values = shaped(values, output.shape, self._address)
            tensors.append(Tensor(name=output.name, datatype=output.datatype, shape=tuple(output.shape), values=values))
        return tensors

    def _check(self, status: int, headers: _Headers, content: bytes) -> None:
        """Raise the error that a *status* other than 200 means."""
        if status == HTTPStatus.OK:
            return
        text = _error_text(content)
        if status in _BUSY:
            seconds = _whole(headers.get("retry-after", ""))
            after = None if seconds is None else timedelta(seconds=min(seconds, 3600))
            raise Busy(f"it answered {status}: {text}", after)
        if status in _DENIED:
            raise Refused(f"it refuses the key, or wants one ({status})")
        if status == HTTPStatus.NOT_FOUND:
            raise Refused(f"it has no such model (404: {text})")
        if status // 100 == 3:  # noqa: PLR2004 - redirects
            raise Refused(f"it redirects to another address ({status}), which is not followed")
        raise failed(self._address, f"HTTP {status}", text)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], attempt: Attempt
    ) -> tuple[int, _Headers, bytes]:
        """Give status, headers and body of the answer; use a new connection if the server has closed the idle ones."""
        while True:
            connection, kept = self._connection(attempt)
            attempt.on_end(partial(_abort, connection.sock))  # an answer that closes the connection unsets its socket
            try:
                connection.sock.settimeout(attempt.left)
                connection.request(method, path, body=body, headers={**self._headers, **headers})
                with connection.getresponse() as response:
                    content = response.read(self._most + 1)
                attempt.on_end(lambda: None)  # from now on, the connection may serve another request
                if attempt.ended is not None:
                    raise attempt.ended
            except NoAnswer:  # the attempt is over
                connection.close()
                raise
            except TimeoutError:
                connection.close()
                raise attempt.ended or Overdue("it did not answer in time") from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if attempt.ended is not None:
                    raise attempt.ended from None
                if kept and isinstance(error, ConnectionError):
                    continue
                raise Unreachable(_told(error)) from None
            if len(content) > self._most:
                connection.close()
                raise invalid(self._address, f"is larger than {self._most} bytes (serving.max_body_bytes)")
            if response.length:
                connection.close()
                raise Unreachable("the connection was lost before the end of the answer")
            self._keep(connection, response)
            return response.status, response.headers, content

    def _connection(self, attempt: Attempt) -> tuple[http.client.HTTPConnection, bool]:
        """Give a connection, and whether it was used before."""
        with self._mutex:
            if self._idle:
                return self._idle.pop(), True
        host, port, wait = self._address.host, self._address.port, min(_CONNECT_S, attempt.left)
        made: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, port, timeout=wait)
            if self._tls is None
            else http.client.HTTPSConnection(host, port, timeout=wait, context=self._tls)
        )
        try:
            made.connect()
        except OSError as error:
            made.close()
            late = isinstance(error, TimeoutError) and wait < _CONNECT_S
            raise (Overdue if late else Unreachable)(_told(error)) from None
        return made, False

    def _keep(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        with self._mutex:
            if not self._closed and not response.will_close:
                self._idle.append(connection)
                return
        connection.close()


def values_of_raw(raw: bytes, datatype: str, shape: Sequence[int], address: RemoteAddress) -> list[Any]:
    """
    Read raw contents of an output, flat; bytes become text.

    Raises:
        ModelFailed: The bytes do not fit datatype and shape, or are not text.
    """
    try:
        values: list[Any] = from_raw(raw, datatype, list(shape)).ravel().tolist()
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except (InvalidRequest, UnicodeDecodeError, ValueError, OverflowError):
        raise invalid(address, f"has an output of {datatype[:16]} whose bytes do not fit its shape") from None


def _abort(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _whole(text: str) -> int | None:
    """Read the whole number in a header; None if it is none, or too long."""
    return int(text) if len(text) <= _MOST_DIGITS and text.isascii() and text.isdecimal() else None


def _told(error: Exception) -> str:
    if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
        return f"it does not answer in HTTP ({type(error).__name__})"
    return f"it cannot be reached ({getattr(error, 'strerror', None) or type(error).__name__})"


def _spec(given: _Spec) -> TensorSpec:
    return TensorSpec(given.name, given.datatype, tuple(given.shape))


def _flat(values: Any) -> list[Any]:
    flat: list[Any] = values if isinstance(values, list) else []
    while flat and all(isinstance(part, list) for part in flat):
        flat = [value for part in flat for value in part]
    return flat


def _says_no(text: bytes) -> bool:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and document.get("ready") is False


def _error_text(content: bytes) -> str:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return shortened(content[:4096].decode("utf-8", "replace"))
    told = document.get("error", document.get("detail")) if isinstance(document, dict) else None
    return shortened(told if isinstance(told, str) else content[:4096].decode("utf-8", "replace"))
