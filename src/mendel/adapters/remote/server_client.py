"""What the backend asks of one server, whichever protocol the server speaks, and how the server can fail to answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from mendel.errors import ModelFailed
from mendel.serving import PREDICT, RemoteAddress, Tensor, TensorSpec

PROBABILITIES: Final = ("predict_proba", "probabilities", "output_probability")
"""The names of the outputs that are taken as probabilities of the classes, if a server has another output too."""
LONGEST_TEXT: Final = 300
_ANSWERED: Final = {"INT": "INT64", "UINT": "INT64", "FP": "FP64"}


class NoAnswer(Exception):
    """A server gave no answer for a reason that is not the model's fault; the text names no credentials and no rows."""


class Unreachable(NoAnswer):
    """No connection could be made, or the connection was lost."""


class Overdue(NoAnswer):
    """The server did not answer in time."""


class Moved(NoAnswer):
    """The attempt was ended so that another server can answer."""


class Refused(NoAnswer):
    """The server does not serve this model to this caller: no such model, a wrong key, or a redirect."""


class Busy(NoAnswer):
    """The server cannot answer now; it may soon."""

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """
    The inputs and outputs of a model as a server announces them.

    Over a protocol that does not tell them, there are no ``inputs``, and the datatypes of ``outputs`` are empty.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def proba(self) -> bool:
        """Whether one of several outputs gives probabilities."""
        return probability_output([spec.name for spec in self.outputs]) is not None

    @property
    def answers(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """
        The v2 datatype and shape of predictions and probabilities in Mendel's own answers; empty if unknown.

        Whole numbers of any width are INT64 there, numbers of any precision FP64; an axis of length 1 is dropped.
        """
        specs = {spec.name: spec for spec in self.outputs}
        if not specs or not all(spec.datatype for spec in self.outputs):
            return ()
        names = list(specs)
        wanted = (prediction_output(names), probability_output(names))
        return tuple(_answered(specs[name]) for name in wanted if name is not None)


def _answered(spec: TensorSpec) -> tuple[str, tuple[int, ...]]:
    kind = next((known for prefix, known in _ANSWERED.items() if spec.datatype.startswith(prefix)), spec.datatype)
    tail = spec.shape[1:]
    return kind, (-1, *(() if tail == (1,) else tail))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server returned: one prediction per row, and probabilities if the model has them; both unchecked."""

    predictions: Any
    probabilities: Any = None


class Attempt:
    """
    One request to one server, which another thread may end.

    Args:
        until: The second of the monotonic clock at which the request is given up.
    """

    def __init__(self, until: float) -> None:
        self.until = until
        self.ended: NoAnswer | None = None
        self._mutex = threading.Lock()
        self._act: Callable[[], object] | None = None

    @property
    def left(self) -> float:
        """
        The seconds until the request is given up, more than 0.

        Raises:
            NoAnswer: The request was ended or given up.
        """
        if self.ended is not None:
            raise self.ended
        if (left := self.until - time.monotonic()) <= 0:
            raise Overdue("it did not answer in time")
        return min(left, threading.TIMEOUT_MAX)

    def on_end(self, act: Callable[[], object]) -> None:
        """Let :meth:`end` call *act*, which makes the request fail; a former *act* is forgotten."""
        with self._mutex:
            self._act = act
            ended = self.ended
        if ended is not None:
            act()

    def end(self, reason: NoAnswer) -> None:
        """End the request, which then raises *reason*; from the second time on, do nothing."""
        with self._mutex:
            if self.ended is not None:
                return
            self.ended, act = reason, self._act
        if act is not None:
            act()


@contextmanager
def bounded(seconds: float) -> Iterator[Attempt]:
    """Give an attempt that is ended after so many *seconds*, even while its answer trickles in."""
    attempt = Attempt(time.monotonic() + seconds)
    timer = threading.Timer(seconds, attempt.end, [Overdue("it did not answer in time")])
    timer.daemon = True
    timer.start()
    try:
        yield attempt
    finally:
        timer.cancel()


class ServerClient(Protocol):
    """
    Open connections to one server. Several threads may call at once.

    Every method raises a NoAnswer if the server does not answer, and ModelFailed if what it answers cannot be read.
    """

    def announced(self, attempt: Attempt) -> Announced:
        """Ask for the inputs and outputs of the model."""

    def unready(self, attempt: Attempt) -> str | None:
        """Ask whether the model can predict; give the reason why not, or None."""

    def infer(self, inputs: Sequence[Tensor], attempt: Attempt) -> Answer:
        """Send rows; raises ModelFailed also if the server says that the model failed, or refuses the rows."""

    def close(self) -> None:
        """Close the connections; calls that run fail."""


def probability_output(names: Sequence[str]) -> str | None:
    """
    Give the output that holds the probabilities of the classes; a server's only output holds the predictions.

    >>> probability_output(["predict", "predict_proba"]), probability_output(["probabilities"])
    ('predict_proba', None)
    """
    return next((name for name in PROBABILITIES if name in names and len(names) > 1), None)


def prediction_output(names: Sequence[str]) -> str:
    """Give the output that holds the predictions: ``predict``, else the first one without probabilities."""
    probabilities = probability_output(names)
    return PREDICT if PREDICT in names else next(name for name in names if name != probabilities)


def answer_of(tensors: Sequence[Tensor], address: RemoteAddress) -> Answer:
    """
    Choose predictions and probabilities among the output *tensors* of a server.

    Raises:
        ModelFailed: There is no output.
    """
    if not tensors:
        raise invalid(address, "has no outputs")
    values = {tensor.name: tensor.values for tensor in tensors}
    names = list(values)
    probabilities = probability_output(names)
    return Answer(values[prediction_output(names)], None if probabilities is None else values[probabilities])


def shaped(values: Sequence[Any], shape: Sequence[int], address: RemoteAddress) -> list[Any]:
    """
    Divide the flat *values* of an output into one answer per row; an axis of length 1 after the rows is dropped.

    Raises:
        ModelFailed: The number of values does not fit *shape*.

    >>> shaped([1, 2, 3, 4], [2, 2], RemoteAddress.parse("http://a:1"))
    [[1, 2], [3, 4]]
    """
    size = 1
    for axis in shape:
        size *= axis if type(axis) is int and axis >= 0 else -1
    if not shape or size != len(values):
        raise invalid(address, f"has an output of shape {list(shape)[:8]} with {len(values)} values")
    nested = list(values)
    inner = list(shape[1:])
    if inner == [1]:
        return nested
    for axis in reversed(inner):
        nested = [nested[place : place + axis] for place in range(0, len(nested), axis)] if axis else []
    return nested


def invalid(address: RemoteAddress, fault: str) -> ModelFailed:
    """Give the error for an answer that cannot be read; *fault* is the rest of a sentence, without values."""
    return ModelFailed(f"The answer of the remote server {fault}.", kind="InvalidAnswer", at=str(address))


def failed(address: RemoteAddress, code: str, text: str) -> ModelFailed:
    """Give the error for a server that answered *code* and the short *text*; the log gets the code only."""
    return ModelFailed(f"The remote server answered {code}: {text}", kind=code, at=str(address))


def shortened(text: str) -> str:
    """Cut a long text of a server, and join its lines."""
    joined = " ".join(text.split()) or "without a message"
    return joined if len(joined) <= LONGEST_TEXT else f"{joined[:LONGEST_TEXT]}..."
