"""A registry that does its worst: refuses, stalls, lies, drops, redirects. It is a real server in a thread."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.client import RegistryClients
from mendel.adapters.oci.registry.credentials import IdentityToken, Keychain, Login
from mendel.adapters.oci.registry.pull import RegistryImages, pull
from mendel.adapters.oci.registry.push import list_tags, publish, read_attachment, remote_attachments
from mendel.adapters.oci.registry.session import RegistrySettings
from mendel.errors import (
    Corrupt,
    DigestMismatch,
    Forbidden,
    ImageNotFound,
    MendelError,
    RegistryUnavailable,
    TooLarge,
    Unauthenticated,
    Unsupported,
)
from mendel.images import Platform, TaskProgress, ignore_progress
from mendel.images.manifests import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.images.references import ImageReference
from mendel.values import Digest

AMD = Platform.parse("linux/amd64")
SECRET = "s3cr3t-peas"
LAYER_BYTES = os.urandom(3 << 20)


class Registry(ThreadingHTTPServer):
    """
    An honest registry in memory, whose ``fault`` is asked first at every request.

    A fault answers or breaks the request itself and says True, or says False and lets it pass.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.host = f"localhost:{self.server_port}"
        self.blobs: dict[str, bytes] = {}
        self.documents: dict[str, tuple[bytes, str]] = {}
        self.tags: dict[str, str] = {}
        self.uploads: dict[str, bytearray] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.fault: Callable[[Desk], bool] = lambda _: False
        self.received = 0
        self.lists_referrers = False
        self.resumes = True
        self.auth = ""
        self.tokens: set[str] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are the point."""

    def count(self, method: str, pattern: str) -> int:
        """How many requests of *method* had a path like *pattern*."""
        return sum(1 for seen, path, _ in self.seen if seen == method and re.search(pattern, path))

    def receive(self, name: str, piece: bytes) -> None:
        """A piece of an upload."""
        self.uploads[name] += piece
        self.received += len(piece)

    def holds(self, *contents: bytes, **tags: bytes) -> None:
        """Put blobs, and manifests under tags."""
        for content in contents:
            self.blobs[digest(content)] = content
        for tag, content in tags.items():
            media_type = json.loads(content).get("mediaType", MANIFEST)
            self.documents[digest(content)] = (content, media_type)
            self.tags[tag] = digest(content)


class Desk(BaseHTTPRequestHandler):
    """One connection to the registry."""

    protocol_version = "HTTP/1.1"
    server: Registry
    timeout = 10
    METHODS: ClassVar = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def serve(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.server.fault(self):
            return
        if self.path.startswith("/token"):
            self.give_token()
        elif self.is_let_in():
            place, _, selector = self.path.removeprefix("/v2/a/b/").partition("/")
            if selector.startswith("uploads/"):
                self.upload()
            elif place in {"blobs", "manifests", "referrers"}:
                {"blobs": self.blob, "manifests": self.document, "referrers": self.referrers}[place](selector)
            else:
                self.answer(200, b"{}")

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.read_body()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def read_body(self, most: int | None = None) -> bytes:
        if not hasattr(self, "_left") or self._of is not self.headers:
            self._left, self._of = int(self.headers.get("Content-Length") or 0), self.headers
        content = self.rfile.read(self._left if most is None else min(most, self._left))
        self._left -= len(content)
        return content

    def drop(self) -> bool:
        """End the connection as a broken wire does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True
        return True

    def is_let_in(self) -> bool:
        shown = self.headers.get("Authorization", "")
        if self.server.auth == "basic":
            asked, let_in = 'Basic realm="peas"', shown == Login(user="mendel", password=SECRET).basic
        elif self.server.auth == "bearer":
            scope = "repository:a/b:pull,push"
            asked = f'Bearer realm="http://{self.server.host}/token",service="peas",scope="{scope}"'
            let_in = shown.removeprefix("Bearer ") in self.server.tokens
        else:
            return True
        if not let_in:
            self.answer(401, complaint("UNAUTHORIZED", f"not {shown}"), WWW_Authenticate=asked)
        return let_in

    def give_token(self) -> None:
        shown = self.headers.get("Authorization", "") + self.read_body().decode()
        if SECRET not in shown and Login(user="mendel", password=SECRET).basic not in shown:
            return self.answer(401, complaint("DENIED", f"who is {shown}"))
        token = f"token-{len(self.server.tokens)}-{random.random()}"
        self.server.tokens.add(token)
        return self.answer(200, json.dumps({"token": token}).encode())

    def blob(self, selector: str) -> None:
        content = self.server.blobs.get(selector)
        if content is None:
            return self.answer(404, complaint("BLOB_UNKNOWN", "no such blob"))
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        if start and self.server.resumes:
            return self.answer(206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
        return self.answer(200, content)

    def document(self, selector: str) -> None:
        if self.command == "PUT":
            content, media_type = self.read_body(), self.headers["Content-Type"]
            self.server.documents[digest(content)] = (content, media_type)
            self.server.tags[selector] = digest(content)
            own = {"OCI_Subject": "yes"} if self.server.lists_referrers and b"subject" in content else {}
            return self.answer(201, Docker_Content_Digest=digest(content), **own)
        found = self.server.documents.get(self.server.tags.get(selector, selector))
        if found is None:
            return self.answer(404, complaint("MANIFEST_UNKNOWN", "no such manifest"))
        return self.answer(200, found[0], Content_Type=found[1], Docker_Content_Digest=digest(found[0]))

    def referrers(self, subject: str) -> None:
        if not self.server.lists_referrers:
            return self.answer(404)
        trees = {name: json.loads(content) for name, (content, _) in self.server.documents.items()}
        found = [
            {"mediaType": MANIFEST, "digest": name, "size": 1, "artifactType": tree["artifactType"]}
            for name, tree in trees.items()
            if (tree.get("subject") or {}).get("digest") == subject
        ]
        return self.answer(200, json.dumps({"mediaType": INDEX, "manifests": found}).encode())

    def upload(self) -> None:
        name = self.path.removeprefix("/v2/a/b/blobs/uploads/").partition("?")[0]
        if self.command == "POST":
            name = str(len(self.server.uploads))
            self.server.uploads[name] = bytearray()
            return self.answer(202, Location=f"/v2/a/b/blobs/uploads/{name}")
        held = self.server.uploads.get(name)
        if held is None:
            return self.answer(404, complaint("BLOB_UPLOAD_UNKNOWN", "no such upload"))
        own = {"Location": f"/v2/a/b/blobs/uploads/{name}", "Range": f"0-{max(0, len(held) - 1)}"}
        if self.command == "GET":
            return self.answer(204, **own)
        while piece := self.read_body(64 << 10):
            self.server.receive(name, piece)
        if self.command == "PATCH":
            return self.answer(202, **own | {"Range": f"0-{len(held) - 1}"})
        wanted = self.path.rpartition("digest=")[2].replace("%3A", ":")
        del self.server.uploads[name]
        if digest(held) != wanted:
            return self.answer(400, complaint("DIGEST_INVALID", "not what was announced"))
        self.server.blobs[wanted] = bytes(held)
        return self.answer(201)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def complaint(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def image_of(*layers: bytes) -> tuple[bytes, bytes, Descriptor]:
    """Configuration and manifest of an image, and what points to it."""
    config = canonical_json({"os": "linux", "architecture": "amd64"})
    described = tuple(Descriptor.of(layer, LAYER) for layer in layers)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
    return config, manifest, Descriptor.of(manifest, MANIFEST)


@pytest.fixture
def evil() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def slept() -> list[float]:
    """Every wait, instead of waiting."""
    return []


@pytest.fixture
def registries(evil: Registry, slept: list[float]) -> Iterator[RegistryClients]:
    with client(evil, slept) as opened:
        yield opened


def client(evil: Registry, slept: list[float], keychain: Keychain | None = None, **settings: Any) -> RegistryClients:
    keychain = keychain or Keychain(given={evil.host: Login(user="mendel", password=SECRET)})
    settings = {"chunk_bytes": 1 << 30, **settings}
    return RegistryClients(
        keychain=keychain, settings=RegistrySettings(**settings), sleep=slept.append, rng=random.Random(0)
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def image(layout: Layout) -> Descriptor:
    """An image of one layer of 3 MiB in the layout."""
    config, manifest, image = image_of(LAYER_BYTES)
    for content in (LAYER_BYTES, config, manifest):
        layout.put(content)
    return image


def pulled(registries: RegistryClients, evil: Registry, layout: Layout, selector: str = ":v1") -> Descriptor:
    return pull(
        registries, ImageReference.parse(f"{evil.host}/a/b{selector}"), AMD, layout, on_progress=ignore_progress
    )


def stocked(evil: Registry, layer: bytes = LAYER_BYTES) -> Descriptor:
    """The registry holds an image under ``v1``."""
    config, manifest, image = image_of(layer)
    evil.holds(config, layer, v1=manifest)
    return image


def at(method: str, pattern: str, act: Callable[[Desk], bool], times: int = 10**9) -> Callable[[Desk], bool]:
    """A fault at the first *times* requests of that kind."""
    left = [times]

    def fault(desk: Desk) -> bool:
        if desk.command != method or not re.search(pattern, desk.path) or left[0] <= 0:
            return False
        left[0] -= 1
        return act(desk)

    return fault


def answering(status: int, content: bytes = b"", **headers: str) -> Callable[[Desk], bool]:
    def act(desk: Desk) -> bool:
        desk.answer(status, content, **headers)
        return True

    return act


def test_nobody_listens(layout: Layout, slept: list[float], evil: Registry) -> None:
    """A registry that refuses connections is asked as often as the policy says, with growing pauses, then named."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"localhost:{probe.getsockname()[1]}"
        with client(evil, slept) as registries, pytest.raises(RegistryUnavailable, match=f"{host} does not answer"):
            registries.at(host).resolve("a/b", "v1")
    assert 0.5 < sum(slept) < 10


def test_busy_and_then_well(evil: Registry, registries: RegistryClients, layout: Layout, slept: list[float]) -> None:
    """Statuses 500 to 504 and dropped connections are tried again."""
    image = stocked(evil)
    faults = iter([answering(500), answering(502), Desk.drop, answering(503)])

    def fail(desk: Desk) -> bool:
        return next(faults)(desk)

    evil.fault = at("GET", "manifests", fail, times=4)
    assert pulled(registries, evil, layout) == image
    assert len([wait for wait in slept if wait > 0]) >= 4


def test_busy_for_ever(evil: Registry, registries: RegistryClients, layout: Layout) -> None:
    """After the last attempt the registry's own words are given."""
    evil.fault = at("GET", "manifests", answering(503, complaint("UNAVAILABLE", "we are moving house")))
    with pytest.raises(RegistryUnavailable, match="503: we are moving house"):
        pulled(registries, evil, layout)
    assert evil.count("GET", "manifests") == 5


def test_retry_after_is_honoured(
    evil: Registry, registries: RegistryClients, layout: Layout, slept: list[float]
) -> None:
    """A wished pause is kept, in seconds or as a date by the registry's own clock."""
    stocked(evil)
    wishes = iter([{"Retry_After": "7"}, {"Retry_After": "Wed, 21 Oct 2099 07:28:30 GMT"}])

    def later(desk: Desk) -> bool:
        desk.date_time_string = lambda _=None: "Wed, 21 Oct 2099 07:28:00 GMT"  # type: ignore[method-assign]
        return answering(429, **next(wishes))(desk)

    evil.fault = at("GET", "manifests", later, times=2)
    pulled(registries, evil, layout)
    assert sum(slept) == pytest.approx(37, abs=0.01)


def test_retry_after_is_bounded(
    evil: Registry, registries: RegistryClients, layout: Layout, slept: list[float]
) -> None:
    """A registry that wishes for an hour is not waited for; the wish is passed on."""
    evil.fault = at("GET", "manifests", answering(429, complaint("TOOMANYREQUESTS", "slow down"), Retry_After="3600"))
    with pytest.raises(RegistryUnavailable, match="429: slow down") as refused:
        pulled(registries, evil, layout)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after.total_seconds() == 3600
    assert sum(slept) == 0


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_who_is_let_in(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor, auth: str
) -> None:
    """Basic and Bearer work; a token is fetched once for each scope, however many requests use it."""
    evil.auth = auth
    publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    assert evil.tags["v1"] == image.digest
    assert evil.count("GET", "^/token") == (2 if auth == "bearer" else 0)


def test_an_expired_token_is_renewed_once(evil: Registry, registries: RegistryClients) -> None:
    """A token that no longer counts is fetched anew, without the caller noticing."""
    image = stocked(evil)
    evil.auth = "bearer"
    registry = registries.at(evil.host)
    assert registry.resolve("a/b", "v1") == image.digest
    evil.tokens.clear()
    assert registry.resolve("a/b", "v1") == image.digest
    assert evil.count("GET", "^/token") == 2


def test_a_refresh_token_is_changed_into_tokens(evil: Registry, slept: list[float], tmp_path: Path) -> None:
    """An identity token is posted to the token endpoint and nowhere else."""
    stocked(evil)
    evil.auth = "bearer"
    (tmp_path / "c.json").write_text(json.dumps({"auths": {evil.host: {"identitytoken": SECRET}}}))
    keychain = Keychain([tmp_path / "c.json"])
    assert keychain.find(evil.host) == IdentityToken(token=SECRET)
    with client(evil, slept, keychain) as registries:
        assert registries.at(evil.host).resolve("a/b", "v1") is not None
    assert evil.count("POST", "^/token") == 1


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_loop_of_401_ends(evil: Registry, registries: RegistryClients, layout: Layout, auth: str) -> None:
    """A registry that never lets anybody in is asked twice, not for ever."""
    evil.auth = auth
    asked = f'Bearer realm="http://{evil.host}/token"' if auth == "bearer" else "Basic"
    evil.fault = at("GET", "manifests", answering(401, WWW_Authenticate=asked))
    with pytest.raises(Unauthenticated, match=r"rejected the user name.*docker login"):
        pulled(registries, evil, layout)
    assert evil.count("GET", "manifests") <= 2


def test_forbidden_says_why(evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor) -> None:
    """A refusal carries the registry's message, and no tag was set."""
    evil.fault = at("POST", "uploads", answering(403, complaint("DENIED", "quota of the project is spent")))
    with pytest.raises(Forbidden, match="quota of the project is spent"):
        publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    assert not evil.tags


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_secrets_stay_out_of_errors_and_logs(
    evil: Registry, registries: RegistryClients, caplog: pytest.LogCaptureFixture, auth: str
) -> None:
    """Even a registry that repeats what it was shown brings no password and no token into errors or logs."""
    evil.auth = auth
    caplog.set_level(logging.DEBUG)

    def parrot(desk: Desk) -> bool:
        shown = desk.headers.get("Authorization")
        return bool(shown) and answering(403, complaint("DENIED", f"you said {shown} and {SECRET}"))(desk)

    evil.fault = at("GET", "tags/list", parrot)
    with pytest.raises(Forbidden, match=r"you said .*\*\*\*") as refused:
        registries.at(evil.host).tags("a/b")
    basic = base64.b64encode(f"mendel:{SECRET}".encode()).decode()
    said = f"{refused.value!r}{refused.value.__cause__}{caplog.text}{registries!r}"
    assert not [secret for secret in (SECRET, basic, *evil.tokens) if secret in said]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_download_goes_on_after_drops(
    evil: Registry, registries: RegistryClients, layout: Layout, *, resumes: bool
) -> None:
    """A connection that breaks in the middle of a blob, again and again, costs only what is missing."""
    image = stocked(evil)
    evil.resumes = resumes

    def half(desk: Desk) -> bool:
        start = int(re.sub(r"\D", "", desk.headers.get("Range", "0"))) if resumes else 0
        rest = LAYER_BYTES[start:]
        span = {"Content_Range": f"bytes {start}-{len(LAYER_BYTES) - 1}/{len(LAYER_BYTES)}"} if start else {}
        desk.answer(206 if start else 200, rest[: len(rest) // 2], Content_Length=str(len(rest)), **span)
        return desk.drop()

    evil.fault = at("GET", digest(LAYER_BYTES), half, times=3)
    assert pulled(registries, evil, layout) == image
    assert layout.read(Digest(digest(LAYER_BYTES))) == LAYER_BYTES


def test_a_download_that_always_drops_is_given_up(evil: Registry, registries: RegistryClients, layout: Layout) -> None:
    """A registry that never gets further is given up; nothing half is left."""
    stocked(evil)

    def nothing(desk: Desk) -> bool:
        desk.answer(200, LAYER_BYTES[:1000], Content_Length=str(len(LAYER_BYTES)))
        return desk.drop()

    evil.fault = at("GET", digest(LAYER_BYTES), nothing)
    with pytest.raises(RegistryUnavailable):
        pulled(registries, evil, layout)
    assert evil.count("GET", digest(LAYER_BYTES)) <= 6
    assert not list(layout.directory.glob("blobs/sha256/.unfinished*"))
    assert not layout.has(Digest(digest(LAYER_BYTES)))


@pytest.mark.parametrize("content", [LAYER_BYTES[:-1] + bytes([LAYER_BYTES[-1] ^ 1]), LAYER_BYTES + b"!"])
def test_wrong_bytes_are_refused(evil: Registry, registries: RegistryClients, layout: Layout, content: bytes) -> None:
    """A blob of another content, or more of it, is refused and not kept; nor is the manifest."""
    image = stocked(evil)
    evil.blobs[digest(LAYER_BYTES)] = content
    with pytest.raises(DigestMismatch, match="does not have the content"):
        pulled(registries, evil, layout)
    assert not layout.has(image.digest)


def test_a_wrong_manifest_is_refused(evil: Registry, registries: RegistryClients, layout: Layout) -> None:
    """A manifest that is not the digest asked for, or not the one its header states, is refused."""
    image = stocked(evil)
    evil.fault = at("GET", "manifests", answering(200, b"{}", Docker_Content_Digest=image.digest))
    for selector in (":v1", f"@{image.digest}"):
        with pytest.raises(DigestMismatch, match="but its content has digest"):
            pulled(registries, evil, layout, selector)


def test_going_on_elsewhere_is_refused(evil: Registry, registries: RegistryClients, layout: Layout) -> None:
    """A continuation that starts at another byte than asked is refused."""
    stocked(evil)

    def astray(desk: Desk) -> bool:
        if "Range" in desk.headers:
            return answering(206, b"x", Content_Range="bytes 0-0/1")(desk)
        desk.answer(200, LAYER_BYTES[:99], Content_Length=str(len(LAYER_BYTES)))
        return desk.drop()

    evil.fault = at("GET", digest(LAYER_BYTES), astray)
    with pytest.raises(Corrupt, match="another part of blob"):
        pulled(registries, evil, layout)


def endless(desk: Desk, status: int = 200) -> bool:
    """A body that does not end."""
    desk.send_response(status)
    desk.send_header("Connection", "close")
    desk.end_headers()
    try:
        while True:
            desk.wfile.write(b" " * 65536)
    except OSError:
        return True


def test_endless_bodies_end(evil: Registry, registries: RegistryClients, layout: Layout) -> None:
    """A manifest, a blob or an error that never ends is cut at its bound."""
    stocked(evil)
    evil.fault = at("GET", "manifests", endless)
    with pytest.raises(TooLarge, match="more than 4194304 bytes"):
        pulled(registries, evil, layout)
    evil.fault = at("GET", digest(LAYER_BYTES), endless)
    with pytest.raises(DigestMismatch):
        pulled(registries, evil, layout)
    evil.fault = at("GET", "manifests", lambda desk: endless(desk, 403))
    with pytest.raises(Forbidden) as refused:
        pulled(registries, evil, layout)
    assert len(str(refused.value)) < 1000


def test_a_redirect_gets_no_credentials(evil: Registry, registries: RegistryClients, layout: Layout) -> None:
    """A blob that lies on another host is fetched there, and that host is told nothing of who asks."""
    image = stocked(evil)
    evil.auth = "basic"
    with Registry() as store:
        threading.Thread(target=store.serve_forever, kwargs={"poll_interval": 0.01}).start()
        store.holds(LAYER_BYTES)
        elsewhere = f"http://127.0.0.1:{store.server_port}/v2/a/b/blobs/{digest(LAYER_BYTES)}"
        evil.fault = at(
            "GET",
            digest(LAYER_BYTES),
            lambda desk: "Authorization" in desk.headers and answering(307, Location=elsewhere)(desk),
        )
        assert pulled(registries, evil, layout) == image
        store.shutdown()
    assert len(store.seen) == 1
    assert "Authorization" not in store.seen[0][2]


def test_redirects_end(evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor) -> None:
    """Circles of redirects end, and an upload follows none."""
    evil.fault = at("GET", "manifests", answering(302, Location="/v2/a/b/manifests/again"))
    with pytest.raises(Unsupported, match="redirects more than 5 times"):
        pulled(registries, evil, layout)
    evil.fault = at("POST", "uploads", answering(302, Location="http://elsewhere.example/"))
    with pytest.raises(Unsupported, match="302"):
        publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("chunk_bytes", [1 << 30, 1 << 20])
def test_an_upload_goes_on_after_drops(
    evil: Registry, slept: list[float], layout: Layout, image: Descriptor, chunk_bytes: int, *, resumes: bool
) -> None:
    """A connection that breaks in the middle of a blob is taken up where the registry says, or from the start."""

    def swallow(desk: Desk) -> bool:
        name = desk.path.rpartition("/")[2].partition("?")[0]
        evil.receive(name, desk.read_body(700_000))
        if not resumes:
            del evil.uploads[name]
        return desk.drop()

    method = "PUT" if chunk_bytes > len(LAYER_BYTES) else "PATCH"
    pattern = digest(LAYER_BYTES).replace(":", "%3A") if method == "PUT" else "uploads"
    evil.fault = at(method, pattern, swallow, times=2)
    with client(evil, slept, chunk_bytes=chunk_bytes) as registries:
        publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    assert evil.blobs[digest(LAYER_BYTES)] == LAYER_BYTES
    assert evil.tags["v1"] == image.digest
    once = sum(len(blob) for blob in evil.blobs.values())
    assert evil.received == once + (0 if resumes else 1_400_000)


def test_an_upload_that_always_drops_sets_no_tag(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """A push that cannot be finished says so; neither the manifest nor a tag is there."""
    evil.fault = at("PUT", "uploads", Desk.drop)
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        publish(layout, image, [f"{evil.host}/a/b:v1", f"{evil.host}/a/b:latest"], registries=registries)
    assert not evil.tags
    assert not evil.documents


def test_an_answer_lost_after_the_last_byte_is_no_harm(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """A blob that arrived although its answer was lost is found there and not sent again."""

    def deaf(desk: Desk) -> bool:
        evil.blobs[digest(LAYER_BYTES)] = desk.read_body()
        return desk.drop()

    evil.fault = at("PUT", digest(LAYER_BYTES).replace(":", "%3A"), deaf, times=1)
    publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    assert evil.count("PUT", digest(LAYER_BYTES).replace(":", "%3A")) == 1


def test_tags_come_last_and_latest_at_the_end(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """Blobs, manifest, attachments, version tags, ``latest``: whoever reads meanwhile meets no half image."""
    layout.name(["x"], image)
    layout.attach(image, b"{}", artifact_type="application/vnd.cyclonedx+json")
    names = [f"{evil.host}/a/b:{tag}" for tag in ("latest", "v1.0.0", "untagged")]
    publish(layout, image, names, registries=registries)
    puts = [path.rpartition("/")[2] for method, path, _ in evil.seen if method == "PUT" and "manifests" in path]
    attached = layout.attachments(image.digest)[0].digest
    assert puts == [image.digest, attached, f"sha256-{image.digest.hex}", "v1.0.0", "untagged", "latest"]


def test_a_registry_that_lists_referrers_needs_no_tag(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """Where the registry keeps the list, the fallback tag is not made, and attachments are read back from the list."""
    evil.lists_referrers = True
    layout.name(["x"], image)
    layout.attach(image, b'{"bom": 1}', artifact_type="application/vnd.cyclonedx+json")
    publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    assert not [tag for tag in evil.tags if tag.startswith("sha256-")]
    (found,) = remote_attachments(registries, f"{evil.host}/a/b", image.digest)
    assert found.artifact_type == "application/vnd.cyclonedx+json"
    assert read_attachment(registries, f"{evil.host}/a/b", found) == b'{"bom": 1}'


@pytest.mark.parametrize("answered", [(400, b"?"), (405, b""), (200, b"<html>"), (200, b"{}")])
def test_an_older_registry_gets_the_tag(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor, answered: tuple[int, bytes]
) -> None:
    """Whatever a registry without lists answers when asked for one, the fallback tag takes its place."""
    layout.name(["x"], image)
    attached = layout.attach(image, b"{}", artifact_type="application/vnd.cyclonedx+json")
    evil.fault = at("GET", "referrers", answering(*answered))
    publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    (found,) = remote_attachments(registries, f"{evil.host}/a/b", image.digest)
    assert found.digest == attached.digest


def test_a_list_overwritten_meanwhile_is_written_again(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """Another's write between our reading and writing is seen, and both entries stay in the end."""
    layout.name(["x"], image)
    layout.attach(image, b"ours", artifact_type="application/ours")
    other = {"mediaType": MANIFEST, "digest": digest(b"o"), "size": 1, "artifactType": "a/b", "data": "kept", "x": [1]}
    theirs = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other]})

    def overwrite(desk: Desk) -> bool:
        desk.document(desk.path.rpartition("/")[2])
        evil.holds(**{f"sha256-{image.digest.hex}": theirs})
        return True

    evil.fault = at("PUT", "manifests/sha256-", overwrite, times=1)
    publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    written = json.loads(evil.documents[evil.tags[f"sha256-{image.digest.hex}"]][0])
    assert other in written["manifests"]
    assert len(written["manifests"]) == 2


def test_a_tag_moved_by_somebody_else_is_noticed(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """At the end every tag is asked for again; another digest there is an error that names both."""

    def usurp(desk: Desk) -> bool:
        desk.document("v1")
        evil.holds(v1=b'{"other": 1}')
        return True

    evil.fault = at("PUT", "manifests/v1", usurp)
    with pytest.raises(DigestMismatch, match=f"pushed as {image.digest}, but the registry now returns"):
        publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)


def test_an_interrupted_push_ends_soon_and_sets_no_tag(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor
) -> None:
    """Ctrl-C while a blob is on its way ends every transfer; the next push goes on."""

    def interrupt(progress: TaskProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries, on_progress=interrupt)
    assert not evil.tags
    publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
    assert evil.tags["v1"] == image.digest


INTERRUPTED = """
import random, sys, time
from pathlib import Path
from mendel.adapters.oci.registry.credentials import Keychain
from mendel.adapters.oci.layout.layout import Layout
from mendel.adapters.oci.registry.push import publish
from mendel.adapters.oci.registry.client import RegistryClients, RegistrySettings
layout, name = Layout(Path(sys.argv[1])), sys.argv[2]
chance = random.Random(0)
with RegistryClients(keychain=Keychain(), settings=RegistrySettings(), sleep=time.sleep, rng=chance) as registries:
    publish(layout, layout.find(name), [name], registries=registries)
"""


def test_ctrl_c_ends_a_push_that_hangs(evil: Registry, layout: Layout, image: Descriptor) -> None:
    """A real SIGINT ends a push at once, even where the registry has stopped reading in the middle of a blob."""
    hanging, enough = threading.Event(), threading.Event()

    def hang(_: Desk) -> bool:
        hanging.set()
        return enough.wait(30)

    name = f"{evil.host}/a/b:v1"
    layout.name([name], image)
    evil.fault = at("PUT", digest(LAYER_BYTES).replace(":", "%3A"), hang)
    command = [sys.executable, "-c", INTERRUPTED, str(layout.directory), name]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert hanging.wait(30)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    finally:
        enough.set()
        process.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert not evil.tags


def test_tags_are_read_page_by_page(evil: Registry, registries: RegistryClients) -> None:
    """Lists of tags are followed over pages on the same host only; tags that list referrers are left out."""
    pages = [(["v2", "v1"], "</v2/a/b/tags/list?n=1000&last=v2>; rel=next"), (["sha256-" + "0a" * 32, "v3"], "")]
    rest = iter(pages)

    def page(desk: Desk) -> bool:
        tags, link = next(rest)
        desk.answer(200, json.dumps({"tags": tags}).encode(), **({"Link": link} if link else {}))
        return True

    evil.fault = at("GET", "tags/list", page)
    assert list_tags(registries, f"{evil.host}/a/b") == ("v1", "v2", "v3")
    evil.fault = at("GET", "tags/list", answering(200, b"{}", Link='<http://elsewhere.example/x>; rel="next"'))
    with pytest.raises(Unsupported, match="another host"):
        list_tags(registries, f"{evil.host}/a/b")


def test_an_index_gives_the_platform(evil: Registry, layout: Layout, slept: list[float]) -> None:
    """Of an index the platform's image is pulled; one that it lacks is refused."""
    config, manifest, image = image_of(LAYER_BYTES)
    entry = image.as_tree() | {"platform": {"os": "linux", "architecture": "amd64"}}
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    evil.holds(config, LAYER_BYTES, own=manifest, v1=index)
    images = RegistryImages(lambda: client(evil, slept))
    reference = ImageReference.parse(f"{evil.host}/a/b:v1")
    seen: list[TaskProgress] = []
    assert images.pull(reference, AMD, layout, on_progress=seen.append) == image
    assert seen[-1].done == seen[-1].total == len(LAYER_BYTES) + len(config)
    with pytest.raises(ImageNotFound, match="no image for the platform linux/arm64"):
        images.pull(reference, Platform.parse("linux/arm64"), layout, on_progress=ignore_progress)


@pytest.mark.parametrize("location", ["http://[", "ftp://x.example/", ""])
def test_nonsense_addresses_are_refused(
    evil: Registry, registries: RegistryClients, layout: Layout, image: Descriptor, location: str
) -> None:
    """An address that is none ends in one of Mendel's errors, wherever it was given."""
    evil.fault = at("GET", "manifests", answering(302, Location=location))
    with pytest.raises(MendelError):
        pulled(registries, evil, layout)
    evil.fault = at("POST", "uploads", answering(202, **({"Location": location} if location else {})))
    with pytest.raises(MendelError):
        publish(layout, image, [f"{evil.host}/a/b:v1"], registries=registries)
