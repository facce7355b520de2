"""Register a bad version for the demo: its encoder raises an error on values that are not in its few training rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mendel.adapters.arrow import read_table
from mendel.app.demo.demo_project import World
from mendel.client.client import Client
from mendel.projects import load_project
from mendel.registry import Registration
from mendel.serving import TrainedClassifier, write_artifact
from mendel.values import VersionRef

_ROWS = 40


def register_faulting_version(client: Client, world: World) -> VersionRef:
    """
    Register a version that predicts its input example and fails on almost every other row.

    The version has the code, release and signature of version 1, so that only its failures reveal the defect.
    """
    import joblib  # noqa: PLC0415 - a second
    import pandas as pd  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415

    first = client.version(f"{world.classifier}@1")
    table = read_table(world.base)
    truth = table[world.target]
    chosen = np.sort(np.concatenate([np.flatnonzero(truth == value)[: _ROWS // 2] for value in np.unique(truth)[:2]]))
    few = table.take(chosen)
    features = few.without(world.target)
    frame = pd.DataFrame({name: features[name] for name in features.names})
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression(max_iter=200))
    with tempfile.TemporaryDirectory(prefix="mendel-bad-") as scratch:
        tree = Path(scratch) / "artifact"
        tree.mkdir()
        joblib.dump(pipeline.fit(frame.to_numpy(), few[world.target]), tree / "model.joblib")
        classes = tuple(np.unique(few[world.target]).tolist())
        write_artifact(
            TrainedClassifier(name=world.classifier, task=first.task, classes=classes),
            tree,
            signature=first.signature,
            input_example=features,
            task=first.task,
            project=load_project(world.project),
        )
        registered = client.register(
            Registration(
                model=first.model,
                flavor="mendel",
                task=first.task,
                signature=first.signature,
                code_digest=first.code_digest,
                lock_digest=first.lock_digest,
                release_tag=first.release_tag,
                project=first.project,
                description="Trained by hand on forty rows",
            ),
            tree,
        )
    return VersionRef.parse(registered.model_id)
