"""The program of a model's own process runs where Mendel is not installed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from mendel.serving import model_program
from mendel.serving.model_program import NotLoadable, packed_answer, unpacked_answer

TREE = ast.parse(Path(model_program.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))


def test_it_is_python_3_9_and_imports_only_numpy():
    """It has the syntax of 3.9, and imports at its start only the standard library and numpy."""
    found = [node for node in TREE.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for node in found for name in ([node.module] if isinstance(node, ast.ImportFrom) else _names(node))}
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"numpy"}
    strict = [node for node in ast.walk(TREE) if isinstance(node, ast.keyword) and node.arg == "strict"]
    assert strict == []


def _names(node):
    return [alias.name for alias in node.names]


@pytest.mark.parametrize(
    "answer",
    [
        np.arange(6.0).reshape(3, 2),
        np.array([True, False]),
        np.array([2**64 - 1], dtype=np.uint64),
        [np.zeros((2, 2)), np.ones((2, 3), dtype=np.float32)],
    ],
)
def test_arrays_travel_as_bytes(answer):
    """Type, shape and values of an array, or of each array of a list, arrive unchanged."""
    told, parts = packed_answer(answer)
    body = bytearray(b"").join(bytes(part) for part in (np.ascontiguousarray(part).tobytes() for part in parts))
    found, at = unpacked_answer(told, body, 0)
    assert at == len(body)
    many = isinstance(answer, list)
    for one, other in zip(answer if many else [answer], found if many else [found], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("answer", "arrives"),
    [
        (np.array(["a", None], dtype=object), ["a", None]),
        ([{"share": np.float32(0.5)}, float("nan")], [{"share": 0.5}, None]),
        ((np.array([1]), np.array([2])), [[1], [2]]),
    ],
)
def test_other_answers_travel_as_json(answer, arrives):
    """Everything that is not an array of numbers arrives as JSON can say it."""
    told, parts = packed_answer(answer)
    assert (told, parts) == (["plain", arrives], [])


def test_a_refusal_of_mendels_own_loader_is_told_in_its_words(tmp_path):
    """Where Mendel loads the model, the message and the remedy of its error reach the server."""
    with pytest.raises(NotLoadable, match="MLmodel"):
        model_program._loaded_by_mendel(str(tmp_path))
