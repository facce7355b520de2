"""A model that an ONNX graph answers for, at every door."""

from __future__ import annotations

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from mendel.adapters.threads import AcceleratedLoads
from mendel.serving import infer_signature, write_artifact
from support.served_models import served_version
from support.waiting import until_async

pytest.importorskip("onnx", reason='install "mendel[onnx]"')
pytest.importorskip("onnxruntime", reason='install "mendel[onnx]"')


async def test_the_doors_give_the_models_answers(open_world, shelf, at):
    """Plain JSON and v2 JSON give the probabilities of the model itself, and /info says that ONNX answers."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows, rows["a"] > 0)
    digest = write_artifact(model, shelf.directory / "boosting", training=rows)
    shelf.trees[digest] = shelf.directory / "boosting"
    shelf.served["boosting", 1] = served_version(1, digest, infer_signature(rows))
    world = await open_world(load_backend=AcceleratedLoads())
    (report,) = await world.apply(at("boosting"))
    assert report.error is None

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.ports['rest']}", trust_env=False) as http:

        async def told():
            return (await http.get("/info")).json()["models"][0]["acceleration"]

        await until_async(lambda: world.kernel.served("boosting").artifact.descriptor.acceleration.accelerated)
        assert (await told())["accelerated"] == "onnx"
        assert set((await told())["libraries"]) == {"onnx", "onnxruntime", "scikit-learn"}
        asked = rows.head(5)
        plain = await http.post("/v1/boosting/predict_proba", json={"records": asked.to_dict(orient="records")})
        tensor = {"name": "x", "shape": [5, 3], "datatype": "FP64", "data": asked.to_numpy().tolist()}
        v2 = await http.post("/v2/models/boosting/infer", json={"inputs": [tensor]})
    expected = model.predict_proba(asked)
    np.testing.assert_allclose(plain.json()["probabilities"], expected, rtol=1e-12)
    outputs = {output["name"]: output["data"] for output in v2.json()["outputs"]}
    found = next(data for data in outputs.values() if len(data) == expected.size)
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=1e-12)
