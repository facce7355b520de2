"""Checks of the health and metadata endpoints over REST."""

from __future__ import annotations

from mendel.conformance.outcomes import NotOffered, Violation, expect, shown
from mendel.conformance.rest_server import Reply, RestServer, request


def server_live(server: RestServer) -> str:
    """Expect that the server is live."""
    return _healthy(server.get("/v2/health/live"), "live")


def server_ready(server: RestServer) -> str:
    """Expect that the server is ready."""
    return _healthy(server.get("/v2/health/ready"), "ready", "live")


def model_ready(server: RestServer) -> str:
    """Expect that the model is ready."""
    reply = server.get(f"{server.path}/ready")
    remark = _healthy(reply, "ready")
    if reply.body and "name" in _object_or_nothing(reply):
        expect(reply.object["name"] == server.model, f"The answer names another model: {reply}")
    return remark


def server_metadata(server: RestServer) -> str:
    """Expect name, version and extensions of the server."""
    reply = server.get("/v2")
    expect(reply.ok, str(reply))
    document = reply.object
    for key in ("name", "version"):
        expect(isinstance(document.get(key), str), f"The server metadata has no text {key!r}: {reply.text}")
    extensions = document.get("extensions")
    expect(_are_texts(extensions), f"The extensions are not a list of texts: {shown(extensions)}")
    return f"{shown(document['name'])} {shown(document['version'])}, extensions {shown(extensions)}"


def model_metadata(server: RestServer) -> str:
    """Expect name and platform of the model, and versions as a list of texts if the server gives any."""
    reply = server.get(server.path)
    expect(reply.ok, str(reply))
    document = reply.object
    expect(document.get("name") == server.model, f"The metadata has the name {shown(document.get('name'))}.")
    expect(isinstance(document.get("platform"), str), f"The metadata has no text 'platform': {reply.text}")
    versions = document.get("versions")
    expect(versions is None or _are_texts(versions), f"The versions are not a list of texts: {shown(versions)}")
    return f"platform {shown(document['platform'])}, versions {shown(versions)}"


def model_versions(server: RestServer) -> str:
    """Expect that every announced version can be asked for by its path."""
    versions = server.versions()
    if not versions:
        raise NotOffered("The model announces no versions.")
    for version in versions[:8]:
        path = server.path_of(server.model, version)
        for asked in (path, f"{path}/ready"):
            reply = server.get(asked)
            expect(reply.ok, f"Version {shown(version)} is announced, but {reply}")
        reply = server.post(f"{path}/infer", request(server.sample().inputs))
        expect(reply.ok, f"Version {shown(version)} is announced, but {reply}")
        stated = reply.object.get("model_version")
        expect(stated in {None, version}, f"{reply.asked} was answered by version {shown(stated)}.")
    return f"versions {shown(list(versions[:8]))}"


def _healthy(reply: Reply, *keys: str) -> str:
    """Expect status 200 and, if the body is an object with one of the *keys*, that the value is true."""
    expect(reply.ok, str(reply))
    document = _object_or_nothing(reply)
    for key in keys:
        if key in document:
            expect(document[key] is True, str(reply))
            return f"200 with {key}: true"
    return "200, without the object of the specification"


def _object_or_nothing(reply: Reply) -> dict[str, object]:
    try:
        return reply.object
    except Violation:
        return {}


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
