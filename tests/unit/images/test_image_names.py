"""Names of images: the contract's tags; names that registries accept, without two classifiers sharing one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.images import encode_classifier, image_name, image_tags, model_tags
from mendel.values import SemVer

PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
classifiers = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)


def test_tags_of_a_release_and_of_none():
    """Three tags each, the contract's; without a commit those that can be told."""
    assert image_tags(SemVer(1, 10, 0), "abcdef0123") == ("latest", "v1.10.0", "v1.10.0-abcdef0")
    assert image_tags(None, "abcdef0123") == ("latest", "untagged", "untagged-abcdef0")
    assert image_tags(None, None) == ("latest", "untagged")
    assert image_tags(SemVer(1, 9, 0), "abcdef0123", latest=False) == ("v1.9.0", "v1.9.0-abcdef0")


def test_tags_of_a_registered_version_never_move_those_of_a_release():
    """An image with a version inside shares no tag with its release's image, which has another digest."""
    release, model = image_tags(SemVer(1, 2, 0), "abcdef0"), model_tags(3, SemVer(1, 2, 0), "abcdef0")
    assert model == ("model-3", "model-3-v1.2.0", "model-3-abcdef0")
    assert not {*release} & {*model}


@given(classifiers)
def test_every_classifier_has_a_legal_name(name):
    """Every classifier's name becomes a legal part of an image's name."""
    part = encode_classifier(name)
    assert PART.fullmatch(part)


@given(classifiers, classifiers)
def test_no_two_classifiers_share_a_name(one, other):
    """Distinct classifiers have distinct images."""
    assert (encode_classifier(one) == encode_classifier(other)) == (one == other)


@given(st.text(max_size=40))
def test_repository_names_are_made_legal_or_refused(text):
    """Any repository name gives a legal image name with a hint where it changed, or a refusal."""
    try:
        name, hints = image_name(text, "m")
    except InvalidValue:
        assert not re.search(r"[a-z0-9]", text.lower())
        return
    assert PART.fullmatch(name.repository)
    assert bool(hints) == (name.repository != text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Risk Models", "risk-models"), ("team/shop", "team-shop"), ("a..b", "a-b"), ("_x_", "x"), ("a__b", "a__b")],
)
def test_repository_names_as_registries_have_them(text, expected):
    """Upper case is lowered, everything else that is refused becomes a dash."""
    assert image_name(text, "m")[0].repository == expected


def test_registry_and_prefix():
    """A scheme is dropped; credentials are refused without being shown; names have an end."""
    assert str(image_name("shop", "m", registry="https://ghcr.io/acme/", prefix="ml")[0]) == "ghcr.io/acme/ml/shop/m"
    with pytest.raises(InvalidValue) as refused:
        image_name("shop", "m", registry="https://me:s3cret@ghcr.io")
    assert "s3cret" not in str(refused.value)
    with pytest.raises(InvalidValue):
        image_name("s" * 300, "m")
