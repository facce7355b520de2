"""The form in which rows are sent to the servers of a remote model."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from mendel.errors import ModelNotLoadable
from mendel.serving import frame_of
from mendel.values import ColumnSpec, ColumnType, Signature, Table


@pytest.mark.parametrize(
    ("shapes", "values"), [({"a": [-1]}, [None, 2]), ({"joint": [-1, 2]}, [None, 3, 2, 4])], ids=["columns", "joint"]
)
@pytest.mark.parametrize("extensions", [[], ["binary_tensor_data"]])
def test_a_null_in_an_optional_column_of_whole_numbers_is_sent_as_null(load, scripted, shapes, values, extensions):
    """Mendel holds such a column as floating-point numbers; NaN is no whole number, so it is never converted to one."""
    server = scripted()
    inputs = [{"name": name, "datatype": "INT64", "shape": shape} for name, shape in shapes.items()]
    server.answers({"inputs": inputs, "outputs": server.routes["/v2/models/m"][2]["outputs"]}, path="/v2/models/m")
    server.answers({"extensions": extensions}, path="/v2")
    names = "ab" if "joint" in shapes else "a"
    columns = tuple(ColumnSpec(name=name, type=ColumnType.LONG, required=False) for name in names)
    backend = load(server.address, signature=Signature.of_columns(columns))
    rows = {"a": np.array([np.nan, 2.0]), "b": np.array([3.0, 4.0])}
    backend.predict(frame_of(Table({name: rows[name] for name in names}), None), time.monotonic() + 20)
    (tensor,) = json.loads(server.seen[-1][2])["inputs"]
    assert (tensor["datatype"], tensor["data"]) == ("INT64", values)
    assert "parameters" not in tensor


def test_a_server_that_announces_too_many_columns_is_refused(load, scripted):
    """No signature of billions of columns is built from a number that a server gives."""
    server = scripted()
    outputs = server.routes["/v2/models/m"][2]["outputs"]
    wide = {"name": "rows", "datatype": "FP64", "shape": [-1, 2_000_000_000]}
    server.answers({"inputs": [wide], "outputs": outputs}, path="/v2/models/m")
    with pytest.raises(ModelNotLoadable, match="2000000000 columns; at most 100000"):
        load(server.address)
