"""Write the bill of materials (SBOM) of an image: CycloneDX 1.6, with a model card."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from mendel.images.attestations import BuildOrigin, subject_name
from mendel.images.entities import APP, VENV, ImagePlan, SourceFile, Venv
from mendel.images.lockfile import BasePin, WheelPin
from mendel.images.wheel_metadata import WheelFacts, normalized_name
from mendel.values import Digest, Signature, VersionRef, to_json

_SPEC_VERSION = "1.6"
_NOTHING_KNOWN = WheelFacts()
_LOCAL = re.compile(r"oci(?:-archive)?:(?P<path>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomModelFacts:
    """
    Facts about the model in an image; for the image of a registered version they come from the registry.

    Attributes:
        task: ``classification``, ``regression``, ...
        metrics: The metrics that were registered with the version.
        version: The registered version in the image; None for other images.
    """

    task: str | None = None
    signature: Signature | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    version: VersionRef | None = None
    description: str = ""


def render_sbom(
    plan: ImagePlan,
    *,
    image: Digest,
    origin: BuildOrigin | None = None,
    model: SbomModelFacts | None = None,
    wheels: Mapping[str, WheelFacts] | None = None,
) -> bytes:
    """
    Write the bill of materials of the image that *plan* made, as canonical JSON: equal arguments give equal bytes.

    Args:
        image: The digest of the image's manifest.
        origin: The repository, commit and lock of the build; by default read from the plan's labels.
        model: Facts about the model other than its files.
        wheels: The metadata of each wheel by file name; a wheel without metadata gets no licence and no dependencies.
    """
    whole: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC_VERSION,
        "version": 1,
        "metadata": _metadata(plan, image),
        "components": _components(plan, origin or BuildOrigin.of(plan), model or SbomModelFacts(), wheels or {}),
        "dependencies": _dependencies(plan, image, wheels or {}),
    }
    whole["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, to_json(whole).decode()).urn
    return to_json(whole)


def base_purl(base: BasePin) -> str:
    """Name the base image as a package URL; a local layout or archive is named by its last path part and digest."""
    name, in_registry = _base_name(base)
    return _oci_purl(name, base.digest, registry=in_registry)


def _metadata(plan: ImagePlan, image: Digest) -> dict[str, Any]:
    tool, name = plan.labels.get("com.mlserver.version", plan.runtime.version), subject_name(plan)
    return {
        "timestamp": plan.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycles": [{"phase": "build"}],
        "tools": {"components": [{"type": "application", "name": "mendel", "version": tool}]},
        "component": {
            "type": "container",
            "bom-ref": _image_ref(image),
            "name": name,
            "version": plan.labels.get("com.classifier.version", str(image)),
            "purl": _oci_purl(name, image, registry=False),
            "hashes": _hashes(image),
            "properties": [{"name": "mendel:platform", "value": plan.environment.platform}],
        },
    }


def _components(
    plan: ImagePlan, origin: BuildOrigin, model: SbomModelFacts, wheels: Mapping[str, WheelFacts]
) -> list[dict[str, Any]]:
    found = {_wheel_ref(pin, venv): (pin, venv) for venv in plan.venvs for pin in venv.wheels}
    return [
        _base(plan.environment.base),
        *(_wheel(*found[ref], wheels.get(found[ref][0].filename, _NOTHING_KNOWN)) for ref in sorted(found)),
        _model(plan, origin, model),
    ]


def _dependencies(plan: ImagePlan, image: Digest, wheels: Mapping[str, WheelFacts]) -> list[dict[str, Any]]:
    needed = [_needed(venv, wheels) for venv in plan.venvs]
    base, model = _base_ref(plan.environment.base), _model_ref(plan)
    every = {ref: needs for part in needed for ref, needs in part.items()}
    graph = {_image_ref(image): sorted([base, model, *every]), base: [], model: sorted(needed[-1]), **every}
    return [{"ref": ref, "dependsOn": graph[ref]} for ref in sorted(graph)]


def _needed(venv: Venv, wheels: Mapping[str, WheelFacts]) -> dict[str, list[str]]:
    """Give the wheels that each wheel of *venv* requires, as references."""
    by_name = {normalized_name(pin.name): _wheel_ref(pin, venv) for pin in venv.wheels}
    return {
        _wheel_ref(pin, venv): sorted(
            by_name[name] for name in wheels.get(pin.filename, _NOTHING_KNOWN).requires if name in by_name
        )
        for pin in venv.wheels
    }


def _base(base: BasePin) -> dict[str, Any]:
    name, _ = _base_name(base)
    return {
        "type": "container",
        "bom-ref": _base_ref(base),
        "name": name,
        "version": str(base.digest),
        "purl": base_purl(base),
        "hashes": _hashes(base.digest),
        "properties": [{"name": "mendel:python", "value": base.python}, {"name": "mendel:glibc", "value": base.glibc}],
    }


def _wheel(pin: WheelPin, venv: Venv, facts: WheelFacts) -> dict[str, Any]:
    place = [] if venv.directory == VENV else [{"name": "mendel:environment", "value": str(venv.directory)}]
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _wheel_ref(pin, venv),
        "name": pin.name,
        "version": pin.version,
        "purl": _wheel_purl(pin),
        "hashes": _hashes(pin.sha256),
        "properties": [{"name": "mendel:wheel", "value": pin.filename}, *place],
    }
    if facts.licence is not None:
        entry = {"expression": facts.licence} if facts.is_expression else {"license": {"name": facts.licence}}
        component["licenses"] = [entry]
    return component


def _model(plan: ImagePlan, origin: BuildOrigin, model: SbomModelFacts) -> dict[str, Any]:
    properties = {
        "mendel:release": origin.tag,
        "mendel:commit": origin.commit,
        "mendel:lock": origin.lock,
        "mendel:version": None if model.version is None else str(model.version),
    }
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _model_ref(plan),
        "name": plan.classifier,
        "version": plan.labels.get("com.classifier.version", "untagged"),
        "modelCard": _card(model),
        "components": [
            _file(file, part)
            for part, files in (("artifacts", plan.artifacts), ("code", plan.code))
            for file in sorted(files, key=lambda file: file.path)
        ],
        "properties": [{"name": name, "value": str(value)} for name, value in properties.items() if value is not None],
    }
    if model.description:
        component["description"] = model.description
    if origin.repository is not None:
        component["externalReferences"] = [{"type": "vcs", "url": origin.repository}]
    return component


def _card(model: SbomModelFacts) -> dict[str, Any]:
    parameters: dict[str, Any] = {} if model.task is None else {"task": model.task}
    if model.signature is not None:
        parameters["inputs"] = _formats(model.signature.inputs_text)
        if model.signature.outputs_text is not None:
            parameters["outputs"] = _formats(model.signature.outputs_text)
    metrics = [{"type": name, "value": repr(float(value))} for name, value in sorted(model.metrics.items())]
    return {
        "modelParameters": parameters,
        **({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}),
        "considerations": {},
    }


def _formats(mlflow_schema: str) -> list[dict[str, str]]:
    """Write each column of an MLflow schema as one text: ``age: double``."""
    return [{"format": ": ".join(filter(None, (each.get("name"), _kind(each))))} for each in json.loads(mlflow_schema)]


def _kind(column: Mapping[str, Any]) -> str:
    spec = column.get("tensor-spec")
    kind = str(column["type"]) if spec is None else f"tensor of {spec.get('dtype')}, shape {spec.get('shape')}"
    return kind if column.get("required", True) else f"{kind} (optional)"


def _file(file: SourceFile, part: str) -> dict[str, Any]:
    path = str(APP / file.path)
    return {
        "type": "file",
        "bom-ref": f"file:{quote(path)}",
        "name": path,
        "hashes": _hashes(file.digest),
        "properties": [
            {"name": "mendel:part", "value": part},
            {"name": "mendel:size_bytes", "value": str(file.size_bytes)},
        ],
    }


def _hashes(digest: Digest) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.hex}]


def _image_ref(image: Digest) -> str:
    return f"image:{image}"


def _base_ref(base: BasePin) -> str:
    return f"base:{base.digest}"


def _model_ref(plan: ImagePlan) -> str:
    return f"model:{plan.classifier}"


def _wheel_ref(pin: WheelPin, venv: Venv) -> str:
    """Name a wheel in its environment: both environments of an image may have the same distribution."""
    return _wheel_purl(pin) if venv.directory == VENV else f"{venv.directory.name}:{_wheel_purl(pin)}"


def _wheel_purl(pin: WheelPin) -> str:
    return f"pkg:pypi/{normalized_name(pin.name)}@{quote(pin.version, safe='')}"


def _base_name(base: BasePin) -> tuple[str, bool]:
    """Give the base's name without tag, and whether it is in a registry; of a local path only the last part."""
    local = _LOCAL.fullmatch(base.reference)
    if local is not None:
        return local["path"].rstrip("/").rpartition("/")[2].partition(":")[0] or "base", False
    name = base.reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}", True


def _oci_purl(name: str, digest: Digest, *, registry: bool) -> str:
    last = name.rpartition("/")[2].lower()
    where = f"?repository_url={quote(name, safe='/')}" if registry else ""
    return f"pkg:oci/{quote(last)}@{quote(str(digest), safe='')}{where}"
