"""Authorise gRPC calls, convert errors to gRPC statuses, and count calls; used by every gRPC method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import structlog

from mendel.errors import MendelError
from mendel.resilience import fault_of
from mendel.serving import Kernel
from mendel.transports.error_text import text_of
from mendel.transports.grpc.errors import status_of
from mendel.values import Scope

_SEND_KEY = "Send the API key in the call metadata as 'authorization: Bearer KEY'."
_log = structlog.get_logger("mendel.grpc")


@dataclass(slots=True, kw_only=True)
class Call:
    """
    The state of one gRPC call.

    Attributes:
        timeout: The time left until the client's deadline; None when the client set no deadline.
        model: The model's name, which the method sets for the metrics; None until then.
    """

    correlation_id: str
    timeout: timedelta | None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A gRPC method and the scope that its callers' API key needs; None means that no key is needed."""

    name: str
    scope: Scope | None


@asynccontextmanager
async def answering(kernel: Kernel, method: Method, context: Any) -> AsyncIterator[Call]:
    """
    Authorise a gRPC call, and convert an exception in the ``async with`` block to the gRPC status of the answer.

    The correlation id, unless empty, is sent to the client in the initial metadata.
    """
    began = kernel.steady()
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    call = Call(
        correlation_id=kernel.correlation_id(metadata.get("x-request-id"), metadata.get("traceparent")),
        timeout=_left(context),
    )
    status = grpc.StatusCode.OK
    try:
        if call.correlation_id:
            await context.send_initial_metadata((("x-request-id", call.correlation_id),))
        kernel.authorize(_credential(metadata), method.scope, remedy=_SEND_KEY)
        yield call
    except MendelError as error:
        status = status_of(error)
        await context.abort(status, text_of(error), _retry_metadata(error))
    except (grpc.aio.AbortError, asyncio.CancelledError):
        status = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the server
        status = grpc.StatusCode.INTERNAL
        fault, correlation = fault_of(error), call.correlation_id or uuid4().hex
        _log.error("grpc_fault", method=method.name, fault=fault.kind, at=fault.at, correlation_id=correlation)
        await context.abort(status, f"Internal error; search the server's log for {correlation}.")
    finally:
        kernel.answered("gRPC", method.name, status.name, call.model, kernel.steady() - began)


def _left(context: Any) -> timedelta | None:
    remaining = context.time_remaining()
    return None if remaining is None else timedelta(seconds=max(0.0, min(remaining, 1e6)))


def _credential(metadata: Mapping[str, str]) -> str | None:
    bearer = metadata.get("authorization", "")
    return bearer[7:].strip() if bearer[:7].lower() == "bearer " else metadata.get("x-api-key")


def _retry_metadata(error: MendelError) -> tuple[tuple[str, str], ...]:
    retry_after: timedelta | None = getattr(error, "retry_after", None)
    return () if retry_after is None else (("retry-after-ms", str(int(retry_after.total_seconds() * 1000))),)
