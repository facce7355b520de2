"""Checks of a model and its inference that are the same over REST and gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mendel.conformance.model_under_test import ModelUnderTest
from mendel.conformance.outcomes import NotOffered, Undecided, Violation, expect, shown
from mendel.conformance.tensors import AnnouncedTensor, Tensor

LENGTH: Final = 3
"""The length of variable axes in the second request."""
_NAMED: Final = 3


def announced_tensors(model: ModelUnderTest[Any]) -> str:
    """Expect that inputs and outputs are announced with name, known datatype and shape."""
    found = {key: model.announced(key) for key in ("inputs", "outputs")}
    if not any(found.values()):
        raise NotOffered("The model announces no inputs and no outputs.")
    return ", ".join(f"{len(tensors)} {key}" if tensors else f"no {key} announced" for key, tensors in found.items())


def infer(model: ModelUnderTest[Any]) -> str:
    """Expect an answer to inputs that are made from the metadata."""
    try:
        sample = model.sample()
    except Undecided:
        if not model.refusals:
            raise
        raise _refused(model) from None
    made = ", ".join(f"{one.datatype} {list(one.shape)}" for one in sample.inputs[:_NAMED])
    more = "..." if len(sample.inputs) > _NAMED else ""
    return "the given request" if sample.content is None else f"made inputs, {made}{more}"


def variable_axes(model: ModelUnderTest[Any]) -> str:
    """Expect that axes announced as -1 may have the length 3."""
    if not any(-1 in one.shape for one in model.inputs()):
        raise NotOffered("No input has a variable axis.")
    inputs = model.longer_inputs(LENGTH)
    model.readable(model.sample().answer)
    answer = model.ask(inputs)
    if not model.accepts(answer):
        raise Undecided(
            f"The server refuses axes of length {LENGTH}, perhaps because the model cannot have them: {answer}"
        )
    return f"shapes {', '.join(str(list(one.shape)) for one in model.outputs(answer))}"


def agreement(model: ModelUnderTest[Any]) -> str:
    """Expect all announced outputs, with their datatypes and shapes, and no other; the width of floats may differ."""
    try:
        expected = {one.name: one for one in model.announced("outputs")}
    except Violation as violation:
        raise Undecided(f"The announced outputs cannot be read: {violation}") from violation
    if not expected:
        raise NotOffered("The metadata announces no outputs.")
    remarks = []
    for one in model.readable(model.sample().answer):
        if one.name not in expected:
            raise Violation(f"Output {shown(one.name)} is not announced.")
        remarks.append(_agrees(one, expected.pop(one.name)))
    expect(not expected, f"Outputs {shown(list(expected))} are announced, but are not in the answer.")
    return "; ".join(filter(None, remarks))


def repetition(model: ModelUnderTest[Any]) -> str:
    """Expect equal answers to equal requests."""
    expect(model.repeats(), "Two equal requests get different answers.")
    return ""


def some_inputs(model: ModelUnderTest[Any]) -> tuple[Tensor, ...]:
    """Give inputs for a request whose address is at fault already, whether or not the model accepts them."""
    try:
        return model.sample().inputs
    except Undecided:
        return (Tensor(name="x", datatype="FP32", shape=(1, 1), values=(1.0,)),)


def expect_version(stated: str | None, versions: Sequence[str]) -> str:
    """Expect that the version *stated* in an answer, if there is one, is among the announced *versions*, if any."""
    known = not stated or not versions or stated in versions
    expect(known, f"Version {shown(stated)} answered; {shown(list(versions))} are announced.")
    return f"version {shown(stated)}" if stated else "the answer names no version"


def _refused(model: ModelUnderTest[Any]) -> Violation | Undecided:
    last = model.refusals[-1]
    if model.given is not None:
        return Violation(f"The given request is refused: {last}")
    if all(map(model.is_absent, model.refusals)):
        return Violation(f"The server does not answer inference requests: {last}")
    return Undecided(
        f"All {len(model.refusals)} made requests were refused, perhaps because of their content; "
        f"pass a request that the model accepts. {last}"
    )


def _agrees(one: Tensor, spec: AnnouncedTensor) -> str:
    remark = "" if one.datatype == spec.datatype else f"{shown(one.name)} is {one.datatype}, announced {spec.datatype}"
    floats = one.datatype.startswith("FP") and spec.datatype.startswith("FP")
    expect(not remark or floats, f"Output {remark}.")
    fits = len(one.shape) == len(spec.shape) and all(
        axis in {-1, length} for axis, length in zip(spec.shape, one.shape, strict=True)
    )
    expect(fits, f"Output {shown(one.name)} is announced as {list(spec.shape)}, but is {list(one.shape)}.")
    return remark
