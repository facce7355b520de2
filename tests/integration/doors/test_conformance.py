"""Mendel's own doors, checked against the Open Inference Protocol v2 as any other server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mendel.conformance import Verdict, check
from mendel.serving import ServingPolicy, infer_signature, write_artifact
from support.doors import OneProcess
from support.remote_peers import RemotePeer, remote_peer

KEYS = {hashlib.sha256(b"mk_root").hexdigest(): ("admin",)}
OPEN = {"rest.infer.answer_parameters"}
"""What the specification's OpenAPI document allows and its text does not: Mendel gives a list of prediction ids."""
N = 60
FRAME = pd.DataFrame(
    {
        "age": np.arange(N, dtype=np.int64),
        "income": np.linspace(0, 1, N),
        "city": np.where(np.arange(N) % 3 == 0, "Munich", "Brno"),
        "member": np.arange(N) % 2 == 0,
    }
)


@pytest.fixture(scope="module", params=[False, True], ids=["standard", "fast"])
def peer(request, tmp_path_factory):
    """A server with two models: one of numbers with probabilities, and one of whole numbers, text and truth values."""
    directory: Path = tmp_path_factory.mktemp("conformance")
    policy = ServingPolicy(repository_control="explicit")
    with remote_peer("rest", "grpc", policy=policy, fast=request.param) as opened:
        opened.kernel.repository = OneProcess(opened.kernel)
        opened.keys |= KEYS
        target = FRAME["age"] > N // 2
        numbers = FRAME[["income"]].assign(second=1.0)
        serve(opened, "numbers", LogisticRegression().fit(numbers, target), numbers, directory)
        columns = ColumnTransformer(
            [("city", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder="passthrough"
        )
        serve(opened, "columns", make_pipeline(columns, LogisticRegression()).fit(FRAME, target), FRAME, directory)
        yield opened


def serve(peer: RemotePeer, name: str, model: object, frame: pd.DataFrame, directory: Path) -> None:
    signature = infer_signature(frame)
    digest = write_artifact(model, directory / name, signature=signature, input_example=frame.iloc[:3])
    peer.serve(name, directory / name, digest, signature=signature)


@pytest.mark.parametrize("model", ["numbers", "columns"])
def test_both_doors_conform(peer, model: str):
    """REST and gRPC pass every required point and every extension that they announce; nothing is undecided."""
    report = check(peer.address("rest"), grpc=peer.address("grpc"), model=model, api_key="mk_root", allow_changes=True)
    assert {one.check: one.detail for one in report.failed if one.check not in OPEN} == {}
    assert report.conforms
    assert [one.check for one in report.findings if one.verdict is Verdict.UNDECIDED] == []
    skipped = {one.check for one in report.findings if one.verdict is Verdict.SKIPPED}
    assert skipped == {"rest.infer.nested_data"}
