"""Write the nodes of an ONNX graph over columns of doubles and texts."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mendel.errors import Unsupported
from mendel.serving.flavours.native_models import required

NUMBERS, TEXTS = "numbers", "texts"
"""The inputs of a graph: doubles of shape (rows, columns), and texts of shape (rows, columns)."""
_OPSETS: Final = {"": 18, "ai.onnx.ml": 5}
_IR_VERSION: Final = 9


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a tensor of the graph."""

    tensor: str
    place: int
    text: bool = False


Columns = tuple[Column, ...]


def columns_of(tensor: str, width: int, *, text: bool = False) -> Columns:
    """Give all columns of *tensor*, in order."""
    return tuple(Column(tensor, place, text) for place in range(width))


class GraphWriter:
    """
    Collects nodes and constants.

    Attributes:
        known_texts: By the position of a text column in the input: the texts that the model accepts. The model raises
            an error for other texts, but the graph would answer.
    """

    def __init__(self) -> None:
        self._helper = required("onnx.helper", extra="onnx")
        self._types = required("onnx", extra="onnx").TensorProto
        self._from_array = required("onnx.numpy_helper", extra="onnx").from_array
        self._widths: dict[str, int] = {}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self.known_texts: dict[int, AbstractSet[str]] = {}

    def inputs(self, numbers: int, texts: int) -> None:
        """Declare the inputs with the given numbers of columns; an input without columns is left out."""
        self._widths |= {name: width for name, width in ((NUMBERS, numbers), (TEXTS, texts)) if width}

    def add(self, operator: str, *given: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and give the name of its output."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, list(given), [name], domain=domain, **attributes))
        return name

    def cast(self, given: str, kind: str) -> str:
        return self.add("Cast", given, to=getattr(self._types, kind))

    def constant(self, values: Any) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(self.tensor(np.asarray(values), name))
        return name

    def tensor(self, values: Any, name: str) -> Any:
        return self._from_array(values, name)

    def numbers(self, columns: Columns) -> str:
        """
        Give one tensor of *columns*, which all come from the same tensor.

        Raises:
            Unsupported: A column is text.
        """
        if any(column.text for column in columns):
            raise Unsupported("a numeric step over text columns cannot be converted")
        return self.picked(columns)

    def picked(self, columns: Columns) -> str:
        """Give one tensor of *columns*, in order."""
        (source,) = {column.tensor for column in columns}
        places = [column.place for column in columns]
        if places == list(range(self._widths.get(source, -1))):
            return source
        return self.add("Gather", source, self.constant(np.array(places)), axis=1)

    def made(self, tensor: str, width: int) -> Columns:
        """Give the columns of *tensor*, which has *width* columns of doubles."""
        self._widths[tensor] = width
        return columns_of(tensor, width)

    def together(self, parts: Sequence[Columns]) -> Columns:
        """Put the columns of *parts* side by side."""
        tensors = [self.numbers(part) for part in parts]
        joined = tensors[0] if len(tensors) == 1 else self.add("Concat", *tensors, axis=1)
        return self.made(joined, sum(map(len, parts)))

    def serialised(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """Give the graph as an ONNX file."""
        onnx = required("onnx", extra="onnx")
        kinds = {NUMBERS: self._types.DOUBLE, TEXTS: self._types.STRING}
        given = [self._helper.make_tensor_value_info(name, kinds[name], [None, self._widths[name]]) for name in inputs]
        graph = self._helper.make_graph(
            self._nodes, "model", given, [onnx.ValueInfoProto(name=name) for name in outputs], self._constants
        )
        opsets = [self._helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = self._helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
