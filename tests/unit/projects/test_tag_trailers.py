"""Trailers of a tag's message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mendel.projects import TagDetails, read_trailers, with_trailers
from mendel.projects.tag_trailers import UNTRACKED_ARTIFACT, artifact_of, artifact_value
from mendel.values import EPOCH

DIGEST = "sha256:" + "0" * 64
PATHS = st.text(st.characters(exclude_characters="\0"), min_size=1)
LINES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1)


@given(text=st.text(), paths=st.lists(PATHS, max_size=5), values=st.lists(LINES, min_size=1, max_size=4))
def test_what_is_written_is_read(text, paths, values):
    """Whatever somebody says above, and whatever files are called, the trailers come back, in their order."""
    trailers = [("Tool-Version", value) for value in values]
    trailers += [(UNTRACKED_ARTIFACT, artifact_value(path, DIGEST)) for path in paths]
    read = read_trailers(with_trailers("x" + text, trailers))
    assert read["Tool-Version"] == tuple(values)
    details = TagDetails(name="t", commit="c", made=EPOCH, annotated=True, trailers=read)
    assert details.untracked == tuple((path, DIGEST) for path in paths)


@given(path=PATHS)
def test_an_artefact_takes_one_line(path):
    """No name of a file can break the paragraph of trailers, or begin one of its own."""
    value = artifact_value(path, DIGEST)
    assert len(value.splitlines()) == 1
    assert " ".join(value.split()) == value
    assert artifact_of(value) == (path, DIGEST)


@given(message=st.text())
def test_any_message_can_be_read(message):
    """Messages that people wrote are no error, and no trailer stands above the last paragraph."""
    assert "Tool-Url" not in read_trailers(f"Tool-Url: above\n\n{message}\n\nthe end")
    read_trailers(message)
