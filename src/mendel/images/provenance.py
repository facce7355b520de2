"""How an image came to be: SLSA provenance v1 as an in-toto statement."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from mendel.images.attestations import CYCLONEDX, BuildOrigin, Subject, render_statement, subject_name
from mendel.images.entities import ImagePlan
from mendel.images.lockfile import BUILDER_FORMAT, LOCK_FILE, WheelPin
from mendel.images.sbom import base_purl
from mendel.images.wheel_metadata import normalized_name
from mendel.values import Digest, to_json

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:mendel:build:oci-image:1"
"""Inputs that ``resolvedDependencies`` lists are all there is; the same ones give the same image."""

BUILDER_ID = "urn:mendel:builder"
"""Followed by who turned the plan into an image: ``:oci`` is Mendel itself, ``:podman`` an engine of another vendor."""

_FULL_COMMIT = 40


def render_provenance(
    plan: ImagePlan, *, image: Digest, origin: BuildOrigin | None = None, sbom: bytes | None = None
) -> bytes:
    """
    The provenance of the image that *plan* made, as canonical JSON: equal arguments, equal bytes.

    Neither machine nor time of the build stand in it, so that whoever builds the image again gets the same statement;
    the invocation is named by the digest of what was asked and what went in.

    Args:
        image: Digest of its manifest, the subject.
        origin: Where its files come from; by default what the labels tell.
        sbom: The bill of materials; its digest stands among the by-products, so that a signature covers it.
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
    wheels = sorted(plan.environment.wheels, key=lambda pin: pin.name)
    return [
        *_source(origin),
        {"name": "files", "digest": {"sha256": hashlib.sha256(plan.manifest).hexdigest()}},
        *([] if origin.lock is None else [{"name": LOCK_FILE, "digest": {"sha256": origin.lock.hex}}]),
        {"name": "base", "uri": base_purl(base), "digest": {"sha256": base.digest.hex}},
        {**_wheel(plan.runtime.wheel), "name": "runtime"},
        *(_wheel(pin) for pin in wheels),
    ]


def _source(origin: BuildOrigin) -> list[dict[str, Any]]:
    """The repository at its commit; an abbreviated commit is no digest, and is said beside."""
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
