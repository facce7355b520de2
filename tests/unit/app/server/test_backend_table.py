"""Which backend runs an artefact."""

from __future__ import annotations

import pytest

from mendel.app.server.backend_table import backend_kind
from mendel.projects import load_project
from mendel.serving import Mlmodel, ServingPolicy


@pytest.mark.parametrize(
    ("own", "policy", "kind"),
    [
        ("", ServingPolicy(), "process"),
        ("", ServingPolicy(backend="thread"), "thread"),
        ("", ServingPolicy(backend="thread", accelerate="onnx"), "accelerated"),
        ("", ServingPolicy(backend="process", accelerate="onnx"), "process"),
        ("backend: process", ServingPolicy(backend="thread"), "process"),
        ("backend: thread", ServingPolicy(backend="process"), "thread"),
    ],
)
def test_the_project_goes_before_the_server(tmp_path, own, policy, kind):
    """The classifier's own backend counts, then the server's; the code of a project runs in a process by default."""
    predictor = f"{{module: models, class_name: Model, {own}}}"
    (tmp_path / "mlserver.yaml").write_text(f"classifier: {{name: churn}}\npredictor: {predictor}\n")
    mlmodel = Mlmodel(flavors={"mendel": {"classifier": "churn"}})
    assert backend_kind(mlmodel, load_project(tmp_path), policy) == kind
    plain = Mlmodel(flavors={"sklearn": {}})
    assert backend_kind(plain, None, ServingPolicy(backend="process")) == "process"
