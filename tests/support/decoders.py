"""Every decoder that callers' bytes reach, as a table that the fuzzers and the property tests drive."""

from __future__ import annotations

import asyncio
import random
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from google.protobuf.message import DecodeError, Message

from mendel.errors import Conflict, Denied, InvalidInput, NotFound, Unsupported
from mendel.predictions import parse_labels
from mendel.predictions.encoding import encode_block, encode_labels
from mendel.projects import load_project
from mendel.protos import modelops_pb2, open_inference_pb2
from mendel.serving import (
    Input,
    TrainedClassifier,
    event_time_of,
    infer_signature,
    key_of,
    parse_csv,
    parse_plain,
    read_json,
    version_number,
    write_artifact,
)
from mendel.serving.external_predictions import external_prediction_block
from mendel.serving.loaded_version import LoadedVersion
from mendel.transports.content_encoding import decompressed
from mendel.transports.grpc.tensor_contents import parameter, tensors_of
from mendel.transports.rest.v2_bodies import read_request
from mendel.transports.zmq.message_types import rows_of
from mendel.transports.zmq.messages import read_message
from mendel.values import Table
from support.served_models import Shelf, clock, deployed, new_kernel, served_version, write_project

M = TypeVar("M", bound=Message)
REFUSALS = (InvalidInput, NotFound, Conflict, Denied, Unsupported)
"""What a decoder may raise: each is a status of the 400s, or 501."""


@dataclass(frozen=True)
class Decoder:
    """Reads callers' bytes; *seeds* are such as it takes, for a fuzzer to change."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


NUMBERS = Table({name: np.zeros(3) for name in ("a", "b", "c")})
MIXED = Table(
    {
        "age": np.array([1, 2, 3]),
        "city": np.array(["Ulm", "Bonn", None], dtype=object),
        "member": np.array([True, False, True]),
        "income": np.array([1.5, 2.5, np.nan]),
        "since": np.array(["2020-01-01", "2021-01-01", "2022-01-01"], dtype="datetime64[us]"),
    }
)
PLAIN = (
    b'{"records": [{"a": 1, "b": 2.5, "c": -3e4}], "key": "k", "event_time": "2026-01-01T00:00:00+01:00"}',
    b'{"payload": {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}}}',
    b'{"inputs": {"age": [1], "city": ["Ulm"], "member": [true], "income": [null], "since": ["2020-01-01T00:00:00Z"]}}',
    b'{"instances": [[1, 2, 3], [4, 5, 6]]}',
    b'{"ndarray": [1, "\\u00b2", null]}',
)
V2 = (
    b'{"id": "1", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [[1.0, 2.0, 3.0]]}]}',
    (
        b'{"inputs": [{"name": "a", "shape": [1], "datatype": "INT32", "data": [1]},'
        b'{"name": "b", "shape": [1], "datatype": "BOOL", "data": [true]},'
        b'{"name": "c", "shape": [1, 1], "datatype": "BYTES", "data": ["x"]}],'
        b'"parameters": {"key": "k", "event_time": "2026-01-01T00:00:00Z", "binary_data_output": true},'
        b'"outputs": [{"name": "predict", "parameters": {"binary_data": true}}]}'
    ),
)
BINARY_HEAD = (
    b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}},'
    b'{"name": "y", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}]}'
)
LABELS = (
    b'{"prediction_id": "a", "true_label": 1, "label_source": "desk", "label_timestamp": "2026-01-01T00:00:00+14:00"}',
    b'{"labels": [{"prediction_id": "a", "true_label": "x"}]}',
    b"prediction_id,true_label,label_timestamp\na,1.5,2026-01-01T00:00:00Z\n",
)
EXTERNAL = (
    (
        b'{"model": "numbers", "version": 1, "records": [{"a": 1, "b": 2, "c": 3}], "predictions": [1.5],'
        b'"probabilities": [[0.5, 0.5]], "prediction_ids": ["0190a8c0-0000-7000-8000-000000000000"],'
        b'"event_time": "2026-01-01T00:00:00Z"}'
    ),
)
CSV = (b"a,b,c\n1,2,3\n", b'age,city,member,income,since\n1,"Ulm ""x""",true,,2020-01-01\n')


@contextmanager
def versions() -> Iterator[tuple[LoadedVersion, ...]]:
    """Loaded versions: of numbers, of mixed columns, and one whose columns are those of the request."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_project(directory)
        shelf = Shelf(directory)
        for name, table in (("numbers", NUMBERS), ("mixed", MIXED), ("loose", None)):
            tree = directory / name
            tree.mkdir()
            signature = None if table is None else infer_signature(table)
            digest = write_artifact(
                TrainedClassifier(name="zero"),
                tree,
                project=load_project(directory / "project"),
                signature=signature,
                input_example=table,
            )
            shelf.trees[digest] = tree
            shelf.served[name, 1] = served_version(1, digest, signature)

        async def loaded() -> tuple[LoadedVersion, ...]:
            async with new_kernel(shelf) as kernel:
                reports = await kernel.apply(shelf.desire(*map(deployed, ("numbers", "mixed", "loose"))), shelf.fetch)
                assert not [report.error for report in reports if report.error]
                return tuple(kernel.served(name) for name in ("numbers", "mixed", "loose"))

        yield asyncio.run(loaded())


class _Readers:
    """What reads callers' bytes, over loaded versions."""

    def __init__(self, loaded: tuple[LoadedVersion, ...]) -> None:
        self.loaded = loaded

    def rows(self, given: Input) -> None:
        for version in self.loaded:
            with suppress(InvalidInput):
                version.artifact.codec.decode(given)

    def plain(self, body: bytes) -> None:
        self.rows(parse_plain(read_json(body)).input)

    def v2(self, body: bytes) -> None:
        self.rows(read_request(body, None).input)

    def v2_binary(self, body: bytes) -> None:
        """The first two bytes say where the JSON ends, so that a fuzzer may move it."""
        self.rows(read_request(body[2:], str(int.from_bytes(body[:2], "big"))).input)

    def header_length(self, header: bytes) -> None:
        self.rows(read_request(V2[0], header.decode("latin-1")).input)

    def v2_message(self, body: bytes) -> None:
        request = _message(open_inference_pb2.ModelInferRequest, body)
        if request is not None:
            version_number(request.model_version)
            event_time_of(parameter(request.parameters, "event_time"))
            key_of(parameter(request.parameters, "key"))
            self.rows(tensors_of(request))

    def modelops_message(self, body: bytes) -> None:
        request = _message(modelops_pb2.InferenceRequest, body)
        if request is not None:
            version_number(request.parameters.get("version", ""))
            self.plain(request.prompt.encode())

    def zmq(self, frame: bytes) -> None:
        message = read_message(frame)
        version_number(message.data.get("version"))
        self.rows(parse_plain(rows_of(message.data)).input)

    def labels(self, body: bytes) -> None:
        """The first byte chooses the content type."""
        kind = ("application/json", "application/x-ndjson", "text/csv")[body[0] % 3 if body else 0]
        encode_labels(parse_labels(body[1:], content_type=kind, received_at=clock()))

    def external(self, body: bytes) -> None:
        block = external_prediction_block(read_json(body), self.loaded[0], now=clock(), rng=random.Random(0))
        block.check()
        encode_block(block)

    def csv(self, body: bytes) -> None:
        for version in self.loaded:
            with suppress(InvalidInput):
                version.artifact.codec.decode(parse_csv(body, version.served.signature, max_rows=100))

    @staticmethod
    def compressed(body: bytes) -> None:
        """The first byte chooses the encoding."""
        assert len(decompressed(body[1:], "gzip" if body[:1] < b"\x80" else "deflate", 1 << 16)) <= 1 << 16


def decoders(loaded: tuple[LoadedVersion, ...]) -> dict[str, Decoder]:
    """Every decoder by its name, over *loaded* versions."""
    readers = _Readers(loaded)
    packed = tuple(msgspec.msgpack.encode(msgspec.json.decode(frame)) for frame in _frames())
    head = len(BINARY_HEAD).to_bytes(2, "big") + BINARY_HEAD
    labels = tuple(kind + body for kind, body in zip((b"\0", b"\0", b"\2"), LABELS, strict=True))
    return {
        "plain JSON": Decoder(readers.plain, PLAIN),
        "v2 JSON": Decoder(readers.v2, V2),
        "v2 binary": Decoder(readers.v2_binary, (head + np.zeros(3, "<f4").tobytes() + b"\1\0\0\0x",)),
        "v2 header length": Decoder(readers.header_length, (b"%d" % len(V2[0]), b"\xb2", b"9" * 30)),
        "gRPC v2 message": Decoder(readers.v2_message, tuple(_v2_messages())),
        "gRPC ModelOps message": Decoder(readers.modelops_message, tuple(_modelops_messages())),
        "ZMQ frame": Decoder(readers.zmq, (*_frames(), *packed)),
        "labels": Decoder(readers.labels, labels),
        "predictions made elsewhere": Decoder(readers.external, EXTERNAL),
        "CSV": Decoder(readers.csv, CSV),
        "compressed body": Decoder(readers.compressed, (b"\0" + _gzip(b"x" * 99), b"\xff" + zlib.compress(b"x" * 99))),
    }


def _message(kind: type[M], body: bytes) -> M | None:
    """The message; None where the server refuses it before it reaches us (:mod:`mendel.transports.grpc`)."""
    try:
        return kind.FromString(body)
    except DecodeError:
        return None


def _v2_messages() -> Iterator[bytes]:
    tensor = open_inference_pb2.ModelInferRequest.InferInputTensor
    for raw in (False, True):
        request = open_inference_pb2.ModelInferRequest(
            model_name="m", model_version="1", inputs=[tensor(name="x", datatype="FP32", shape=[1, 3])]
        )
        request.parameters["key"].string_param = "k"
        request.parameters["event_time"].string_param = "2026-01-01T00:00:00Z"
        if raw:
            request.raw_input_contents.append(np.zeros(3, "<f4").tobytes())
        else:
            request.inputs[0].contents.fp32_contents.extend([1, 2, 3])
        yield request.SerializeToString()


def _modelops_messages() -> Iterator[bytes]:
    for body in PLAIN:
        yield modelops_pb2.InferenceRequest(
            model_name="m", prompt=body.decode(), parameters={"version": "1"}
        ).SerializeToString()


def _frames() -> Iterator[bytes]:
    for body in PLAIN[:3]:
        yield b'{"type": "inference_request", "request_id": 1, "data": {"model_name": "m", "inputs": %b}}' % body


def _gzip(body: bytes) -> bytes:
    made = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return made.compress(body) + made.flush()
