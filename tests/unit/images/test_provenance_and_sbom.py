import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from mendel.images import (
    BasePin,
    BuildOrigin,
    Environment,
    ImageName,
    ImagePlan,
    RunSettings,
    RuntimePin,
    SbomModelFacts,
    SourceFile,
    WheelFacts,
    WheelPin,
    render_provenance,
    render_sbom,
)
from mendel.values import ColumnSpec, ColumnType, Digest, Signature, VersionRef

IMAGE = Digest(f"sha256:{'1' * 64}")
COMMIT = "7970dfd5" * 5


def _digest(letter):
    return Digest(f"sha256:{letter * 64}")


def _wheel(name, version, letter):
    file = f"{name}-{version}-py3-none-any.whl"
    return WheelPin(name=name, version=version, filename=file, sha256=_digest(letter), size_bytes=10)


def _file(path, letter):
    return SourceFile(path=path, source=Path("/nowhere") / path, size_bytes=3, digest=_digest(letter))


@pytest.fixture
def plan():
    base = BasePin(
        reference="docker.io/library/python:3.11-slim",
        digest=_digest("b"),
        python="3.11",
        interpreter="/usr/local/bin/python3.11",
        glibc="2.36",
    )
    environment = Environment(
        classifiers=("credit",),
        platform="linux/amd64",
        inputs=_digest("e"),
        requirements=("scikit-learn>=1.6",),
        base=base,
        wheels=(_wheel("joblib", "1.4", "c"), _wheel("scikit_learn", "1.6.0+local", "d")),
    )
    runtime = RuntimePin(version="0.1.0", commit=None, url=None, how="installed", wheel=_wheel("mendel", "0.1.0", "f"))
    return ImagePlan(
        classifier="credit",
        name=ImageName(repository="risk", classifier="credit"),
        tags=("latest", "v1.2.0"),
        labels={
            "com.classifier.git_tag": "credit-v1.2.0-mlserver-762e7f2",
            "com.classifier.version": "1.2.0",
            "com.classifier.git_commit": COMMIT[:8],
            "com.classifier.git_url": "https://example.org/risk",
            "com.mlserver.version": "0.1.0",
        },
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        environment=environment,
        runtime=runtime,
        artifacts=(_file("models/a b.joblib", "2"),),
        code=(_file("predictor.py", "3"),),
        manifest=b"{}",
        run=RunSettings(command=("python",), environment={}, ports=(8000,), healthcheck=("true",)),
    )


@pytest.fixture
def facts():
    signature = Signature.of_columns(
        (
            ColumnSpec(name="age", type=ColumnType.DOUBLE),
            ColumnSpec(name="city", type=ColumnType.STRING, required=False),
        ),
        output=ColumnType.LONG,
    )
    return SbomModelFacts(
        task="classification", signature=signature, metrics={"f1": 0.8}, version=VersionRef.parse("credit@3")
    )


WHEELS = {
    "joblib-1.4-py3-none-any.whl": WheelFacts(licence="BSD-3-Clause", is_expression=True),
    "scikit_learn-1.6.0+local-py3-none-any.whl": WheelFacts(licence="new BSD", requires=("joblib", "numpy")),
}


def test_sbom_is_valid(plan, facts):
    """The bill of materials passes the strict validator of CycloneDX 1.6, with everything known and with nothing."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - two seconds, and every worker imports this file
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - as above

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(render_sbom(plan, image=IMAGE, model=facts, wheels=WHEELS).decode()) is None
    bare = replace(plan, labels={}, artifacts=(), code=(), environment=replace(plan.environment, wheels=()))
    assert validator.validate_str(render_sbom(bare, image=IMAGE).decode()) is None


def test_sbom_lists_what_is_in_the_image(plan, facts):
    """Base, every wheel with hash and licence, the runtime, the model with its card and its files stand in it."""
    sbom = json.loads(render_sbom(plan, image=IMAGE, model=facts, wheels=WHEELS))
    parts = {part["bom-ref"]: part for part in sbom["components"]}
    sklearn = parts["pkg:pypi/scikit-learn@1.6.0%2Blocal"]
    assert sklearn["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    assert sklearn["licenses"] == [{"license": {"name": "new BSD"}}]
    assert parts["pkg:pypi/joblib@1.4"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert "licenses" not in parts["pkg:pypi/mendel@0.1.0"]
    base = parts[f"base:{_digest('b')}"]
    expected = f"pkg:oci/python@sha256%3A{'b' * 64}?repository_url=docker.io/library/python"
    assert (base["type"], base["purl"]) == ("container", expected)
    model = parts["model:credit"]
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["modelParameters"] == {
        "task": "classification",
        "inputs": [{"format": "age: double"}, {"format": "city: string (optional)"}],
        "outputs": [{"format": "long"}],
    }
    assert model["modelCard"]["quantitativeAnalysis"] == {"performanceMetrics": [{"type": "f1", "value": "0.8"}]}
    assert {"name": "mendel:version", "value": "credit@3"} in model["properties"]
    assert [file["name"] for file in model["components"]] == ["/app/models/a b.joblib", "/app/predictor.py"]


def test_sbom_tells_two_environments_apart(plan):
    """A distribution that both have is listed twice, with where the project's is; the model needs the project's."""
    project = (_wheel("joblib", "1.4", "9"), _wheel("numpy", "1.22", "8"))
    plan = replace(plan, environment=replace(plan.environment, project=project))
    sbom = json.loads(render_sbom(plan, image=IMAGE, wheels=WHEELS))
    parts = {part["bom-ref"]: part for part in sbom["components"]}
    both = [parts[ref] for ref in ("pkg:pypi/joblib@1.4", "project:pkg:pypi/joblib@1.4")]
    assert [part["hashes"][0]["content"][0] for part in both] == ["c", "9"]
    assert {"name": "mendel:environment", "value": "/opt/project"} in both[1]["properties"]
    graph = {entry["ref"]: entry["dependsOn"] for entry in sbom["dependencies"]}
    assert graph["model:credit"] == ["project:pkg:pypi/joblib@1.4", "project:pkg:pypi/numpy@1.22"]
    assert set(graph) - {sbom["metadata"]["component"]["bom-ref"]} == set(parts)


def test_sbom_graph_is_closed(plan):
    """Every reference of the dependency graph is a component; what a wheel asks for and the image lacks is left out."""
    sbom = json.loads(render_sbom(plan, image=IMAGE, wheels=WHEELS))
    known = {part["bom-ref"] for part in sbom["components"]} | {sbom["metadata"]["component"]["bom-ref"]}
    graph = {entry["ref"]: entry["dependsOn"] for entry in sbom["dependencies"]}
    assert set(graph) == known
    assert {ref for needs in graph.values() for ref in needs} < known
    assert graph["pkg:pypi/scikit-learn@1.6.0%2Blocal"] == ["pkg:pypi/joblib@1.4"]


@pytest.mark.parametrize("reference", ["oci:/home/somebody/base:min", "oci-archive:/home/somebody/base.tar"])
def test_documents_keep_local_paths_to_themselves(plan, reference):
    """A base from a local layout or archive is called by its last part: no path of the machine stands in the bytes."""
    base = replace(plan.environment.base, reference=reference)
    local = replace(plan, environment=replace(plan.environment, base=base))
    for document in (render_sbom(local, image=IMAGE), render_provenance(local, image=IMAGE)):
        assert b"somebody" not in document
        assert b"pkg:oci/base" in document


def test_documents_are_deterministic(plan, facts):
    """Equal plans give equal bytes wherever the image is pushed; another wheel gives another serial number."""
    elsewhere = replace(plan, name=replace(plan.name, registry="ghcr.io/acme", prefix="ml"))
    first = render_sbom(plan, image=IMAGE, model=facts, wheels=WHEELS)
    assert render_sbom(elsewhere, image=IMAGE, model=facts, wheels=dict(reversed(WHEELS.items()))) == first
    assert render_provenance(elsewhere, image=IMAGE) == render_provenance(plan, image=IMAGE)
    other = replace(plan, environment=replace(plan.environment, wheels=plan.environment.wheels[:1]))
    assert json.loads(render_sbom(other, image=IMAGE))["serialNumber"] != json.loads(first)["serialNumber"]


def test_provenance_lists_every_input(plan):
    """Source at its full commit, lock, files, base, runtime and every wheel are resolved dependencies with digests."""
    origin = BuildOrigin(
        repository="https://example.org/risk", commit=COMMIT, tag="credit-v1.2.0-mlserver-762e7f2", lock=_digest("9")
    )
    statement = json.loads(render_provenance(plan, image=IMAGE, origin=origin, sbom=b"bom"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "risk/credit", "digest": {"sha256": IMAGE.hex}}]
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"] == {
        "classifier": "credit",
        "source": {"tag": "credit-v1.2.0-mlserver-762e7f2"},
        "platform": "linux/amd64",
    }
    inputs = {one["name"]: one for one in build["resolvedDependencies"]}
    assert inputs["source"] == {
        "name": "source",
        "uri": f"git+https://example.org/risk@{COMMIT}",
        "digest": {"gitCommit": COMMIT},
    }
    assert inputs["mlserver.lock"]["digest"] == {"sha256": "9" * 64}
    assert inputs["files"]["digest"] == {"sha256": hashlib.sha256(plan.manifest).hexdigest()}
    assert inputs["base"]["digest"] == {"sha256": "b" * 64}
    assert inputs["runtime"]["uri"] == "pkg:pypi/mendel@0.1.0"
    assert inputs["joblib-1.4-py3-none-any.whl"]["digest"] == {"sha256": "c" * 64}
    run = statement["predicate"]["runDetails"]
    assert run["byproducts"][0]["digest"] == {"sha256": hashlib.sha256(b"bom").hexdigest()}
    assert set(run["metadata"]) == {"invocationId"}  # when and where it was built would differ between rebuilds


def test_provenance_conforms_to_in_toto(plan):
    """The statement is one for the reference implementation of in-toto attestations."""
    statement = json.loads(render_provenance(plan, image=IMAGE, sbom=b"bom"))
    json_format.ParseDict(statement["predicate"], Provenance())
    Statement.copy_from_pb(json_format.ParseDict(statement, StatementMessage())).validate()


def test_provenance_of_a_working_tree(plan):
    """Without a tag the provenance says that a working tree was built, and an abbreviated commit is no digest."""
    labels = {name: value for name, value in plan.labels.items() if name != "com.classifier.git_tag"}
    statement = json.loads(render_provenance(replace(plan, labels=labels), image=IMAGE))
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["source"] == {"workingTree": True}
    source = build["resolvedDependencies"][0]
    assert "digest" not in source
    assert source["annotations"] == {"commit": COMMIT[:8]}


def test_origin_of_a_plan(plan):
    """A release's commit stands in full in the manifest, the lock in a label; both reach the provenance unasked."""
    manifest = json.dumps({"format": 1, "release": {"commit": COMMIT, "tag": "t"}}).encode()
    told = replace(plan, manifest=manifest, labels={**plan.labels, "com.mendel.lock": _digest("9")})
    origin = BuildOrigin.of(told)
    assert (origin.commit, origin.lock) == (COMMIT, _digest("9"))
    assert render_provenance(told, image=IMAGE) == render_provenance(told, image=IMAGE, origin=origin)
    assert BuildOrigin.of(replace(plan, manifest=b'{"release":null}')).commit == COMMIT[:8]


def test_provenance_names_the_builder_and_the_version_inside(plan):
    """An image that an engine built says so, and one made of a registered version names it as what was asked."""
    artifact = _digest("4")
    labels = {"com.mendel.builder": "podman", "com.mendel.model": "credit@3", "com.mendel.model.artifact": artifact}
    predicate = json.loads(render_provenance(replace(plan, labels=labels), image=IMAGE))["predicate"]
    assert predicate["runDetails"]["builder"]["id"] == "urn:mendel:builder:podman"
    asked = predicate["buildDefinition"]["externalParameters"]
    assert asked["model"] == {"version": "credit@3", "artifact": artifact}


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: Apache-2.0 OR MIT\nLicense: x\n", "Apache-2.0 OR MIT"),
        ("License: BSD\n", "BSD"),
        (f"License: {'whole text ' * 20}\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("Name: x\n", None),
    ],
)
def test_licence_of_a_wheel(metadata, licence):
    """A licence is the SPDX expression, else the short field, else the classifier, else unknown."""
    assert WheelFacts.parse(metadata).licence == licence


def test_extras_are_no_requirements():
    """What a wheel needs only for an extra is not counted."""
    metadata = "Requires-Dist: numpy (>=1.2)\nRequires-Dist: pytest; extra == 'test'\n"
    assert WheelFacts.parse(metadata).requires == ("numpy",)
