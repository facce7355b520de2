"""Write the provenance of an image: SLSA provenance v1 as an in-toto statement."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from mendel.images.attestations import CYCLONEDX, BuildOrigin, Subject, render_statement, subject_name
from mendel.images.entities import ImagePlan
from mendel.images.file_names import LOCK_FILE
from mendel.images.lockfile import BUILDER_FORMAT, WheelPin
from mendel.images.sbom import base_purl
from mendel.images.wheel_metadata import normalized_name
from mendel.values import Digest, to_json

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:mendel:build:oci-image:1"
"""The build type of Mendel's images; ``resolvedDependencies`` lists all inputs, and equal inputs give equal images."""

BUILDER_ID = "urn:mendel:builder"
"""The prefix of a builder's id; the builder's name follows: ``:oci`` for Mendel itself, ``:podman`` for podman."""

_FULL_COMMIT = 40


def render_provenance(
    plan: ImagePlan, *, image: Digest, origin: BuildOrigin | None = None, sbom: bytes | None = None
) -> bytes:
    """
    Write the provenance of the image that *plan* made, as canonical JSON: equal arguments give equal bytes.

    The statement names neither the machine nor the time of the build, so that a rebuild gives the same statement. The
    invocation id is the digest of the build's parameters and inputs.

    Args:
        image: The digest of the image's manifest, the statement's subject.
        origin: The repository, commit and lock of the build; by default read from the plan's labels.
        sbom: The bill of materials; the by-products contain its digest, so that a signature covers it.
    """
    definition = _definition(plan, origin or BuildOrigin.of(plan))
    details: dict[str, Any] = {
        "builder": _builder(plan),
        "metadata": {"invocationId": f"sha256:{hashlib.sha256(to_json(definition)).hexdigest()}"},
    }
    if sbom is not None:
        digest = {"sha256": hashlib.sha256(sbom).hexdigest()}
        details["byproducts"] = [{"name": "sbom", "mediaType": CYCLONEDX, "digest": digest}]
    return render_statement(
        [Subject(name=subject_name(plan), digest=image)],
        predicate_type=PROVENANCE_TYPE,
        predicate={"buildDefinition": definition, "runDetails": details},
    )


def _builder(plan: ImagePlan) -> dict[str, Any]:
    name, _, revision = plan.labels.get("com.mendel.builder", "oci").partition("/")
    told = {
        "format": revision or str(BUILDER_FORMAT),
        "mendel": plan.labels.get("com.mlserver.version"),
        "commit": plan.labels.get("com.mlserver.commit"),
    }
    return {"id": f"{BUILDER_ID}:{name}", "version": {key: value for key, value in told.items() if value is not None}}


def _definition(plan: ImagePlan, origin: BuildOrigin) -> dict[str, Any]:
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "classifier": plan.classifier,
            "source": {"workingTree": True} if origin.tag is None else {"tag": origin.tag},
            "platform": plan.environment.platform,
            **_registered_version(plan),
        },
        "internalParameters": {"requirements": list(plan.environment.requirements)},
        "resolvedDependencies": _dependencies(plan, origin),
    }


def _registered_version(plan: ImagePlan) -> dict[str, Any]:
    version, artifact = plan.labels.get("com.mendel.model"), plan.labels.get("com.mendel.model.artifact")
    return {} if version is None else {"model": {"version": version, "artifact": artifact}}


def _dependencies(plan: ImagePlan, origin: BuildOrigin) -> list[dict[str, Any]]:
    base = plan.environment.base
    wheels = sorted(plan.environment.every_wheel, key=lambda pin: (pin.name, pin.filename))
    return [
        *_source(origin),
        {"name": "files", "digest": {"sha256": hashlib.sha256(plan.manifest).hexdigest()}},
        *([] if origin.lock is None else [{"name": LOCK_FILE, "digest": {"sha256": origin.lock.hex}}]),
        {"name": "base", "uri": base_purl(base), "digest": {"sha256": base.digest.hex}},
        {**_wheel(plan.runtime.wheel), "name": "runtime"},
        *(_wheel(pin) for pin in wheels),
    ]


def _source(origin: BuildOrigin) -> list[dict[str, Any]]:
    """Name the repository and commit; an abbreviated commit is written as an annotation, because it is no digest."""
    if origin.repository is None and origin.commit is None:
        return []
    entry: dict[str, Any] = {"name": "source"}
    if origin.repository is not None:
        entry["uri"] = f"git+{origin.repository}" + (f"@{origin.commit}" if origin.commit else "")
    if origin.commit is not None and len(origin.commit) == _FULL_COMMIT:
        entry["digest"] = {"gitCommit": origin.commit}
    elif origin.commit is not None:
        entry["annotations"] = {"commit": origin.commit}
    return [entry]


def _wheel(pin: WheelPin) -> dict[str, Any]:
    return {
        "name": pin.filename,
        "uri": f"pkg:pypi/{normalized_name(pin.name)}@{quote(pin.version, safe='')}",
        "digest": {"sha256": pin.sha256.hex},
    }
