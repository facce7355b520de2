"""What checks over REST and gRPC have in common: a request that the model accepts, and the comparison of answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from mendel.conformance.outcomes import CheckEnded, Undecided, Violation, expect
from mendel.conformance.sample_inputs import Content, made_inputs, variations
from mendel.conformance.tensors import AnnouncedTensor, Tensor, difference

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Generic[A]):
    """Inputs that the model accepted, and the answer; ``content`` is None if the user gave the inputs."""

    inputs: tuple[Tensor, ...]
    answer: A
    content: Content | None


@dataclass(kw_only=True)
class ModelUnderTest(ABC, Generic[A]):
    """
    One model of the server, asked over one protocol; an answer may be a refusal.

    Attributes:
        model: The name of the model.
        given: The inputs of the user, which are sent in place of made ones.
        refusals: The refusals of inputs, while the sample was searched for.
    """

    model: str
    given: tuple[Tensor, ...] | None = None
    refusals: list[A] = field(default_factory=list)
    _found: Sample[A] | CheckEnded | None = None
    _repeats: bool | None = None

    @abstractmethod
    def announced(self, key: str) -> tuple[AnnouncedTensor, ...]:
        """
        Read the ``inputs`` or ``outputs`` in the metadata of the model; empty if the server announces none.

        Raises:
            Undecided: The server gives no metadata that can be read.
            Violation: A tensor lacks its name, a known datatype or a shape.
        """

    @abstractmethod
    def ask(self, inputs: tuple[Tensor, ...]) -> A:
        """Send an inference request; gives the answer or the refusal."""

    @abstractmethod
    def accepts(self, answer: A) -> bool:
        """Tell whether *answer* is not a refusal."""

    @abstractmethod
    def is_absent(self, refusal: A) -> bool:
        """Tell whether *refusal* means that the server has no inference at all."""

    @abstractmethod
    def outputs(self, answer: A) -> tuple[Tensor, ...]:
        """Read the outputs of *answer*; raises Violation if they are not tensors of the protocol."""

    def inputs(self) -> tuple[AnnouncedTensor, ...]:
        """Give the announced inputs; raises Undecided if they cannot be read."""
        try:
            return self.announced("inputs")
        except Violation as violation:
            raise Undecided(f"The announced inputs cannot be read: {violation}") from violation

    def sample(self) -> Sample[A]:
        """
        Give inputs that the model accepts, with the answer; they are searched for once.

        Raises:
            Undecided: The model accepts none of the inputs that can be made.
        """
        if self._found is None:
            try:
                self._found = self._search()
            except CheckEnded as ended:
                self._found = ended
        if isinstance(self._found, CheckEnded):
            raise self._found
        return self._found

    def samples(self) -> tuple[Sample[A], Sample[A]]:
        """Give the sample, and another one with another answer; twice the same if the model gives no other answer."""
        first = self.sample()
        turned = tuple(replace(one, values=one.values[::-1]) for one in first.inputs)
        made = [(None, turned)] if first.content is None else [*variations(self.inputs(), 1)]
        for content, inputs in reversed(made):  # the last ones differ the most
            if inputs == first.inputs or not self.accepts(answer := self.ask(inputs)):
                continue
            if difference(self.readable(first.answer), self.readable(answer)) is not None:
                return first, Sample(inputs=inputs, answer=answer, content=content)
        return first, first

    def longer_inputs(self, variable: int) -> tuple[Tensor, ...]:
        """Give inputs with the content of the sample, in which variable axes have the length *variable*."""
        content = self.sample().content
        if content is None:
            raise Undecided("The inputs were given, so they have one shape.")
        return made_inputs(self.inputs(), content, variable)

    def readable(self, answer: A) -> tuple[Tensor, ...]:
        """Read the outputs of *answer*; raises Undecided if they cannot be read, because another check finds that."""
        try:
            return self.outputs(answer)
        except Violation as violation:
            raise Undecided(f"The answer cannot be read: {violation}") from violation

    def repeats(self) -> bool:
        """Tell whether the model answers the sample alike when asked again."""
        if self._repeats is None:
            sample = self.sample()
            again = self.ask(sample.inputs)
            if not self.accepts(again):
                raise Undecided(f"The model refuses inputs that it accepted before: {again}")
            self._repeats = difference(self.readable(sample.answer), self.readable(again)) is None
        return self._repeats

    def expect_outputs(self, outputs: tuple[Tensor, ...], what: str, *, of: Sample[A] | None = None) -> None:
        """
        Expect the outputs of the sample, or *of* another one.

        Raises:
            Undecided: The model answers equal requests differently.
            Violation: The outputs differ.
        """
        if not self.repeats():
            raise Undecided("The model answers equal requests differently, so answers cannot be compared.")
        found = difference(self.readable((of or self.sample()).answer), outputs)
        expect(found is None, f"{what} gets another answer: {found}.")

    def expect_equal(self, answer: A, what: str, *, of: Sample[A] | None = None) -> None:
        """Expect that *answer* gives the outputs of the sample, as :meth:`expect_outputs` does."""
        self.expect_outputs(self.readable(answer), what, of=of)

    def _search(self) -> Sample[A]:
        tried = [(None, self.given)] if self.given is not None else variations(self.inputs(), 1)
        for content, inputs in tried:
            answer = self.ask(inputs)
            if self.accepts(answer):
                return Sample(inputs=inputs, answer=answer, content=content)
            self.refusals.append(answer)
        raise Undecided("The model accepts no request, as the check of inference tells.")
