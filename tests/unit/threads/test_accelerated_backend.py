"""Backends that replace a loaded model by an ONNX graph while they serve."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC
from structlog.testing import capture_logs

from mendel.adapters.threads import AcceleratedLoads, accelerated_backend
from mendel.errors import DigestMismatch, ModelFailed
from mendel.serving import accelerated, frame_of, write_artifact
from mendel.values import Digest, Table
from support.waiting import until

pytest.importorskip("onnx", reason='install "mendel[onnx]"')
pytest.importorskip("onnxruntime", reason='install "mendel[onnx]"')

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 3)), columns=["a", "b", "c"])
TRUTH = (ROWS["a"] > 0).astype(int)
FOREST = RandomForestClassifier(5, random_state=0)


def artefact(directory, model):
    return directory, write_artifact(model.fit(ROWS, TRUTH), directory, training=ROWS)


def load(loads, written):
    directory, digest = written
    return loads(directory, digest=digest, project=None)


def settled(backend):
    return until(lambda: "compared" not in backend.descriptor.acceleration.reason and backend.descriptor.acceleration)


def test_a_proven_graph_takes_over_and_is_freed(tmp_path):
    """The loaded model answers first; once proven the graph answers equally, and unloading frees model and graph."""
    backend = load(AcceleratedLoads(), artefact(tmp_path / "a", FOREST))
    assert backend.descriptor.acceleration.accelerated is False
    frame = frame_of(Table({name: ROWS[name].to_numpy() for name in ROWS}), backend.descriptor.contract)
    before = backend.predict(frame, math.inf)
    with capture_logs() as lines:
        backend.checked()
        assert settled(backend).accelerated == "onnx"
        until(lambda: lines)
    assert [line["event"] for line in lines] == ["accelerated"]
    after = backend.predict(frame, math.inf)
    assert (after.predictions, after.probabilities) == (before.predictions, before.probabilities)
    gone = weakref.ref(backend.predictor)
    backend.kill()
    with pytest.raises(ModelFailed):
        backend.predict(frame, math.inf)
    del backend
    until(lambda: gc.collect() >= 0 and gone() is None)


def test_a_model_that_is_not_converted_is_named_once(tmp_path):
    """A declined model goes on answering; descriptor and log say once why."""
    backend = load(AcceleratedLoads(), artefact(tmp_path / "a", SVC()))
    with capture_logs() as lines:
        backend.checked()
        assert settled(backend).reason == "SVC cannot be converted"
        until(lambda: lines)
    assert [line["event"] for line in lines] == ["not_accelerated"]
    assert len(backend.predict(frame_of(Table({name: np.ones(1) for name in ROWS}), None), math.inf).predictions) == 1


def test_comparing_waits_for_loads(tmp_path, monkeypatch):
    """No graph is compared while another artefact is being loaded; a failed or ended load counts no more."""
    loads, written = AcceleratedLoads(), artefact(tmp_path / "a", FOREST)
    first, second = load(loads, written), load(loads, written)
    with pytest.raises(DigestMismatch):
        loads(written[0], digest=Digest(f"sha256:{0:064}"), project=None)
    loading, compared_while_loading, compared = [True], [], threading.Event()

    def compare(*given, **named):
        compared_while_loading.append(loading[0])
        compared.set()
        return accelerated(*given, **named)

    monkeypatch.setattr(accelerated_backend, "accelerated", compare)
    first.checked()
    assert not compared.wait(0.3)  # long enough for a comparison of 80 rows that waits for nobody
    loading[0] = False
    second.kill()
    assert settled(first).accelerated == "onnx"
    assert compared_while_loading == [False]
