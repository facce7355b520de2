"""What the local server serves, told line by line while it changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mendel.adapters.processes.server_address import ServerAddress, ServingState
from mendel.app.directory import DataDirectory
from mendel.values import ModelConvergence


@dataclass(slots=True)
class ServingNews:
    """
    Follows ``serving.json`` of the server that starts with the data directory *data* after this object was made.

    The files of an earlier server count for nothing, also if another process has got its process id.
    """

    data: DataDirectory
    _former: str | None = field(init=False)
    _change: object = None
    _state: ServingState | None = None
    _told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._former = self._epoch()

    @property
    def started(self) -> bool:
        """Whether the server listens on its ports."""
        return self._epoch() != self._former and bool(self.data.server_ports())

    @property
    def decided(self) -> bool:
        """Whether the server heard from the hub, and each deployed model serves or has failed to load."""
        return self._state is not None and self._state.current and not self.waiting

    @property
    def deployed(self) -> bool:
        """Whether a model is deployed."""
        return any(line.generation_desired and not _undeployed(line) for line in self._lines())

    @property
    def failed(self) -> bool:
        """Whether a deployed model could not be loaded."""
        return any(line.error is not None and not _serves(line) for line in self._lines())

    @property
    def waiting(self) -> tuple[str, ...]:
        """The models that are still loading."""
        return tuple(str(line.model) for line in self._lines() if not _serves(line) and line.error is None)

    def lines(self) -> Iterator[str]:
        """Read the state, and give a line for each model that began to serve another version, or failed to load."""
        change = ServingState.change(self.data.server)
        if change == self._change or not self.started:
            return
        epoch = self._epoch()
        state = None if epoch is None else ServingState.read(self.data.server, epoch)
        if state is None:
            return
        self._change, self._state = change, state
        for line in self._lines():
            told = _told(line)
            if told is not None and self._told.get(line.model) != told:
                self._told[line.model] = told
                yield told

    def _epoch(self) -> str | None:
        address = ServerAddress.read(self.data.server)
        return None if address is None else address.epoch

    def _lines(self) -> tuple[ModelConvergence, ...]:
        return () if self._state is None else self._state.models


def _serves(line: ModelConvergence) -> bool:
    return line.unloaded or line.generation_serving >= line.generation_desired


def _undeployed(line: ModelConvergence) -> bool:
    return _serves(line) and line.version_serving is None


def _told(line: ModelConvergence) -> str | None:
    if _serves(line):
        return f"{line.model} serves nothing" if _undeployed(line) else f"{line.model}@{line.version_serving} serves"
    if line.error is None:
        return None
    failed = line.model if line.failed_version is None else f"{line.model}@{line.failed_version}"
    return f"{failed} does not serve: {line.error}"
