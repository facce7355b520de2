"""What happens around every gRPC call: credentials, correlation ids, and the statuses of errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

import grpc
import structlog

from mendel.errors import MendelError
from mendel.resilience import fault_of
from mendel.transports.error_text import text_of
from mendel.transports.grpc.errors import status_of
from mendel.transports.grpc.messages import MessageRefused
from mendel.transports.grpc.methods import Method

SEND_KEY: Final = "Send the API key in the call metadata as 'authorization: Bearer KEY'."
_log = structlog.get_logger("mendel.grpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The status of a call that failed, and what the caller is told; *retry_after* is the time to wait."""

    status: grpc.StatusCode
    text: str
    retry_after: timedelta | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The trailing metadata."""
        if self.retry_after is None:
            return ()
        return (("retry-after-ms", str(int(self.retry_after.total_seconds() * 1000))),)


def failure_of(error: Exception, method: Method, correlation_id: str) -> Failure:
    """Give the status for *error*; a defect of Mendel is logged with the correlation id that the caller gets."""
    if isinstance(error, MendelError):
        return Failure(status=status_of(error), text=text_of(error), retry_after=getattr(error, "retry_after", None))
    if isinstance(error, MessageRefused):
        return Failure(status=error.status, text=error.text)
    fault, correlation = fault_of(error), correlation_id or uuid4().hex
    _log.error("grpc_fault", method=method.name, fault=fault.kind, at=fault.at, correlation_id=correlation)
    return Failure(status=grpc.StatusCode.INTERNAL, text=f"Internal error; search the server's log for {correlation}.")


def credential_of(metadata: Mapping[str, str]) -> str | None:
    """Give the API key in the metadata ``authorization`` or ``x-api-key``; None without either."""
    bearer = metadata.get("authorization", "")
    return bearer[7:].strip() if bearer[:7].lower() == "bearer " else metadata.get("x-api-key")
