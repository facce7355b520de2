"""
Check Mendel's doors with tritonclient; the argument is JSON: ``{"address", "aging", "http", "key", "age_s"}``.

Prints a JSON object of each check's name and what went wrong, "" where nothing did.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

GIVEN = json.loads(sys.argv[1])

LARGE = 20 << 20
MEDIUM = "x" * (1 << 16)
AT_ONCE = 300


def headers():
    """New each time: tritonclient adds to what it is given."""
    return {"authorization": f"Bearer {GIVEN['key']}"}


def inputs(protocol, rows, **given):
    tensor = protocol.InferInput("x", [len(rows), 3], "FP64")
    tensor.set_data_from_numpy(np.array(rows, dtype=np.float64), **given)
    return [tensor]


def add(protocol, client, value, *, given=None, **options):
    """Ask the model "sum" for two rows, one of which adds up to *value*."""
    rows = [[value, 1, -1], [1, 2, 3.5]]
    answer = client.infer("sum", inputs(protocol, rows, **(given or {})), headers=headers(), **options)
    got = answer.as_numpy("predict")
    assert got.ravel().tolist() == [value, 6.5], got
    return answer


def refused(code, text, ask):
    error = None
    try:
        ask()
    except InferenceServerException as found:
        error = found
    assert error is not None, f"not refused with {code}"
    assert (error.status(), text in error.message()) == (code, True), error


def reload(client, code):
    """Unload the model "sum", and load it again; a configuration with the load is refused with *code*."""
    client.unload_model("sum", headers=headers())
    assert not client.is_model_ready("sum")
    refused(code, "'config'", lambda: client.load_model("sum", config="{}", headers=headers()))
    client.load_model("sum", headers=headers())
    assert client.is_model_ready("sum")


def grpc_checks(client):
    """What is checked over gRPC, by name."""
    ask = partial(add, over_grpc, client)

    def large():
        assert ask(1.0, request_id="x" * LARGE).get_response().id == "x" * LARGE

    def described():
        metadata = client.get_model_metadata("sum", headers=headers(), as_json=True)
        assert [tensor["name"] for tensor in metadata["inputs"]] == ["a", "b", "c"], metadata
        assert client.get_server_metadata(headers=headers()).name == "mendel"

    def ready():
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("sum")

    def mistakes():
        rows = inputs(over_grpc, [[1, 2, 3]])
        refused("StatusCode.NOT_FOUND", "'nöbödy €'", lambda: client.infer("nöbödy €", rows, headers=headers()))
        refused("StatusCode.UNAUTHENTICATED", "authorization", lambda: client.infer("sum", rows))

    def deadline():
        rows = inputs(over_grpc, [[1, 2, 3]])
        ask = partial(client.infer, "held", rows, headers=headers(), client_timeout=0.3)
        refused("StatusCode.DEADLINE_EXCEEDED", "", ask)

    def at_once():
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, map(float, range(AT_ONCE))))

    def again():
        with over_grpc.InferenceServerClient(GIVEN["aging"]) as ages:
            end = time.monotonic() + 2.5 * GIVEN["age_s"]
            while time.monotonic() < end:
                add(over_grpc, ages, 1.0, request_id=MEDIUM)

    return {
        "gRPC: tensors": partial(ask, 7.5),
        "gRPC: gzip": partial(ask, 1.0, request_id=MEDIUM, compression_algorithm="gzip"),
        "gRPC: 20 MiB": large,
        "gRPC: metadata": described,
        "gRPC: ready": ready,
        "gRPC: mistakes": mistakes,
        "gRPC: deadline": deadline,
        "gRPC: many at once": at_once,
        "gRPC: reconnecting": again,
    }


def grpc_extension_checks(client):
    """What is checked of Triton's extensions over gRPC, by name."""

    def counted():
        (before,) = client.get_inference_statistics("sum", "1", headers=headers()).model_stats
        add(over_grpc, client, 1.0)
        (after,) = client.get_inference_statistics("sum", headers=headers()).model_stats
        assert after.inference_count == before.inference_count + 2, after
        assert after.inference_stats.success.count == before.inference_stats.success.count + 1, after
        assert {one.name for one in client.get_inference_statistics(headers=headers()).model_stats} == {"held", "sum"}

    def reloaded():
        reload(client, "StatusCode.INVALID_ARGUMENT")
        index = client.get_model_repository_index(headers=headers(), as_json=True)["models"]
        assert [(model["name"], model["state"]) for model in index] == [("held", "READY"), ("sum", "READY")], index

    return {"gRPC: statistics": counted, "gRPC: repository": reloaded}


def http_checks(client):
    """What is checked over HTTP, by name."""
    ask = partial(add, over_http, client)

    def described():
        metadata = client.get_model_metadata("sum", headers=headers())
        assert [tensor["name"] for tensor in metadata["inputs"]] == ["a", "b", "c"], metadata
        assert [model["name"] for model in client.get_model_repository_index(headers=headers())] == ["held", "sum"]

    def ready():
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("sum")

    def mistakes():
        rows = inputs(over_http, [[1, 2, 3]])
        refused("404", "'nobody'", lambda: client.infer("nobody", rows, headers=headers()))
        refused("401", "Authorization", lambda: client.infer("sum", rows))

    def counted():
        (before,) = client.get_inference_statistics("sum", "1", headers=headers())["model_stats"]
        ask(1.0)
        (after,) = client.get_inference_statistics("sum", headers=headers())["model_stats"]
        assert after["inference_count"] == before["inference_count"] + 2, after
        everything = client.get_inference_statistics(headers=headers())["model_stats"]
        assert [one["name"] for one in everything] == ["held", "sum"], everything

    def at_once():
        rows = [inputs(over_http, [[float(value), 1, -1]]) for value in range(AT_ONCE)]
        asked = [client.async_infer("sum", row, headers=headers()) for row in rows]
        got = [one.get_result().as_numpy("predict").item() for one in asked]
        assert got == list(range(AT_ONCE)), got

    plain = [over_http.InferRequestedOutput("predict", binary_data=False)]
    return {
        "HTTP: binary tensors": partial(ask, 7.5),
        "HTTP: JSON tensors": partial(ask, 7.5, given={"binary_data": False}, outputs=plain),
        "HTTP: gzip": partial(ask, 1.0, request_compression_algorithm="gzip", response_compression_algorithm="gzip"),
        "HTTP: metadata": described,
        "HTTP: ready": ready,
        "HTTP: mistakes": mistakes,
        "HTTP: statistics": counted,
        "HTTP: repository": partial(reload, client, "400"),
        "HTTP: many at once": at_once,
    }


def main() -> None:
    """Run every check."""
    told = {}
    with (
        over_grpc.InferenceServerClient(GIVEN["address"]) as grpc_client,
        over_http.InferenceServerClient(GIVEN["http"], concurrency=32) as http_client,
    ):
        every = grpc_checks(grpc_client) | grpc_extension_checks(grpc_client) | http_checks(http_client)
        for name, check in every.items():
            told[name] = ""
            try:
                check()
            except Exception as error:
                told[name] = f"{type(error).__name__}: {error}"[:500]
        print(json.dumps(told), flush=True)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
