"""No request breaks the hub: hostile values at every place, and random requests over the whole OpenAPI document."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import tarfile
import time
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel import connect
from mendel.app.directory import DataDirectory
from mendel.operations import OPERATIONS
from mendel.operations.openapi import errors_by_status
from mendel.operations.operation import Place
from mendel.operations.problems import MEDIA_TYPE
from mendel.registry import Registration, Snapshot
from mendel.values import VersionRef, Window

TEXTS = [
    *("", "a\0b", "..", "../../etc/passwd", "a/b", "%", "%2f", "\u202e", "\ufffe", "💥", "' OR 1=1 --", "null", "{}"),
    *("-1", "nan", "inf", "1e400", " 1 ", "1_000", "٣", "9223372036854775808", "9" * 5000, "x" * 50_000),
]
BODIES = [
    *(b"", b"\0", b"[", b"{}{}", b"null", b"[]", b"3", b"NaN", b'"\xff"', b'"\\ud800"', b"\xef\xbb\xbf{}", b'{"":1}'),
    *(b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"[" * 100_000, b"1" * 5000),
    *(b'{"\\u0000":1}', b'{"a":1,"a":2}', b'"' + b"y" * 140_000, b" " * (5 << 20)),
]
VALUES = [
    *(None, True, -1, 2**63, -(2**63) - 1, 10**40, 1e308, "", "\0", "x" * 100_001, "💥", [], {}, [None], {"x": 2**70}),
    *("P99999999999D", "99999999999999999d", "900y", "0s", "2026-01-01T00:00:00", "9999-12-31T23:59:59-23:00"),
    *({"model": "credit", "number": 2**63}, {"start": "0001-01-01T00:00:00Z", "end": "9999-12-31T00:00:00Z"}),
]
KINDS = [
    "text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "\xff",
    "application/x-ndjson",
    "text/csv",
]
MOMENT = "2026-01-01T00:00:00Z"
GOOD = {
    "record_performance_snapshot": {
        "ref": {"model": "credit", "number": 1},
        "window": {"start": MOMENT, "end": MOMENT},
        "source": "probe",
    },
    "record_image": {"reference": "credit:v1", "digest": f"sha256:{0:064}"},
    "post_report": {"server": "s", "epoch": "e", "seq": 1, "at": MOMENT, "revision": 1, "ready": True, "spool": {}},
    "label": {"prediction_id": "a", "true_label": 1},
    "resolve": {"reason": "x"},
    "decline_run": {"reason": "x"},
    "start_playbook": {"reason": "x"},
    "rollback": {"reason": "x", "dry_run": True},
    "canary": {"share": 0.1},
    "undeploy": {"reason": "x"},
    "change_stage": {"to": "sandbox"},
    "add_key": {"scopes": ["read"], "label": "x"},
    "rotate_key": {"overlap": "PT0S"},
}
"""Bodies that would be read, into which one hostile value is put."""
POLICY_KEYS = {
    "rollback": ("window", "silence", "min_requests", "error_rate", "profile"),
    "healing": ("bake", "cooldown", "autonomy"),
    "monitoring": ("every", "features", "effects"),
    "retraining": ("schedule", "limits"),
    "gates": ("profile",),
    "governance": ("require",),
}
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


class Attacked:
    """A hub that holds one of everything, and one connection to it that stays open."""

    def __init__(self, url, key, known):
        self.url, self.known, self.headers = url, known, {"authorization": f"Bearer {key}"}
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

    def ask(self, one, *, path=None, query=None, headers=None, body=None):
        """What *one* answers; a status that it does not declare, or a connection that does not go on, is a failure."""
        if self._connection.sock is None:
            self._connection.connect()
        opened = self._connection.sock
        values = {name: quote(value, safe="") for name, value in {**self.known, **(path or {})}.items()}
        target = one.url.format_map(values) + (f"?{urlencode(query)}" if query else "")
        said = {name: value.encode("latin-1") for name, value in {**self.headers, **(headers or {})}.items()}
        if one.name == "put_segment":
            said = {"x-checksum": f"sha256:{0:064}".encode(), **said}
        status, kind, content = self._answer(one.method, target, body, said)
        shown = (one.name, path or query or headers or (body or b"")[:60], content[:200])
        slash = status == 404 and "%2F" in target
        assert slash or status in {one.status, *errors_by_status(one), *_others(one)}, shown
        assert status < 400 or kind == MEDIA_TYPE, shown
        assert self._answer("GET", "/live", None, {})[0] == 200, shown
        assert self._connection.sock is opened, shown
        return status

    def _answer(self, method, target, body, headers):
        try:
            self._connection.request(method, target, body=body, headers=headers)
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get("content-type"), answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            pytest.fail(f"the connection did not go on with {method} {target[:200]}: {error!r}")

    def close(self):
        self._connection.close()


def _others(one):
    return [one.alternative.status] if one.alternative else []


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, trees, run_hub):
    directory = tmp_path_factory.mktemp("attacked") / ".mendel"
    with run_hub(directory), connect(directory=str(directory)) as client:
        for number in (1, 2):
            wish = Registration(model="credit", flavor="sklearn", task="classification")
            registered = client.register(wish, trees / "linear")
            client.approve(f"credit@{number}", policy=True, bias=True)
            client.change_stage(f"credit@{number}", "sandbox")
            client.promote(f"credit@{number}")
        run = client.start_playbook("credit", "notify", reason="drill")
        client.set_policy("credit", {"healing": {"autonomy": {"rollback": "observe"}}})
        window = Window.before(datetime.now(UTC) + timedelta(seconds=1), timedelta(seconds=2))
        sick = Snapshot(ref=VersionRef.parse("credit@2"), window=window, source="x", num_requests=400, error_rate=0.25)
        client.record_performance_snapshot(sick)
        client.observe("credit")
        known = {
            "model": "credit",
            "number": "1",
            "uuid": registered.model_uuid,
            "entry": "1",
            "role": "shadow",
            "digest": client.version("credit@1").artifact_digest,
            "incident_id": client.incidents("credit")[0].id,
            "run_id": run.id,
            "key_id": client.add_key(["read"], label="x").id,
            "playbook": "notify",
            "spool_id": "s",
            "seq": "1",
            "server": "s",
        }
        data = DataDirectory(directory)
        hub = Attacked(data.hub().url, data.secret(), known)
        yield hub
        hub.close()


ALL = pytest.mark.parametrize("one", OPERATIONS.values(), ids=OPERATIONS)
READING = [one for one in OPERATIONS.values() if one.has_body]


@ALL
def test_hostile_names_and_queries(attacked, one):
    """No text in a path, a query or a header breaks the hub or its connection."""
    for parameter in one.at(Place.PATH):
        for text in filter(None, TEXTS):
            attacked.ask(one, path={parameter.wire: text}, body=b"{}" if one.has_body else None)
    for parameter in one.at(Place.QUERY):
        for text in TEXTS:
            attacked.ask(one, query=[(parameter.wire, text)])
        attacked.ask(one, query=[(parameter.wire, "1"), (parameter.wire, "2")])
    for parameter in one.at(Place.HEADER):
        for text in TEXTS:
            if text.isascii() and text.isprintable():
                attacked.ask(one, headers={parameter.wire: text[:20_000]}, body=b"{}")


@pytest.mark.parametrize("one", READING, ids=[one.name for one in READING])
def test_hostile_bodies(attacked, one):
    """No body breaks the hub or its connection, whatever it is called; what it refuses it has read to the end."""
    for body in BODIES:
        attacked.ask(one, body=body, headers={"content-type": "application/json"})
        form = b'--b\r\ncontent-disposition: form-data; name="registration"\r\n\r\n' + body + b"\r\n--b--\r\n"
        attacked.ask(one, body=form, headers={"content-type": "multipart/form-data; boundary=b"})
    for kind in KINDS:
        for body in (b"{}", b"\0", b"a,b\n1,2", b'"' + b"y" * 140_000):
            attacked.ask(one, body=body, headers={"content-type": kind})


@pytest.mark.parametrize("one", READING, ids=[one.name for one in READING])
def test_hostile_members(attacked, one):
    """No value of any member of a body breaks the hub or its connection."""
    for body in _members(one):
        attacked.ask(one, body=json.dumps(body).encode())


def _members(one):
    good = GOOD.get(one.name, {})
    names = [p.wire for p in one.at(Place.MEMBER)]
    for whole in one.at(Place.BODY):
        names += [one.name for one in fields(whole.kind)] if is_dataclass(whole.kind) else list(good)
    yield from ({**good, name: value} for name in names for value in VALUES)
    if one.name == "set_policy":
        yield from ({section: value} for section in POLICY_KEYS for value in VALUES)
        yield from (
            {section: {key: value}} for section, keys in POLICY_KEYS.items() for key in keys for value in VALUES
        )
        yield {}


@pytest.mark.parametrize(
    "name", ["fleet", "model", "observe", "check_rollback_triggers", "health", "stats", "incidents"]
)
def test_what_was_accepted_can_be_read(attacked, name):
    """After all that, whatever the hub took in can be shown."""
    one = OPERATIONS[name]
    assert attacked.ask(one, query=[("model", "credit")] if one.at(Place.QUERY) else None) == 200


def entry(name, kind=tarfile.REGTYPE, **headers):
    made = tarfile.TarInfo(name)
    made.type, made.pax_headers = kind, headers
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "entries",
    [
        (entry("a"), entry("a")),
        (entry("a"), entry("a/b")),
        (entry("x" * 300),),
        (entry("a\udcff"),),
        (entry("a", path="b\0c"),),
        (entry("../a"),),
        (entry("/a"),),
        (entry("l", tarfile.SYMTYPE),),
        (entry("l", tarfile.LNKTYPE),),
        (entry("d", tarfile.CHRTYPE),),
        (entry("p", tarfile.FIFOTYPE),),
        (entry("a", size="-1"),),
        (entry("MLmodel"),),
    ],
    ids=lambda entries: ascii(entries[-1].name[:20]) + str(entries[-1].type),
)
def test_hostile_archives(attacked, entries):
    """An archive with an entry that cannot be unpacked, or that is no artefact, is a 400; the connection goes on."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for one in entries:
            archive.addfile(one, io.BytesIO(b"1" * one.size))
    wish = {"model": "credit", "flavor": "sklearn", "task": "classification"}
    parts = [
        b'--b\r\ncontent-disposition: form-data; name="registration"\r\n\r\n' + json.dumps(wish).encode(),
        b'--b\r\ncontent-disposition: form-data; name="artifact"; filename="a.tar"\r\n\r\n' + packed.getvalue(),
        b"--b--\r\n",
    ]
    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert attacked.ask(OPERATIONS["register"], body=b"\r\n".join(parts), headers=kind) == 400


@pytest.fixture(scope="module")
def described(attacked):
    import schemathesis  # noqa: PLC0415 - a second, and every worker imports this file

    document = requests.get(f"{attacked.url}/openapi.json", timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    return {one.ok().definition.raw["operationId"]: one.ok() for one in schema.get_all_operations()}


@pytest.fixture(scope="module")
def session():
    with requests.Session() as opened:
        yield opened


def answers_as_described(attacked, session, operation, data):
    """Whatever is asked, the answer is no failure of the hub, its status is declared, and its body fits its schema."""
    from schemathesis import checks  # noqa: PLC0415 - a second, as above

    case = data.draw(st.one_of([operation.as_strategy(generation_mode=mode) for mode in _modes(operation)]))
    for name in data.draw(st.sets(st.sampled_from(sorted(case.path_parameters or {"": ""})))) - {""}:
        case.path_parameters[name] = attacked.known[name]
    if case.query and "model" in case.query and data.draw(st.booleans()):
        case.query["model"] = attacked.known["model"]
    if case.query and "wait" in case.query:
        case.query["wait"] = 0
    answer = case.call(base_url=attacked.url, headers=attacked.headers, session=session, timeout=60)
    case.validate_response(answer, checks=checks.CHECKS.get_by_names(CHECKS))


def _modes(operation):
    from schemathesis import GenerationMode  # noqa: PLC0415 - a second, as above

    has_input = operation.body or any(True for _ in operation.iter_parameters())
    return [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if has_input else [])]


def ask_at_random(attacked, session, operation, chosen):
    """Ask *operation* as often as the settings *chosen* say."""

    @given(st.data())
    def check(data):
        answers_as_described(attacked, session, operation, data)

    chosen(check)()


SETTINGS = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", OPERATIONS)
def test_random_requests(attacked, session, described, name):
    """Requests that fit the document, and such that do not, are answered as it says."""
    ask_at_random(attacked, session, described[name], settings(SETTINGS, max_examples=8, derandomize=True))


@pytest.mark.soak
def test_random_requests_for_long(attacked, session, described, soak_seconds):
    """Random requests to every operation, again and again, are answered as the document says."""
    end = time.monotonic() + soak_seconds
    for operation in itertools.cycle(described.values()):
        if time.monotonic() >= end:
            return
        ask_at_random(attacked, session, operation, settings(SETTINGS, max_examples=50))
