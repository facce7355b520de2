"""Start Mendel as a user does: a registered version, served by `mendel serve` with everything on."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from process_tree import free_port, running
from servers import MODEL_INFER, Counted, Route, Server, await_ready
from training import COLUMNS, Fitted

import mendel
from mendel.client.client import Client
from mendel.serving import write_version_directory

SERVE = (sys.executable, "-m", "mendel.app.cli", "serve")
SERVE_UNLOGGED = (sys.executable, str(Path(__file__).with_name("serve_unlogged.py")), "serve")
SPOOL_BYTES = 8 << 30
DEADLINE = "20S"


@dataclass(frozen=True, slots=True, kw_only=True)
class MendelSettings:
    """How a server of Mendel is started; ``other`` are further environment variables."""

    doors: str = "fast"
    workers: int = 1
    backend: str = "thread"
    logged: bool = True
    other: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        marks = [
            self.doors,
            *([self.backend] if self.backend != "thread" else []),
            *([] if self.logged else ["no log"]),
        ]
        return f"mendel {', '.join(marks)}"


def register(fitted: Fitted, room: Path) -> Path:
    """
    Register and promote *fitted* in a data directory below *room*; give the directory for `mendel serve --artifact`.

    The training data make the input contract, the probe rows and the drift reference.
    """
    with mendel.connect(directory=str(room / ".mendel")) as registry:
        record = registry.version(add_version(registry, fitted))
        registry.promote(record.ref, reason="benchmark")
        registry.download(record.artifact_digest, room / "tree")
        write_version_directory(room / "version", record.ref.model, record.served, room / "tree")
    return room / "version"


def add_version(registry: Client, fitted: Fitted) -> str:
    """Register a version that may be promoted; give its name."""
    frame = pd.DataFrame(fitted.rows, columns=[f"f{place}" for place in range(COLUMNS)])
    made = registry.register_baseline(
        model=fitted.model, model_type="classification", name=fitted.name, training_data=frame
    )
    registry.approve(made.model_id, policy=True, bias=True)
    registry.change_stage(made.model_id, "sandbox")
    return made.model_id


@contextmanager
def serving(version: Path, model: str, settings: MendelSettings, room: Path) -> Iterator[Server]:
    """Serve *version* until the block ends; predictions are logged below *room*."""
    room.mkdir()
    rest, grpc, zmq = free_port(), free_port(), free_port()
    key = secrets.token_hex(16)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")}
    environment = inherited | {
        "MENDEL_KEY": key,
        "MENDEL_DIRECTORY": str(room / ".mendel"),
        "MENDEL_SERVING__REST_PORTS": str(rest),
        "MENDEL_SERVING__GRPC_PORT": str(grpc),
        "MENDEL_SERVING__ZMQ_PORT": str(zmq),
        "MENDEL_SERVING__WORKERS": str(settings.workers),
        "MENDEL_SERVING__DOORS": settings.doors,
        "MENDEL_SERVING__BACKEND": settings.backend,
        "MENDEL_SPOOL__MAX_BYTES": str(SPOOL_BYTES),
        **settings.other,
    }
    command = [*(SERVE if settings.logged else SERVE_UNLOGGED), "--artifact", str(version)]
    began, log = time.monotonic(), room / "log"
    with running(command, log=log, cwd=room, environment=environment) as process:
        await_ready(process, rest, f"/v2/models/{model}/ready", log)
        if settings.doors == "fast" and "doors_standard" in log.read_text(encoding="utf-8"):
            raise RuntimeError(f"The server cannot open the fast doors and opened the standard ones; see {log}.")
        yield Server(
            name=settings.name,
            product="mendel",
            workers=settings.workers,
            routes=tuple(routes(model, rest, grpc, zmq, key)),
            process=process,
            metrics_port=rest,
            start_s=time.monotonic() - began,
            headers=_credentials(key),
            lost="mendel_unlogged_rows_total" if settings.logged else "",
        )


def _credentials(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def routes(model: str, rest: int, grpc: int, zmq: int, key: str) -> Iterator[Route]:
    """The ways to ask a server of Mendel: v2 over REST and gRPC, then the plain routes of REST and gRPC, then ZMQ."""
    told = _credentials(key)
    over_grpc = {**told, "grpc-timeout": DEADLINE}

    def counted(endpoint: str, status: str) -> Counted:
        wanted = {"endpoint": endpoint, "status_code": status, "model": model}
        return lambda name, labels: name == "mlserver_requests_total" and wanted.items() <= labels.items()

    yield Route(
        door="REST",
        port=rest,
        path=f"/v2/models/{model}/infer",
        model=model,
        headers=told,
        counted=counted("/v2/models/{name}/infer", "200"),
    )
    yield Route(
        door="gRPC", port=grpc, path=MODEL_INFER, model=model, headers=over_grpc, counted=counted(MODEL_INFER, "OK")
    )
    yield Route(
        door="REST",
        port=rest,
        path=f"/v1/{model}/predict",
        model=model,
        form="plain",
        headers=told,
        counted=counted("/v1/{classifier}/predict", "200"),
    )
    infer = "/modelops.ModelOps/Infer"
    yield Route(
        door="gRPC", port=grpc, path=infer, model=model, form="plain", headers=over_grpc, counted=counted(infer, "OK")
    )
    yield Route(
        door="ZMQ",
        port=zmq,
        path="",
        model=model,
        form="plain",
        headers={"api_key": key},
        counted=counted("inference_request", "ok"),
    )
