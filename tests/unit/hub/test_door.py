"""What the control API makes of requests before any room sees them."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import structlog

from mendel.errors import (
    ArtifactNotFound,
    Forbidden,
    GenerationConflict,
    HubUnavailable,
    IncidentNotFound,
    InvalidInput,
    InvalidPolicy,
    InvalidValue,
    ModelNotFound,
    NotFound,
    RunNotFound,
    StoreUnavailable,
    TooLarge,
    VersionNotFound,
)
from mendel.operations import OPERATIONS, HubHealth
from mendel.operations.operation import JSON
from mendel.operations.problems import MEDIA_TYPE, from_problem
from mendel.operations.servers import REPORT
from mendel.values import ModelName, to_json


def refused(answer):
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, type(from_problem(answer.json()))


def tarred(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


TREE = tarred(MLmodel=b"flavors: {sklearn: {}}\n")


def form(model="credit", *, artifact=TREE, **changes):
    wish = {"model": model, "flavor": "sklearn", "task": "classification"} | changes
    return {"data": {"registration": to_json(wish).decode()}, "files": {"artifact": ("a.tar", artifact)}}


class TestHosts:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"])
    def test_a_hub_answers_only_under_its_names(self, hub, host):
        """A page that points its own name at this address gets 403, open paths included, never a crash."""
        for path in ("/health", "/api/v1/models"):
            assert refused(hub.http().get(path, headers={"host": host})) == (403, Forbidden)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"])
    def test_the_local_names_are_its_own(self, hub, host):
        """The names of this machine pass, with a port or without."""
        assert hub.http().get("/api/v1/models", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "file://"])
    def test_other_origins_are_refused(self, hub, origin):
        """What a page of another site sends is refused even with a key."""
        assert refused(hub.http().get("/api/v1/models", headers={"origin": origin})) == (403, Forbidden)

    def test_its_own_origin_passes(self, hub):
        """The console's own pages may call."""
        assert hub.http().get("/api/v1/models", headers={"origin": "http://localhost:8080"}).status_code == 200


class TestBounds:
    def test_a_noun_has_a_bound(self, hub):
        """A body one byte over the bound is 413; one at it is read."""
        http, path = hub.http(), "/api/v1/healing/pause"
        assert refused(http.post(path, content=b" " * (JSON.max_bytes + 1))) == (413, TooLarge)
        assert refused(http.post(path, content=b" " * JSON.max_bytes)) == (400, InvalidValue)

    def test_a_body_without_a_length_is_counted(self, hub):
        """Chunks are counted as they come: saying no length evades nothing."""
        chunks = (b" " * 65536 for _ in range(JSON.max_bytes // 65536 + 1))
        assert refused(hub.http().post("/api/v1/healing/pause", content=chunks)) == (413, TooLarge)

    def test_a_length_that_is_none_is_refused(self, hub):
        """A Content-Length that is no number is the caller's error."""
        answer = hub.http().post("/api/v1/healing/pause", content=iter([b"{}"]), headers={"content-length": "many"})
        assert refused(answer) == (400, InvalidInput)

    def test_uploads_have_a_bound(self, hub, monkeypatch):
        """An artefact above the bound is 413, whether its length was said or not, and nothing is registered."""
        register = OPERATIONS["register"]
        monkeypatch.setitem(vars(register), "body", replace(register.body, max_bytes=1 << 20))
        http, big = hub.http(), form(artifact=tarred(MLmodel=b"0" * (2 << 20)))
        assert refused(http.post("/api/v1/models/credit/versions", **big)) == (413, TooLarge)
        request = http.build_request("POST", "/api/v1/models/credit/versions", **big)
        headers = {"content-type": request.headers["content-type"]}
        unsaid = http.post("/api/v1/models/credit/versions", content=iter([request.read()]), headers=headers)
        assert refused(unsaid) == (413, TooLarge)
        assert hub.parts.registry.versions.models() == ()
        assert [path for path in hub.parts.scratch.iterdir() if path.name != "kept"] == []

    def test_reports_and_segments_have_bounds(self, hub):
        """What servers send is bounded like what people send."""
        http = hub.http("serve")
        assert refused(http.post("/api/v1/servers/s/reports", content=b" " * (REPORT.max_bytes + 1)))[0] == 413
        said = {"x-checksum": "sha256:" + "0" * 64, "content-length": str(1 << 40)}
        assert refused(http.put("/api/v1/segments/s/1", content=iter([b"x"]), headers=said)) == (413, TooLarge)


class TestUploads:
    def test_a_version_is_registered_by_form(self, hub):
        """One form with particulars and files makes one version, under the key that sent it."""
        answer = hub.http("register").post("/api/v1/models/credit/versions", **form())
        assert answer.status_code == 201
        assert answer.json()["model_id"] == "credit/1"
        assert hub.parts.registry.versions.of(ModelName("credit"))[0].registered_by == hub.principal("register")

    @pytest.mark.parametrize(
        ("request_", "kind"),
        [
            ({"content": b"{}", "headers": {"content-type": "application/json"}}, InvalidInput),
            ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, InvalidInput),
            ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, InvalidInput),
            ({"data": {"registration": "{}"}, "files": {"other": ("a", b"x")}}, InvalidValue),
            ({"data": {"x": "{}"}, "files": {"artifact": ("a.tar", TREE)}}, InvalidInput),
            ({"data": {"registration": "{}", "more": "x"}, "files": {"artifact": ("a.tar", TREE)}}, InvalidInput),
            ({**form(), "files": {"data": ("a.tar", TREE)}}, InvalidInput),
            (form("loans"), InvalidValue),
            (form(flavour="sklearn"), InvalidValue),
            (form(artifact=b"no tar"), InvalidInput),
            (form(artifact=tarred(**{"../out": b"x"})), InvalidInput),
            (form(stage="production"), InvalidValue),
        ],
    )
    def test_a_form_that_is_none_is_the_callers_error(self, hub, request_, kind):
        """Whatever is wrong with an upload is a 400 that says so, and leaves nothing behind."""
        answer = hub.http().post("/api/v1/models/credit/versions", **request_)
        status, found = refused(answer)
        assert status == 400, answer.text
        assert issubclass(found, kind), answer.text
        assert hub.parts.registry.versions.models() == ()
        assert [path for path in hub.parts.scratch.iterdir() if path.name != "kept"] == []


class TestBodies:
    @pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"null", b'{"reason": 3}', b'{"reasn": "x"}', b"{}"])
    def test_a_body_that_is_no_noun_is_the_callers_error(self, hub, body):
        """A request that does not decode is a 400."""
        assert refused(hub.http().post("/api/v1/incidents/INC-2026-1/resolve", content=body)) == (400, InvalidValue)

    def test_a_key_nobody_reads_is_refused(self, hub):
        """A misspelt ``dry_run`` does not roll back for real: unknown keys are refused with the nearest known one."""
        answer = hub.http().post("/api/v1/models/credit/rollback", json={"reason": "x", "dryrun": True})
        assert refused(answer) == (400, InvalidValue)
        assert "did you mean 'dry_run'?" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"healing": {"cooldwn": "1s"}}, "did you mean 'cooldown'?"),
            ({"gates": {"nonsense_key": 1}}, "unknown key 'nonsense_key'"),
            ({"monitorin": {}}, "did you mean 'monitoring'?"),
            ({"monitoring": {"every": "soon"}}, "'soon' is not a duration"),
            ({"retraining": 3}, "is not a mapping"),
            ({"healing": []}, "is not a mapping"),
            ({"rollback": {"error_rate": 7}}, "a fraction from 0 to 1"),
        ],
    )
    def test_policies_are_read_whole_or_refused(self, hub, body, said):
        """A key or value that no room understands is refused when the policy is set, not at the next look."""
        answer = hub.http().put("/api/v1/models/credit/policy", json=body)
        assert refused(answer) == (400, InvalidPolicy)
        assert said in answer.json()["detail"]
        assert hub.parts.registry.policies.of(ModelName("credit")).version == 0

    @pytest.mark.parametrize("tag", ["three", "²", '"', "*", "-1", '"1", "2"'])
    def test_if_match_is_a_generation(self, hub, tag):
        """A precondition that cannot be read is refused rather than ignored."""
        header = {"if-match": tag.encode("latin-1")}
        answer = hub.http().post("/api/v1/models/credit/versions/1/promote", content=b"{}", headers=header)
        assert refused(answer) == (400, InvalidInput)


class TestUnknown:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("models/none/versions", ModelNotFound),
            ("models/none/versions/1", VersionNotFound),
            ("models/none/versions/1/card", VersionNotFound),
            ("models/none/lineage", ModelNotFound),
            ("models/none/history", ModelNotFound),
            ("models/none/deployment", ModelNotFound),
            ("models/none/health", ModelNotFound),
            ("models/none/rollback-check", ModelNotFound),
            ("versions/by-uuid/m-" + "0" * 32, VersionNotFound),
            ("incidents/INC-2026-9", IncidentNotFound),
            ("runs/RUN-2026-9", RunNotFound),
            ("artifacts/sha256:" + "0" * 64, ArtifactNotFound),
            ("nothing/here", NotFound),
        ],
    )
    def test_what_there_is_not_is_a_404_of_its_class(self, hub, path, kind):
        """Asking for what does not exist says what does not."""
        assert refused(hub.http().get(f"/api/v1/{path}")) == (404, kind)

    @pytest.mark.parametrize(
        ("path", "body", "kind"),
        [
            ("models/none/versions/1/approve", {"policy": True}, VersionNotFound),
            ("models/none/versions/1/stage", {"to": "sandbox"}, VersionNotFound),
            ("models/none/versions/1/promote", {}, VersionNotFound),
            ("models/none/versions/1/canary", {"share": 0.1}, VersionNotFound),
            ("models/none/rollback", {"reason": "x"}, ModelNotFound),
            ("incidents/INC-2026-9/resolve", {"reason": "x"}, IncidentNotFound),
            ("incidents/INC-2026-9/acknowledge", None, IncidentNotFound),
            ("runs/RUN-2026-9/approve", None, RunNotFound),
            ("runs/RUN-2026-9/decline", {"reason": "x"}, RunNotFound),
        ],
    )
    def test_changing_what_there_is_not_is_too(self, hub, path, body, kind):
        """So does asking to change it."""
        assert refused(hub.http().post(f"/api/v1/{path}", content=to_json(body) if body is not None else b"")) == (
            404,
            kind,
        )

    @pytest.mark.parametrize(
        "path",
        [
            "models/NONE/versions",
            "models/none/versions/one",
            "models/none/versions/0",
            "versions/by-uuid/m-1",
            "artifacts/md5:1",
            "events?after=-1",
            "events?limit=0",
            "desired?wait=1e9",
            "desired?after=x",
        ],
    )
    def test_what_cannot_be_a_name_is_the_callers_error(self, hub, path):
        """A name, number or digest that cannot exist is a 400, not a 404 and never a 500."""
        status, kind = refused(hub.http().get(f"/api/v1/{path}"))
        assert status == 400
        assert issubclass(kind, InvalidInput)

    def test_another_method_is_told_the_right_one(self, hub):
        """405 names what is allowed."""
        answer = hub.http().delete("/api/v1/models")
        assert refused(answer) == (405, InvalidInput)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
        answer = hub.http().patch("/api/v1/models/credit/policy")
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT"}

    def test_stages_are_spelled_out(self, hub):
        """A stage nobody knows is refused with those there are."""
        answer = hub.http().post("/api/v1/models/none/versions/1/stage", json={"to": "prod"})
        assert refused(answer) == (400, InvalidValue)
        assert "production" in answer.json()["remedy"]

    def test_segments_stay_in_their_directory(self, hub):
        """A spool id cannot be a path."""
        http = hub.http("serve")
        for spool in ("..%2F..%2Fetc", "%2e%2e", "a%00b"):
            answer = http.put(f"/api/v1/segments/{spool}/1", content=b"x", headers={"x-checksum": "sha256:" + "0" * 64})
            assert answer.status_code in {400, 404, 405, 422}, answer.text


class TestHealth:
    def test_open_paths_answer_without_a_key(self, hub):
        """health, live and ready are open."""
        http = hub.http(None)
        assert [http.get(path).status_code for path in ("/health", "/live", "/ready", "/docs")] == [200] * 4
        assert http.get("/live").json() == {"status": "alive"}

    def test_health_without_its_database_is_503(self, hub):
        """Unhealthy is 503; degraded still answers 200."""
        for status, code in (("unhealthy", 503), ("degraded", 200)):
            told = HubHealth(status=status, version="0", services={}, failing_chores={})
            answer = hub.http(None, health=lambda told=told: told).get("/health")
            assert (answer.status_code, answer.json()["status"]) == (code, status)

    def test_ready_says_when_the_state_is_away(self, hub, monkeypatch):
        """Ready asks the state database, and passes on that it does not answer."""

        def away(self):
            raise StoreUnavailable("It does not answer.")

        monkeypatch.setattr(type(hub.parts.registry.lifecycle), "revision", away)
        assert refused(hub.http(None).get("/ready")) == (503, StoreUnavailable)
        assert hub.http(None).get("/live").status_code == 200

    def test_a_defect_is_told_and_logged_by_its_type(self, hub, monkeypatch):
        """Answer and log have its type and one correlation id; its message, the key and the query are in neither."""

        def broken(self):
            raise ZeroDivisionError("canary")

        monkeypatch.setattr(type(hub.parts.registry.versions), "models", broken)
        with structlog.testing.capture_logs() as lines:
            answer = hub.http().get("/api/v1/models?secret=canary")
        (line,) = lines
        assert (answer.status_code, line["fault"]) == (500, "ZeroDivisionError")
        assert line["correlation_id"] in answer.json()["remedy"]
        assert line["at"].startswith(f"{__name__}:")
        assert "canary" not in f"{answer.text}{lines}"


class TestLongPoll:
    def test_it_answers_as_soon_as_something_changed(self, hub):
        """A waiting server hears of a change within its next look, not at the end of its wait."""
        http = hub.http("serve")
        seen = hub.parts.registry.lifecycle.revision()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(http.get, "/api/v1/desired", params={"after": seen, "wait": 20})
            time.sleep(0.2)
            assert not waiting.done()
            hub.parts.registry.keys.add(("predict",), "new")
            answer = waiting.result(5)
        assert answer.status_code == 200
        assert answer.json()["revision"] == seen + 1

    def test_nothing_new_is_304(self, hub):
        """After its wait it says that nothing changed; what is newer is told at once."""
        http = hub.http("serve")
        seen = hub.parts.registry.lifecycle.revision()
        assert http.get("/api/v1/desired", params={"after": seen, "wait": 0.1}).status_code == 304
        assert http.get("/api/v1/desired").json()["revision"] == seen

    @pytest.mark.race
    def test_many_waiting_servers_leave_room_for_others(self, hub):
        """A hundred waiting servers do not keep anyone else from an answer."""
        http = hub.http("serve")
        seen = hub.parts.registry.lifecycle.revision()
        with ThreadPoolExecutor(100) as pool:
            polls = [pool.submit(http.get, "/api/v1/desired", params={"after": seen, "wait": 3}) for _ in range(100)]
            time.sleep(0.3)
            began = time.monotonic()
            assert hub.http("read").get("/api/v1/models").status_code == 200
            assert time.monotonic() - began < 2
            hub.parts.registry.keys.add(("predict",), "wake them")
            assert {poll.result(10).status_code for poll in polls} == {200}

    def test_a_stopping_hub_lets_go(self, hub):
        """When the hub ends, waiting servers are answered instead of waited for."""
        stop = threading.Event()
        http = hub.http("serve", stopping=stop.is_set)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(http.get, "/api/v1/desired", params={"after": 10**6, "wait": 30})
            time.sleep(0.1)
            stop.set()
            assert waiting.result(5).status_code == 304


class TestClient:
    def test_names_are_checked_before_they_become_paths(self, hub):
        """A model name that could be a path is refused by the client itself."""
        for name in ("../keys", "a/b", "A", "a?b=c"):
            with pytest.raises(InvalidValue, match="model name"):
                hub.client().health(name)

    def test_ids_are_quoted(self, hub):
        """An id with a slash asks for that id, not for another route."""
        with pytest.raises(NotFound):
            hub.client().incident("x/../../models")

    def test_errors_come_back_as_themselves(self, hub):
        """What the hub raises is raised again, with what it carries."""
        client, registry = hub.client(), hub.parts.registry
        hub.http().post("/api/v1/models/credit/versions", **form()).raise_for_status()
        client.approve("credit@1", policy=True, bias=True)
        client.change_stage("credit@1", "sandbox", without_parity="no rows")
        with pytest.raises(GenerationConflict) as caught:
            client.promote("credit@1", generation=7)
        assert (caught.value.expected, caught.value.actual) == (7, 0)
        assert registry.versions.get(registry.versions.of(ModelName("credit"))[0].ref).stage == "sandbox"

    def test_what_is_no_hub_is_told_so(self, hub):
        """An answer that no hub gives, as of a proxy, is HubUnavailable with the status."""
        client = hub.client()
        client._http._transport._app = plain_502
        with pytest.raises(HubUnavailable, match=r"not a hub; its answer was 502 <h1>Bad gateway</h1>"):
            client.models()

    def test_long_answers_arrive_whole(self, hub):
        """A streamed answer is whole in process too."""
        hub.http().post("/api/v1/models/credit/versions", **form()).raise_for_status()
        digest = hub.parts.registry.versions.of(ModelName("credit"))[0].artifact_digest
        packed = hub.http("serve").get(f"/api/v1/artifacts/{digest}").content
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            assert archive.extractfile("MLmodel").read() == b"flavors: {sklearn: {}}\n"


async def plain_502(scope, receive, send):
    await send({"type": "http.response.start", "status": 502, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<h1>Bad\n gateway</h1>"})
