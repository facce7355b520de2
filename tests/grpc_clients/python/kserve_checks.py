"""
Check Mendel's doors with KServe's inference clients; the argument is JSON: ``{"address", "http", "key"}``.

Prints a JSON object of each check's name and what went wrong, "" where nothing did.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

GIVEN = json.loads(sys.argv[1])
URL = f"http://{GIVEN['http']}"
METADATA = (("authorization", f"Bearer {GIVEN['key']}"),)
ROWS = np.array([[7.5, 1, -1], [1, 2, 3.5]])
ANSWERS = [7.5, 6.5]


def headers():
    """New each time: the client adds to what it is given."""
    return dict(METADATA)


def asked(*, binary):
    """A request for two rows."""
    tensor = InferInput("x", list(ROWS.shape), "FP64")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name="sum", infer_inputs=[tensor], request_id="conformance-1")


def right(answer):
    assert answer.id == "conformance-1", answer.id
    assert answer.model_name == "sum", answer.model_name
    output = next(one for one in answer.outputs if one.name == "predict")
    assert output.as_numpy().ravel().tolist() == ANSWERS, output


async def over_rest(client):
    for binary in (False, True):
        right(await client.infer(URL, asked(binary=binary), model_name="sum", headers=headers()))


async def over_grpc(client):
    for binary in (False, True):
        right(await client.infer(asked(binary=binary), headers=METADATA))


async def ready_over_rest(client):
    assert await client.is_server_live(URL) is True
    assert await client.is_server_ready(URL) is True
    assert await client.is_model_ready(URL, "sum") is True
    assert await client.is_model_ready(URL, "nobody") is False


async def ready_over_grpc(client):
    assert await client.is_server_live() is True
    assert await client.is_server_ready() is True
    assert await client.is_model_ready("sum") is True


async def mistakes(client):
    error = None
    try:
        await client.infer(URL, asked(binary=False), model_name="nobody", headers=headers())
    except httpx.HTTPStatusError as found:
        error = str(found)
    assert error is not None
    assert "'nobody'" in error, error
    assert "404" in error, error


async def told(check):
    try:
        await check
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]
    return ""


async def main() -> None:
    """Run every check."""
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as rest, InferenceGRPCClient(GIVEN["address"]) as grpc:
        checks = {
            "REST: tensors in JSON and binary": over_rest(rest),
            "REST: ready": ready_over_rest(rest),
            "REST: mistakes": mistakes(rest),
            "gRPC: tensors, typed and raw": over_grpc(grpc),
            "gRPC: ready": ready_over_grpc(grpc),
        }
        wrong = {name: await told(check) for name, check in checks.items()}
    print(json.dumps(wrong), flush=True)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    asyncio.run(main())
