import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.signing import make_key
from mendel.app.images.attestations import Verdict, attach_documents, read_wheel_facts, verify_attachments
from mendel.errors import Corrupt, InvalidInput, NotFound
from mendel.images import (
    CYCLONEDX,
    IN_TOTO,
    SIGSTORE_BUNDLE,
    BasePin,
    Environment,
    ImageName,
    ImagePlan,
    RunSettings,
    RuntimePin,
    WheelPin,
)
from mendel.images.manifests import MANIFEST, Descriptor, Manifest
from mendel.values import Digest

RUN = RunSettings(command=("python",), environment={}, ports=(8000,), healthcheck=("true",))


def _digest(letter):
    return Digest(f"sha256:{letter * 64}")


def _wheel(name):
    return WheelPin(name=name, version="1.0", filename=f"{name}-1.0.whl", sha256=_digest("a"), size_bytes=1)


@pytest.fixture
def plan():
    base = BasePin(reference="oci:base", digest=_digest("b"), python="3.11", interpreter="/bin/python3", glibc="2.36")
    environment = Environment(
        classifiers=("credit",),
        platform="linux/amd64",
        inputs=_digest("e"),
        requirements=(),
        base=base,
        wheels=(_wheel("joblib"),),
    )
    return ImagePlan(
        classifier="credit",
        name=ImageName(repository="risk", classifier="credit"),
        tags=("latest",),
        labels={},
        created=datetime(2026, 1, 2, tzinfo=UTC),
        environment=environment,
        runtime=RuntimePin(version="1.0", commit=None, url=None, how="installed", wheel=_wheel("mendel")),
        artifacts=(),
        code=(),
        manifest=b"{}",
        run=RUN,
    )


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "images")


def _image(layout, marker=b"{}"):
    """An image of nothing, named."""
    config = Descriptor.of(marker, "application/vnd.oci.image.config.v1+json")
    layout.put(marker)
    manifest = Manifest(config=config, layers=()).as_json()
    layout.put(manifest)
    image = Descriptor.of(manifest, MANIFEST)
    layout.name([f"risk/credit:{marker.hex()}"], image)
    return image


@pytest.fixture
def image(layout):
    return _image(layout)


@pytest.fixture
def key(tmp_path):
    make_key(tmp_path / "key")
    return tmp_path / "key"


def _public(key):
    return key.with_name(f"{key.name}.pub")


def _verdicts(report):
    return {(finding.document, finding.verdict) for finding in report.findings}


def test_signed_documents_hold(layout, image, plan, key):
    """Attached and signed, all three documents hold, and are found by what they are."""
    attached = attach_documents(layout, image, plan, key=key)
    assert [each.artifact_type for each in attached] == [CYCLONEDX, IN_TOTO, SIGSTORE_BUNDLE]
    report = verify_attachments(layout, image.digest, _public(key))
    holds = Verdict.HOLDS
    assert _verdicts(report) == {("sbom", holds), ("provenance", holds), ("signature", holds)}
    assert report.signed


def test_attaching_twice_changes_nothing(layout, image, plan, key):
    """The same documents, signature included, are one however often they are attached."""
    assert attach_documents(layout, image, plan, key=key) == attach_documents(layout, image, plan, key=key)
    assert len(layout.attachments(image.digest)) == 3


def test_unsigned_documents(layout, image, plan, key):
    """Without a signature the documents agree with each other; whoever gives a key learns that nothing is signed."""
    attach_documents(layout, image, plan)
    plain = verify_attachments(layout, image.digest)
    assert _verdicts(plain) == {("sbom", Verdict.UNSIGNED), ("provenance", Verdict.UNSIGNED)}
    assert not plain.signed
    asked = verify_attachments(layout, image.digest, _public(key))
    assert {(f.document, f.says) for f in asked.broken} == {
        ("sbom", "no provenance of the image names this bill of materials"),
        ("provenance", "no signature with the given key covers the provenance"),
        ("signature", "the image is not signed"),
    }


def test_signature_without_a_key(layout, image, plan, key):
    """A signature that nobody can check is called so, and signs nothing."""
    attach_documents(layout, image, plan, key=key)
    report = verify_attachments(layout, image.digest)
    assert ("signature", Verdict.UNCHECKED) in _verdicts(report)
    assert not report.signed
    assert not report.broken


def test_another_key(layout, image, plan, key, tmp_path):
    """Signed by somebody else is not signed."""
    attach_documents(layout, image, plan, key=key)
    report = verify_attachments(layout, image.digest, make_key(tmp_path / "stranger"))
    assert not report.signed
    assert "no signature of the image was made with the given key" in {finding.says for finding in report.broken}


def test_slipped_in_documents(layout, image, plan, key):
    """A bill of materials or a provenance that was attached beside the signed ones is found out."""
    attach_documents(layout, image, plan, key=key)
    layout.attach(image, b'{"bomFormat":"CycloneDX"}', artifact_type=CYCLONEDX)
    layout.attach(image, b'{"subject":[],"predicateType":"x"}', artifact_type=IN_TOTO)
    report = verify_attachments(layout, image.digest, _public(key))
    assert {finding.document for finding in report.broken} == {"sbom", "provenance"}
    assert not report.signed


def test_signature_of_another_image(layout, image, plan, key):
    """A whole and valid signature moved from another image does not hold for this one."""
    other = _image(layout, b'{"other":1}')
    attach_documents(layout, other, plan, key=key)
    (bundle,) = [e for e in layout.attachments(other.digest) if e.artifact_type == SIGSTORE_BUNDLE]
    content = layout.read(layout.manifest(bundle.digest).layers[0].digest)
    layout.attach(image, content, artifact_type=SIGSTORE_BUNDLE)
    report = verify_attachments(layout, image.digest, _public(key))
    assert ("signature", "the document describes another image") in {(f.document, f.says) for f in report.broken}
    assert not report.signed


def test_nothing_attached(layout, image):
    """An image without documents is told to have none."""
    report = verify_attachments(layout, image.digest)
    assert _verdicts(report) == {("sbom", Verdict.ABSENT), ("provenance", Verdict.ABSENT)}


def test_bad_key_attaches_nothing(layout, image, plan, tmp_path):
    """A key that is missing or none is refused before anything is attached."""
    (tmp_path / "nonsense").write_text("nonsense")
    with pytest.raises(InvalidInput):
        attach_documents(layout, image, plan, key=tmp_path / "nonsense")
    with pytest.raises(NotFound):
        attach_documents(layout, image, plan, key=tmp_path / "absent")
    assert layout.attachments(image.digest) == ()


class _Shelf:
    """Wheels in one directory, unchecked: the pins of this file are made up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, pin):
        return self.directory / pin.filename

    def fetch(self, pins, *, base, platform, on_progress):
        """Everything is here."""


def test_wheels_tell_their_licence(layout, image, plan, tmp_path):
    """Licences and needs in the bill of materials come from the wheels themselves."""
    for name in ("joblib", "mendel"):
        with zipfile.ZipFile(tmp_path / f"{name}-1.0.whl", "w") as wheel:
            wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nLicense: of {name}\nRequires-Dist: joblib")
            wheel.writestr(f"{name}/vendored/x.dist-info/METADATA", "License: wrong")
    wheels = read_wheel_facts(plan, _Shelf(tmp_path))
    sbom = attach_documents(layout, image, plan, wheels=wheels)[0]
    told = json.loads(layout.read(layout.manifest(sbom.digest).layers[0].digest))
    licences = {part["name"]: part["licenses"] for part in told["components"] if "licenses" in part}
    assert licences == {name: [{"license": {"name": f"of {name}"}}] for name in ("joblib", "mendel")}
    (tmp_path / "joblib-1.0.whl").write_bytes(b"no zip")
    with pytest.raises(Corrupt, match="joblib"):
        read_wheel_facts(plan, _Shelf(tmp_path))
