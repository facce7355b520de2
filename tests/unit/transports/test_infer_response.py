"""Responses of ModelInfer are read by protobuf as what they were made of."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mendel.protos import open_inference_pb2 as pb
from mendel.serving import AnswerMetadata, InferenceAnswer, output_tensors, to_raw
from mendel.transports.grpc.infer_response import encode_infer
from mendel.transports.grpc.methods import Call
from mendel.transports.grpc.tensor_contents import FIELDS
from mendel.values import ModelName, VersionUuid

METADATA = AnswerMetadata(
    model=ModelName("m"),
    version=3,
    label="3",
    uuid=VersionUuid("m-" + "0" * 32),
    generation=7,
    deployed_at=datetime(2026, 1, 1, tzinfo=UTC),
    task="classification",
    classes=("a", "b"),
    document={},
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
COLUMNS = st.one_of(
    *(
        st.lists(values, min_size=1, max_size=200)
        for values in (
            FLOATS | st.none(),
            st.integers(-(2**63), 2**63 - 1),
            st.integers(2**63, 2**64 - 1),
            st.booleans(),
            st.text(max_size=200),
        )
    )
)
ANSWERS = st.builds(
    InferenceAnswer,
    metadata=st.sampled_from([METADATA, replace(METADATA, label=None, generation=8)]),
    predictions=COLUMNS,
    probabilities=st.none() | st.lists(st.tuples(FLOATS, FLOATS).map(list), min_size=1, max_size=3),
    prediction_ids=st.none() | st.lists(st.uuids(version=4).map(str), min_size=1, max_size=200),
    correlation_id=st.just("c"),
    at=st.just(METADATA.deployed_at),
    took=st.just(timedelta(0)),
    fallback=st.booleans(),
)
CALL = Call(correlation_id="c", timeout=None)


def parameters_of(answer: InferenceAnswer):
    """The parameters of the response, by name, as protobuf gives them."""
    ids = None if answer.prediction_ids is None else answer.prediction_ids
    found = {"prediction_ids": json.dumps(ids), "generation": answer.metadata.generation}
    return found | ({} if answer.logged else {"logged": False}) | ({"fallback": True} if answer.fallback else {})


@given(st.lists(st.tuples(ANSWERS, st.booleans(), st.text(max_size=5)), min_size=1, max_size=4))
def test_protobuf_reads_what_was_encoded(batch):
    """Names, parameters, shapes and every value, typed or raw, for answers that share the constant parts of a batch."""
    constants = {}
    for answer, raw, identifier in batch:
        request = pb.ModelInferRequest(id=identifier, raw_input_contents=[b""] if raw else [])
        response = pb.ModelInferResponse.FromString(encode_infer(request, CALL, answer, constants))
        assert (response.model_name, response.model_version) == ("m", answer.metadata.label or "")
        assert response.id == identifier
        given = {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in response.parameters.items()
        }
        assert given == parameters_of(answer)
        tensors = output_tensors(answer)
        assert len(response.outputs) == len(tensors)
        for place, (output, tensor) in enumerate(zip(response.outputs, tensors, strict=True)):
            assert (output.name, output.datatype, tuple(output.shape)) == (tensor.name, tensor.datatype, tensor.shape)
            values = [float("nan") if value is None else value for value in tensor.values]
            if raw:
                array = np.array(values, dtype=object if tensor.datatype == "BYTES" else None)
                assert response.raw_output_contents[place] == to_raw(array, tensor.datatype)
                assert not output.HasField("contents")
            else:
                found = list(getattr(output.contents, FIELDS[tensor.datatype]))
                expected = [value.encode() for value in values] if tensor.datatype == "BYTES" else values
                np.testing.assert_equal(found, expected)
