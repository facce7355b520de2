"""The declaration of the REST door."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from mendel.transports.door import Door, DoorContext, PortSetting

if TYPE_CHECKING:
    from mendel.projects import Classifier
    from mendel.serving import Kernel


def _open(kernel: Kernel, context: DoorContext) -> AbstractAsyncContextManager[object]:
    from mendel.transports.rest.fast_server import FastRestServer  # noqa: PLC0415
    from mendel.transports.rest.rest_policy import RestPolicy  # noqa: PLC0415
    from mendel.transports.rest.server import RestServer  # noqa: PLC0415

    policy = RestPolicy.of(context.classifier, log_requests=context.log_requests)
    server = FastRestServer if context.fast else RestServer
    return server(kernel, sockets=context.sockets, statistics=context.statistics, policy=policy)


def _check(classifier: Classifier) -> None:
    from mendel.transports.rest.application import check_project  # noqa: PLC0415

    check_project(classifier)


REST: Final = Door(
    name="rest",
    title="REST",
    ports=PortSetting(key="rest_ports", default=(8008, 8000), dispensable=(8000,)),
    open=_open,
    check=_check,
    health_path="/healthz",
    has_fast_form=True,
)
