"""What a verification proves, and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mendel.app.cli.image import _exit_code, _verdict_lines
from mendel.app.images.attestations import AttachmentReport, Finding, Verdict
from mendel.app.images.verify import ImageVerdict, _tag_of
from mendel.values import Digest

DIGEST, OTHER = Digest(f"sha256:{'1' * 64}"), Digest(f"sha256:{'2' * 64}")
RELEASE = "a-v1.0.0-mlserver-762e7f2"


def report(signature=Verdict.UNCHECKED, documents=Verdict.UNSIGNED):
    told = {"sbom": documents, "provenance": documents, "signature": signature}
    return AttachmentReport(
        image=DIGEST, findings=tuple(Finding(document=name, verdict=one, says="x") for name, one in told.items())
    )


UNPROVED = ImageVerdict(
    image="risk/a:v1.0.0",
    digest=DIGEST,
    source="ghcr.io",
    platform="linux/arm64",
    release=RELEASE,
    label_faults=(),
    documents=report(),
)


@pytest.mark.parametrize("release", [RELEASE, None])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 3),
        ({"documents": report(Verdict.HOLDS, Verdict.HOLDS)}, 0),
        ({"documents": report(Verdict.BROKEN, Verdict.HOLDS)}, 1),
        ({"rebuilt": DIGEST}, 0),
        ({"rebuilt": OTHER}, 1),
        ({"label_faults": ("x",)}, 1),
        ({"file_faults": ("x",)}, 1),
    ],
)
def test_a_signature_or_a_rebuild_proves(change, code, release):
    """An untagged image, or that of the server alone, ends as one of a release: a signature proves it, too."""
    verdict = replace(UNPROVED, release=release, **change)
    assert _exit_code(verdict) == code
    assert verdict.holds is (code == 0)


def test_a_rebuild_proves_no_document():
    """The attached documents of an unsigned image stay unsigned, whatever the rebuild proves of the image."""
    lines = list(_verdict_lines(replace(UNPROVED, rebuilt=DIGEST)))
    assert [line.split()[1] for line in lines if line.split()[0] in {"sbom", "provenance"}] == ["unsigned:"] * 2
    assert lines[-1] == "✓ The image is verified."


def test_it_says_which_image_was_checked():
    """A local image can have the name of one in a registry, and an index has several platforms."""
    lines = list(_verdict_lines(UNPROVED))
    assert "  read from  ghcr.io" in lines
    assert "  platform   linux/arm64, the only one that was checked" in lines


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("ghcr.io:443/risk/a:v1.0.0", "v1.0.0"),
        ("risk/a", None),
        ("localhost:5000/risk/a", None),
        (f"risk/a:v1.0.0@{DIGEST}", "v1.0.0"),
        (str(DIGEST), None),
    ],
)
def test_the_tag_of_a_name(name, tag):
    """A port is no tag, and neither is a digest."""
    assert _tag_of(name) == tag
