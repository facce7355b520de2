"""Labels: seventeen of a release, nothing of the machine, nothing secret, and whether they belong to their tag."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.images import RELEASE_LABELS, ImageFacts, check_labels, image_labels
from mendel.values import ReleaseTag, VersionRef

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FACTS = ImageFacts(
    classifier="rfq-win",
    repository="desk",
    predictor_module="models.win",
    predictor_class="Win",
    created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    builder="oci/1",
    reproducible=True,
    tool_version="0.1.0",
    tool_commit="762e7f2" + "0" * 33,
    tool_url="https://bot:hush@example.org/mendel.git",
    tag=ReleaseTag.parse("rfq-win-v1.2.0-mlserver-762e7f2"),
    commit=COMMIT,
    branch="main",
    git_url="https://me:t0ken@example.org/desk.git",
)


def test_the_seventeen_of_the_contract():
    """A release's labels have the contract's names and values; the remote adds two, without its credentials."""
    labels = image_labels(FACTS)
    assert len(RELEASE_LABELS) == 17
    assert {name: labels[name] for name in RELEASE_LABELS} == {
        "com.classifier.git_tag": "rfq-win-v1.2.0-mlserver-762e7f2",
        "com.classifier.version": "1.2.0",
        "com.classifier.git_commit": "01234567",
        "com.classifier.tag.mlserver_commit": "762e7f2",
        "com.mlserver.commit": "762e7f2" + "0" * 33,
        "com.mlserver.version": "0.1.0",
        "com.mlserver.git_url": "https://example.org/mendel.git",
        "com.classifier.name": "rfq-win",
        "com.classifier.repository": "desk",
        "com.classifier.predictor.class": "Win",
        "com.classifier.predictor.module": "models.win",
        "com.classifier.git_branch": "main",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "org.opencontainers.image.description": "ML classifier: rfq-win",
        "org.opencontainers.image.revision": "01234567",
        "org.opencontainers.image.title": "rfq-win-classifier",
        "org.opencontainers.image.version": "1.2.0",
    }
    assert labels["com.classifier.git_url"] == "https://example.org/desk.git"
    assert labels["org.opencontainers.image.source"] == "https://example.org/desk.git"
    assert not any("hush" in value or "t0ken" in value for value in labels.values())
    assert list(labels) == sorted(labels)
    assert check_labels(labels, commit=COMMIT) == ()


def test_a_release_has_all_even_where_nobody_knows():
    """A detached HEAD and an unknown tool leave no label out; without a remote the two of it are missing."""
    labels = image_labels(
        replace(
            FACTS,
            branch=None,
            git_url=None,
            tool_commit=None,
            tool_url=None,
            tag=ReleaseTag.parse("rfq-win-v1.2.0-mlserver-dev"),
        )
    )
    assert set(RELEASE_LABELS) <= set(labels)
    assert labels["com.classifier.git_branch"] == labels["com.mlserver.git_url"] == "unknown"
    assert "com.classifier.git_url" not in labels
    assert "org.opencontainers.image.source" not in labels
    assert check_labels(labels) == ()


def test_without_a_release_only_what_is_true():
    """A working tree has no tag and no version, and says that it was changed."""
    labels = image_labels(replace(FACTS, tag=None, branch=None, changed=True, reproducible=False))
    assert not {name for name in labels if "version" in name} - {"com.mlserver.version"}
    assert "com.classifier.git_tag" not in labels
    assert "com.classifier.git_branch" not in labels
    assert labels["com.mendel.changed"] == "true"
    assert labels["org.opencontainers.image.revision"] == "01234567"
    assert check_labels(labels) == ()


def test_the_image_of_no_release_states_none():
    """A name or a label with a version contradicts the missing release tag; other names do not."""
    labels = image_labels(replace(FACTS, tag=None, branch=None))
    for named in (None, "untagged", "untagged-0123456", "latest", "model-3"):
        assert check_labels(labels, named=named) == ()
    (fault,) = check_labels(labels, named="v1.2.0")
    assert fault == "the image's tag v1.2.0 states a release, but the label com.classifier.git_tag is missing"
    (fault,) = check_labels({**labels, "com.classifier.version": "1.2.0"})
    assert "com.classifier.version states a release" in fault


def test_the_name_of_an_image_is_held_against_its_release():
    """A version in the image's tag must be that of the release tag; tags without a version say nothing."""
    labels = image_labels(FACTS)
    for named in (None, "latest", "v1.2.0", "v1.2.0-0123456", "model-3", "model-3-v1.2.0"):
        assert check_labels(labels, named=named) == ()
    for named in ("v1.3.0", "v1.2.1-0123456", "model-3-v2.0.0"):
        (fault,) = check_labels(labels, named=named)
        assert fault == f"the image's tag is {named}, but its release is rfq-win-v1.2.0-mlserver-762e7f2"


def test_mendels_own(make_digest):
    """Lock, builder, untracked artefacts and the registered version inside stand in labels of Mendel's own."""
    labels = image_labels(
        replace(
            FACTS,
            lock=make_digest("a"),
            untracked=("w.bin", "a.bin"),
            reproducible=False,
            model=(VersionRef.parse("rfq-win@3"), make_digest("b")),
        )
    )
    assert labels["com.mendel.lock"] == make_digest("a")
    assert labels["com.mendel.builder"] == "oci/1"
    assert labels["com.mendel.reproducible"] == "false"
    assert labels["com.mendel.untracked"] == "a.bin, w.bin"
    assert labels["com.mendel.model"] == "rfq-win@3"
    assert labels["com.mendel.model.artifact"] == make_digest("b")


@given(st.text(), st.text())
def test_every_value_is_one_line(repository, branch):
    """Whatever a trailer holds, no value breaks a line or steers a terminal."""
    for value in image_labels(replace(FACTS, repository=repository, branch=branch)).values():
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in value)
        assert len(value.splitlines()) <= 1


@pytest.mark.parametrize("name", [name for name in RELEASE_LABELS if name != "com.classifier.git_tag"])
def test_each_missing_label_is_told(name):
    """Taking any one of the seventeen away is noticed by name."""
    labels = image_labels(FACTS)
    del labels[name]
    assert f"the label {name} is missing" in check_labels(labels, commit=COMMIT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("com.classifier.git_tag", "rfq-win-v1.2.1-mlserver-762e7f2"),
        ("com.classifier.git_tag", "by hand"),
        ("com.classifier.version", "1.2.1"),
        ("com.classifier.name", "rfq"),
        ("com.classifier.git_commit", "76543210"),
        ("com.classifier.git_commit", "0123456"),
        ("com.classifier.tag.mlserver_commit", "0000000"),
        ("com.mlserver.commit", "1" * 40),
        ("org.opencontainers.image.created", "yesterday"),
        ("org.opencontainers.image.revision", "00000000"),
        ("com.classifier.git_url", "https://me:t0ken@example.org/desk.git"),
        ("org.opencontainers.image.source", "me:t0ken@example.org:desk.git"),
    ],
)
def test_each_false_label_is_told(name, value):
    """A label that is not the tag's gives a reason, which does not repeat a token."""
    reasons = check_labels({**image_labels(FACTS), name: value}, commit=COMMIT)
    assert reasons
    assert not any("t0ken" in reason for reason in reasons)
