"""What a client writes, a hub reads."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidInput, InvalidValue
from mendel.operations import OPERATIONS
from mendel.operations.binding import Message, read_request, url_of, write_request
from mendel.operations.incidents import OneIncident, Resolve
from mendel.operations.ledger import Events
from mendel.operations.lifecycle import ChangeStage, Promote, RollBack, generation_of
from mendel.operations.models import OneVersion, Register
from mendel.operations.requests import OfModel
from mendel.operations.servers import AwaitDesired, PutSegment
from mendel.registry import Registration
from mendel.values import Digest, ModelName, Stage, to_json

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True).map(ModelName)
numbers = st.integers(1, 2**63 - 1)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
REQUESTS = {
    "version": st.builds(OneVersion, model=names, number=numbers),
    "incidents": st.builds(OfModel, model=st.none() | names),
    "incident": st.builds(OneIncident, incident_id=texts.filter(bool)),
    "resolve": st.builds(Resolve, incident_id=texts.filter(bool), reason=texts),
    "events": st.builds(
        Events,
        after=st.integers(0, 2**63 - 1),
        limit=st.integers(1, 2000),
        subject=st.none() | texts,
        type=st.lists(texts, max_size=3).map(tuple),
    ),
    "change_stage": st.builds(ChangeStage, model=names, number=numbers, to=st.sampled_from(Stage), reason=texts),
    "promote": st.builds(
        Promote,
        model=names,
        number=numbers,
        reason=texts,
        override=st.none() | texts,
        if_match=st.none() | st.integers(0, 99).map('"{}"'.format),
    ),
    "rollback": st.builds(
        RollBack,
        model=names,
        reason=texts,
        to=st.none() | numbers,
        to_time=st.none() | texts,
        dry_run=st.booleans(),
    ),
    "desired": st.builds(AwaitDesired, after=st.integers(-1, 2**63 - 1), wait=st.floats(0, 60)),
    "put_segment": st.builds(
        PutSegment,
        spool_id=texts.filter(bool),
        seq=st.integers(-(2**63), 2**63 - 1),
        checksum=st.just(Digest("sha256:" + "0" * 64)),
        body=st.binary(),
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
@given(data=st.data())
def test_a_request_survives_the_wire(name, data):
    """Whatever a request says, it says after it was written and read again."""
    request = data.draw(REQUESTS[name])
    assert read_request(OPERATIONS[name], write_request(OPERATIONS[name], request)) == request


def test_a_form_survives_the_wire():
    """The parts of a form are the fields of its request."""
    registration = Registration(model=ModelName("credit"), flavor="sklearn", task="binary", description="ü")
    request = Register(model=registration.model, registration=registration, artifact=io.BytesIO(b"tar"))
    assert read_request(OPERATIONS["register"], write_request(OPERATIONS["register"], request)) == request


@given(texts.filter(bool))
def test_a_name_stays_one_segment_of_its_path(name):
    """No id, whatever is in it, makes a path of other segments."""
    url = url_of(OPERATIONS["incident"], Message(path={"incident_id": name}))
    assert url.isascii()
    assert url.count("/") == OPERATIONS["incident"].url.count("/")


@pytest.mark.parametrize(
    ("name", "message", "said"),
    [
        ("stats", Message(), "has no query parameter 'model'"),
        ("stats", Message(query={"model": ("a", "b")}), "given 2 times"),
        ("stats", Message(query={"model": ("A",)}), "not a model name"),
        ("events", Message(query={"after": ("x",)}), "query parameter 'after' is invalid"),
        ("events", Message(query={"after": ("-1",)}), ">= 0"),
        ("events", Message(query={"after": ("9" * 19,)}), "64 bits"),
        ("events", Message(query={"after": ("9" * 5000,)}), "after"),
        ("events", Message(query={"subject": ("a\0",)}), "NUL"),
        ("events", Message(query={"type": ("x" * 100_001,)}), "100001 characters"),
        ("desired", Message(query={"wait": ("nan",)}), "wait"),
        ("desired", Message(query={"wait": ("inf",)}), "wait"),
        ("version", Message(path={"model": "a", "number": "1e0x"}), "path parameter 'number'"),
        ("version", Message(path={"model": "a", "number": "0"}), ">= 1"),
        ("add_key", Message(body=b'{"scopes": ["read"]}'), "has no body member 'label'"),
        ("add_key", Message(body=b'{"scopes": ["read"], "label": 3}'), "body member 'label' is invalid"),
        ("add_key", Message(body=b'{"scopes": ["read"], "label": "x", "lable": "y"}'), "did you mean 'label'"),
        ("add_key", Message(body=b"[]"), "expected a JSON object"),
        ("add_key", Message(body=b""), "not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, message, said):
    """A field that is missing, given twice, out of its range or unknown is the caller's error and is named."""
    with pytest.raises(InvalidValue, match=said):
        read_request(OPERATIONS[name], message)


@pytest.mark.parametrize("tag", ["", "*", "-1", '"1", "2"', "9" * 19, "9" * 5000, "²"])
def test_a_generation_is_a_number(tag):
    """If-Match that is no generation is refused when it is asked for."""
    with pytest.raises(InvalidInput):
        generation_of(tag)


def test_servers_of_a_newer_version_are_understood():
    """A report with keys that this Mendel does not know is read; what people send with such keys is refused."""
    report = {"server": "s", "epoch": "e", "seq": 1, "at": "2026-01-01T00:00:00Z", "revision": 1, "ready": True}
    told = to_json({**report, "spool": {}, "humour": "good"})
    assert read_request(OPERATIONS["post_report"], Message(path={"server": "s"}, body=told)).body.server == "s"
    image = to_json({"reference": "a", "digest": "sha256:" + "0" * 64, "humour": "good"})
    with pytest.raises(InvalidValue, match="unknown key 'humour'"):
        read_request(OPERATIONS["record_image"], Message(path={"model": "a", "number": "1"}, body=image))
