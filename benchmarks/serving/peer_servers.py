"""Start the peers: Seldon MLServer, and Triton through pytriton, each at several settings in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from peer_environments import python_of
from process_tree import free_port, running
from servers import MODEL_INFER, Counted, Route, Server, await_ready

HERE = Path(__file__).parent
BATCH_ROWS = 1024
BATCH_WAITS_S = {"no batching": 0.0, "batching": 0.01}
TRITON_WAITS_MICROS = {"no batching": None, "batching": 100}
MLSERVER_WORKERS = (0, 1)
TRITON_INSTANCES = (1, 2)
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def mlserver(models: Sequence[str], workers: int, room: Path) -> Iterator[list[Server]]:
    """Serve each model with and without batching; give one server for each of the two."""
    room.mkdir()
    http, grpc, metrics = free_port(), free_port(), free_port()
    told = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    python = python_of("mlserver")
    (room / "settings.json").write_text(json.dumps({**told, "parallel_workers": workers, "debug": False}))
    for model in models:
        for variant, wait in BATCH_WAITS_S.items():
            _write_mlserver_model(python, room / _named(model, variant), model, wait)
    command = [str(python.parent / "mlserver"), "start", str(room)]
    began, log = time.monotonic(), room / "log"
    with running(command, log=log, cwd=room, environment={**os.environ, **THREADS}) as process:
        await_ready(process, http, "/v2/health/ready", log)
        start_s = time.monotonic() - began
        yield [
            Server(
                name=f"mlserver, {variant}",
                product="mlserver",
                workers=workers,
                routes=tuple(
                    route for model in models for route in _mlserver_routes(_named(model, variant), http, grpc)
                ),
                process=process,
                metrics_port=metrics,
                start_s=start_s,
            )
            for variant in BATCH_WAITS_S
        ]


def _named(model: str, variant: str) -> str:
    return f"{model}-{variant.replace(' ', '-')}"


def _write_mlserver_model(python: Path, directory: Path, model: str, wait_s: float) -> None:
    directory.mkdir()
    subprocess.run([python, HERE / "training.py", model, directory / "model.joblib"], check=True)
    settings = {
        "name": directory.name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": BATCH_ROWS if wait_s else 0,
        "max_batch_time": wait_s,
        "parameters": {"uri": "./model.joblib"},
    }
    (directory / "model-settings.json").write_text(json.dumps(settings))


def _mlserver_routes(model: str, http: int, grpc: int) -> Iterator[Route]:
    path = f"/v2/models/{model}/infer"
    yield Route(door="REST", port=http, path=path, model=model, counted=_mlserver_rest(model))
    yield Route(door="gRPC", port=grpc, path=MODEL_INFER, model=model, counted=_mlserver_grpc)


def _mlserver_rest(model: str) -> Counted:
    def counted(name: str, labels: Mapping[str, str]) -> bool:
        return name == "model_infer_request_success_total" and labels["model"] == model

    return counted


def _mlserver_grpc(name: str, labels: Mapping[str, str]) -> bool:
    return name == "grpc_server_handled_total" and labels["grpc_method"] == "ModelInfer" and labels["grpc_code"] == "OK"


@contextmanager
def triton(models: Sequence[str], instances: int, room: Path) -> Iterator[list[Server]]:
    """Serve each model with and without batching; give one server for each of the two."""
    room.mkdir()
    http, grpc, metrics = free_port(), free_port(), free_port()
    told = {
        "ports": {"http_port": http, "grpc_port": grpc, "metrics_port": metrics},
        "batch_rows": BATCH_ROWS,
        "instances": instances,
        "models": [
            {"name": _named(model, variant), "model": model, "wait_micros": wait}
            for model in models
            for variant, wait in TRITON_WAITS_MICROS.items()
        ],
    }
    command = [str(python_of("triton")), str(HERE / "triton_program.py"), json.dumps(told)]
    began, log = time.monotonic(), room / "log"
    # Triton's program for Python models needs the libpython of the interpreter that runs this.
    library = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
    with running(command, log=log, cwd=room, environment={**os.environ, **THREADS, **library}) as process:
        for model in told["models"]:
            await_ready(process, http, f"/v2/models/{model['name']}/ready", log)
        start_s = time.monotonic() - began
        yield [
            Server(
                name=f"triton, {variant}",
                product="triton",
                workers=instances,
                routes=tuple(route for model in models for route in _triton_routes(_named(model, variant), http, grpc)),
                process=process,
                metrics_port=metrics,
                start_s=start_s,
            )
            for variant in TRITON_WAITS_MICROS
        ]


def _triton_routes(model: str, http: int, grpc: int) -> Iterator[Route]:
    def counted(name: str, labels: Mapping[str, str]) -> bool:
        return name in {"nv_inference_request_success", "nv_inference_request_success_total"} and (
            labels["model"] == model
        )

    yield Route(door="REST", port=http, path=f"/v2/models/{model}/infer", model=model, counted=counted)
    yield Route(door="gRPC", port=grpc, path=MODEL_INFER, model=model, counted=counted)
