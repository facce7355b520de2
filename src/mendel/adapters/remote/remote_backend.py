"""Let other servers answer: choose a healthy one for each batch, and another one if it does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from mendel.adapters.remote.discovery import client_of, key_of
from mendel.adapters.remote.server_client import (
    Announced,
    Answer,
    Busy,
    NoAnswer,
    Overdue,
)
from mendel.adapters.remote.servers import Server, Servers
from mendel.adapters.remote.tensor_form import TensorForm, announced_signature
from mendel.errors import DeadlineExceeded, ModelFailed, ModelNotLoadable, ModelStopped, NotReady
from mendel.projects import Project
from mendel.serving import (
    BackendPlace,
    Frame,
    Mlmodel,
    Outputs,
    PredictorDescriptor,
    RemoteAddress,
    RemoteModel,
    ServingPolicy,
    read_mlmodel,
    require_digest,
)
from mendel.serving.input_contract import InputContract, read_contract
from mendel.values import Digest

_SECTION: Final = "remote"
_CALLS_PER_SERVER: Final = 8
_SOON: Final = timedelta(seconds=1)
_LATE: Final = "The deadline passed before the model answered."
_KILLED: Final = "The model was unloaded, so it can no longer predict."


class RemoteLoads:
    """
    Implements :class:`mendel.serving.LoadBackend` for artefacts of the flavour ``remote``.

    Args:
        environment: The variables among which the keys of the servers are.
    """

    def __init__(self, policy: ServingPolicy, *, environment: Mapping[str, str]) -> None:
        self._policy = policy
        self._environment = environment

    def __call__(self, directory: Path, *, digest: Digest | None, project: Project | None) -> RemoteBackend:
        del project
        require_digest(directory, digest)
        mlmodel = read_mlmodel(directory)
        model = RemoteModel.of_section(mlmodel.flavors[_SECTION])
        key = key_of(model, self._environment)
        most = self._policy.max_body_bytes
        clients = [(address, client_of(address, model, key=key, most_bytes=most)) for address in model.addresses]
        description = _Description(model, _contract(directory, mlmodel))
        servers = Servers(clients, description.fit)
        try:
            servers.open()
            return RemoteBackend(servers, description.descriptor(servers), self._policy)
        except BaseException:
            servers.close()
            raise


class _Description:
    """
    What is known of a remote model before and after its servers were asked.

    The first server that answers decides whether the model has probabilities and, without a contract in the artefact,
    which columns it takes; a server that announces something else is not used.
    """

    def __init__(self, model: RemoteModel, contract: InputContract | None) -> None:
        self._model = model
        self._contract = contract
        self._first: Announced | None = None
        self._fault: ModelNotLoadable | None = None
        self._mutex = threading.Lock()

    def fit(self, address: RemoteAddress, announced: Announced) -> TensorForm:
        """Give the form in which the server at *address* takes rows; raises ModelNotLoadable if it does not fit."""
        with self._mutex:
            try:
                contract = self._contract
                if contract is None and (signature := announced_signature(announced)) is not None:
                    contract = InputContract.of_signature(signature)
                form = TensorForm.of(announced, contract, nulls=address.scheme != "grpc")
            except ModelNotLoadable as error:
                self._fault = error
                raise
            if self._first is None:
                self._first, self._contract = announced, contract
            elif self._first.proba != announced.proba:
                raise ModelNotLoadable("It announces other outputs than the other servers.")
            return form

    def descriptor(self, servers: Servers) -> PredictorDescriptor:
        """
        Describe the predictor.

        Raises:
            ModelNotLoadable: What the servers announce does not fit the artefact.
            NotReady: No server is ready.
        """
        if self._first is None and self._fault is not None:
            raise self._fault
        if self._first is None or servers.choose(()) is None:
            raise _none_ready(servers)
        named = self._contract is not None or self._first.inputs == ()
        return PredictorDescriptor(
            class_name=type(self._model).__name__,
            module=type(self._model).__module__,
            classes=self._model.classes,
            contract=self._contract,
            width=_CALLS_PER_SERVER * len(servers.all),
            proba=self._first.proba,
            adapter="auto" if named else "ndarray",
            answers=self._first.answers,
        )


class RemoteBackend:
    """
    Implements :class:`mendel.serving.Backend` with servers that run the same model.

    A call that a server did not answer, because it was unreachable, busy or stopped, is repeated on another server: a
    prediction changes nothing, so it may run twice. ``died`` gives the reasons while no server is ready.
    """

    def __init__(self, servers: Servers, descriptor: PredictorDescriptor, policy: ServingPolicy) -> None:
        self._servers = servers
        self._descriptor = descriptor
        self._limit = policy.predict_timeout.total_seconds()
        self._killed = False

    @property
    def descriptor(self) -> PredictorDescriptor:
        return self._descriptor

    @property
    def died(self) -> str | None:
        if self._killed:
            return _KILLED
        return (
            None if self._servers.choose(()) else f"No server of the remote model is ready ({self._servers.reasons})."
        )

    @property
    def place(self) -> BackendPlace:
        external = tuple(server.state for server in self._servers.all)
        return BackendPlace(backend="remote", pid=None, memory_bytes=None, external_api=external)

    @property
    def stops_calls(self) -> bool:
        return True

    def predict(self, frame: Frame, deadline: float) -> Outputs:
        tried: dict[Server, NoAnswer] = {}
        while not self._killed and (server := self._servers.choose(tried)) is not None:
            began = time.monotonic()
            until = min(began + self._limit, deadline)
            try:
                answer = self._asked(server, frame, until)
            except Overdue as failure:
                if until == deadline:
                    raise DeadlineExceeded(_LATE) from None
                if server.left_at < began and server.answers():
                    raise ModelStopped(
                        f"The remote model took longer than {self._limit:g} s.",
                        remedy="Raise serving.predict_timeout, or make the model faster.",
                    ) from None
                tried[server] = failure
            except NoAnswer as failure:
                tried[server] = failure
            else:
                return self._descriptor.outputs(len(frame), answer.predictions, answer.probabilities)
        if self._killed:
            raise ModelFailed(_KILLED)
        raise _none_ready(self._servers, tried)

    def _asked(self, server: Server, frame: Frame, until: float) -> Answer:
        with server.attempt(until) as attempt:
            form = server.form
            if form is None:
                raise Busy("it has just become unreachable")
            answer = server.client.infer(form.tensors(frame), attempt)
        if self._descriptor.proba and answer.probabilities is None:
            raise ModelFailed(
                "The remote server returned no probabilities.", kind="InvalidAnswer", at=str(server.address)
            )
        return answer

    def checked(self) -> None:
        """Do nothing, because this backend never replaces its predictor."""

    def kill(self) -> None:
        if not self._killed:
            self._killed = True
            self._servers.close()


def _contract(directory: Path, mlmodel: Mlmodel) -> InputContract | None:
    contract, signature = read_contract(directory), mlmodel.signature
    if contract is not None or signature is None or not signature.inputs:
        return contract
    return InputContract.of_signature(signature)


def _none_ready(servers: Servers, tried: Mapping[Server, NoAnswer] | None = None) -> NotReady:
    """Give the error of a call that no server answered, with the reason of each."""
    given = tried or {}
    reasons = [f"{one.address}: {given.get(one) or one.reason}" for one in servers.all if one in given or not one.ready]
    pauses = [failure.retry_after for failure in given.values() if isinstance(failure, Busy) and failure.retry_after]
    return NotReady(
        f"No server of the remote model answers ({'; '.join(reasons)}).", retry_after=min(pauses, default=_SOON)
    )
