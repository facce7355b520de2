"""The limits and timeouts of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from mendel.errors import InvalidValue
from mendel.resilience import BreakerPolicy, BulkheadPolicy
from mendel.values import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPolicy:
    """
    The limits and timeouts of one server; limits for the whole server are divided among its worker processes.

    Attributes:
        workers: The number of worker processes; 0 means one per core, at most ``max_workers``.
        max_batch_rows: The largest number of rows in a batch of several requests; one request is never split.
        request_timeout: The timeout of a request without its own deadline, and the upper bound of its own deadline.
        predict_timeout: The time that one call of a model may take. A longer call counts as a fault of the version; its
            process is ended, or, if a thread runs it, the worker process is replaced.
        load_timeout: The time in which a version must load; a longer load has failed.
        drain_timeout: The time that requests in flight have to finish when a version is unloaded or the server stops.
        max_connection_age: The age at which the server closes a gRPC connection, so that clients reconnect and spread
            over the workers.
        max_rows: The largest number of rows in one request.
        max_body_bytes: The largest body of one request.
        header_bytes: The largest total size of the headers of an HTTP request.
        header_timeout: The time in which the headers of an HTTP request must arrive.
        body_timeout: The time in which the body of an HTTP request must arrive.
        idle_timeout: The time after which an HTTP connection without a request is closed.
        max_connections: The largest number of connections of HTTP, of gRPC and of ZMQ, each; those of HTTP and gRPC are
            divided among the workers, which take at least 1,024 each if the whole is as large.
        memory_budget_bytes: The memory that the versions of a server may take, divided among its workers; versions that
            load, and versions that drain after a change, count too. Before a load, the size of the version's files
            counts, afterwards the measured memory if it is larger. When a load needs room, models that were not used
            for ``evict_unused_for`` are unloaded, the least recently used first. None means no limit.
        evict_unused_for: How long a model must have had no request before it may be unloaded to make room.
        max_shadow_queue: The largest number of requests that wait for a shadow version; further copies are dropped.
        correlation_ids: When True, each request has an id, taken from the caller or new, in its answer and in the logs.
        log_payloads: When True, the server's log contains the rows of requests and answers.
        doors: ``fast`` answers REST and gRPC with servers of Mendel's own, on Linux; ``standard`` with those of other
            packages; ``auto`` chooses.
        zmq_key: The file with the server's pair of CURVE keys; connections of ZMQ callers are then encrypted. None
            leaves them open.
        zmq_clients: The directory with the public CURVE keys of the callers that may connect; needed with ``zmq_key``.
        repository_control: ``explicit`` lets callers load and unload models; ``off`` refuses such requests.
        model_roots: The directories below which callers may load models by path; empty refuses every path.
        backend: Where models run: ``process`` gives each version a process of its own, which a crash or a hang cannot
            leave; ``thread`` runs them in the worker processes; ``auto`` gives a process to the code of projects and
            threads to other models. ``predictor.backend`` in the mlserver.yaml of a project goes before this setting.
        environments: ``build`` makes the Python environment of a version that was trained in the environment of its
            release's lock; ``fixed``, the setting of images, runs only versions with the lock of the image.
        model_python: The Python that runs the models' own processes, for example that of a virtual environment; it
            needs numpy and what the models need, but not Mendel. None means the Python of the server.
        model_memory_bytes: The largest resident memory of a model's own process, which is ended and started again when
            it needs more; None means no limit.
        accelerate: ``onnx`` converts models to ONNX graphs, which answer where their answers are proven equal.
        tls: The files with which the gRPC port is encrypted.
        logging_required: When True, a request fails if its rows cannot be logged; otherwise its answer contains
            ``logged: false``.
    """

    workers: int = 1
    max_workers: int = 16
    max_batch_rows: int = 1024
    request_timeout: timedelta = timedelta(seconds=30)
    predict_timeout: timedelta = timedelta(seconds=10)
    load_timeout: timedelta = timedelta(minutes=5)
    drain_timeout: timedelta = timedelta(seconds=30)
    max_connection_age: timedelta = timedelta(minutes=5)
    max_rows: int = 10_000
    max_body_bytes: int = 100 << 20
    header_bytes: int = 64 << 10
    header_timeout: timedelta = timedelta(seconds=10)
    body_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(seconds=75)
    max_connections: int = 4096
    memory_budget_bytes: int | None = None
    evict_unused_for: timedelta = timedelta(minutes=1)
    max_shadow_queue: int = 64
    doors: Literal["fast", "standard", "auto"] = "auto"
    zmq_key: str | None = None
    zmq_clients: str | None = None
    repository_control: Literal["off", "explicit"] = "off"
    model_roots: tuple[str, ...] = ()
    backend: Literal["auto", "thread", "process"] = "auto"
    environments: Literal["build", "fixed"] = "build"
    model_python: str | None = None
    model_memory_bytes: int | None = None
    accelerate: Literal["off", "onnx"] = "off"
    logging_required: bool = False
    correlation_ids: bool = True
    log_payloads: bool = False
    tls: TlsFiles = field(default_factory=TlsFiles)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    bulkhead: BulkheadPolicy = field(default_factory=BulkheadPolicy)

    @property
    def makes_environments(self) -> bool:
        """Whether servers and jobs use and make the environments of locks; ``model_python`` goes before them."""
        return self.environments == "build" and self.model_python is None

    def __post_init__(self) -> None:
        if self.max_batch_rows < 1 or self.max_rows < 1 or self.max_body_bytes < 1:
            raise InvalidValue("max_batch_rows, max_rows and max_body_bytes must be at least 1.")
