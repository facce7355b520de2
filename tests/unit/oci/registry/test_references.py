"""References by docker's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.images.references import ImageReference, is_loopback
from mendel.values import Digest

DIGEST = "sha256:" + "0a" * 32
PATHS = st.lists(
    st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,2})[a-z0-9]{1,4})?", fullmatch=True), min_size=1, max_size=4
)
REFERENCES = st.builds(
    ImageReference,
    host=st.sampled_from(["localhost", "localhost:5000", "ghcr.io", "127.0.0.1:1", "[::1]:5000", "a.b-c.io:65535"]),
    path=PATHS.map("/".join),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.just(Digest(DIGEST)),
)


@given(REFERENCES)
def test_a_reference_comes_back_from_its_text(reference: ImageReference) -> None:
    """What a reference prints is read as the same reference."""
    assert ImageReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("acme/base:1", "docker.io/acme/base:1"),
        ("docker.io/python", "docker.io/library/python"),
        ("index.docker.io/acme/x", "docker.io/acme/x"),
        ("localhost/base", "localhost/base"),
        ("localhost:5000/base:1", "localhost:5000/base:1"),
        ("ghcr.io/a/b/c", "ghcr.io/a/b/c"),
        (f"python:3.11@{DIGEST}", f"docker.io/library/python:3.11@{DIGEST}"),
    ],
)
def test_docker_s_defaults(text: str, whole: str) -> None:
    """A first part that is no host belongs to docker.io's name; one-part names there stand below library/."""
    assert str(ImageReference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    ["", "UPPER/case", "https://ghcr.io/a", "a b", "ghcr.io/", "x:", "x:!", "x@sha256:00", "ghcr.io/a//b", "-h.io/a",
     "ghcr.io/a:" + "t" * 129, "ghcr.io/" + "a" * 256, "user:secret@ghcr.io/a"],
)  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    """What is no reference is refused with a sentence, which repeats no password."""
    with pytest.raises(InvalidValue) as refused:
        ImageReference.parse(text)
    assert "user:secret" not in str(refused.value)


def test_what_a_registry_is_asked_for() -> None:
    """The digest goes before the tag, and without either ``latest`` is meant."""
    assert ImageReference.parse(f"a:1@{DIGEST}").selector == DIGEST
    assert ImageReference.parse("a:1").selector == "1"
    assert ImageReference.parse("a").selector == "latest"
    assert str(ImageReference.parse("ghcr.io/a:1").pinned(Digest(DIGEST))) == f"ghcr.io/a@{DIGEST}"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:1", True), ("[::1]:80", True), ("127.evil.io", False),
     ("localhost.evil.io", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_only_this_machine_is_this_machine(host: str, loopback: bool) -> None:
    """A name that merely begins like this machine's is another machine."""
    assert is_loopback(host) is loopback
