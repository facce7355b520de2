"""Which cases a run measures, in its quick and in its full form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mendel_servers import MendelSettings

Shape = tuple[int, int]
"""Connections, and requests in flight per connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The settings of a run.

    Attributes:
        seconds: The length of each measurement.
        shapes: The shapes of the load at each door.
        mendel: The settings of Mendel; the first also gets the cases beyond the table.
        mlserver_workers: The numbers of MLServer's parallel workers; 0 predicts in the server's own process.
        triton_instances: The numbers of instances of each of Triton's models.
        extras: Whether the run also measures 100 rows, gradient boosting, plain bodies, ZMQ, a process of the model's
            own, eight bodies at once, and the cost of logging.
        rounds: How often servers with and without the log take turns.
    """

    seconds: float
    shapes: Mapping[str, tuple[Shape, ...]]
    mendel: tuple[MendelSettings, ...]
    mlserver_workers: tuple[int, ...]
    triton_instances: tuple[int, ...]
    extras: bool
    rounds: int = 3

    def with_doors(self, doors: str | None) -> Plan:
        """This plan with only those settings of Mendel that have these *doors*, or else with the first one's."""
        if doors is None:
            return self
        chosen = tuple(one for one in self.mendel if one.doors == doors)
        return replace(self, mendel=chosen or (replace(self.mendel[0], doors=doors),))


QUICK = Plan(
    seconds=3.0,
    shapes={"REST": ((1, 1), (500, 1)), "gRPC": ((1, 1), (500, 1), (10, 50))},
    mendel=(MendelSettings(),),
    mlserver_workers=(0,),
    triton_instances=(1,),
    extras=False,
)
FULL = Plan(
    seconds=2.5,
    shapes={"REST": ((1, 1), (32, 1), (500, 1)), "gRPC": ((1, 1), (32, 1), (500, 1), (10, 50))},
    mendel=(MendelSettings(), MendelSettings(workers=2), MendelSettings(doors="standard")),
    mlserver_workers=(0, 1),
    triton_instances=(1, 2),
    extras=True,
)
