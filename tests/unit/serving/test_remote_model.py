"""The description of a model that other servers run, and its artefact."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from mendel.errors import InvalidValue, ModelNotLoadable
from mendel.serving import (
    FLAVOURS,
    RemoteAddress,
    RemoteModel,
    flavour_for,
    load_predictor,
    read_mlmodel,
    write_artifact,
)
from mendel.values import Table

SERVERS = ("http://a:8008", "grpc://b_1.c-d.:7212", "zmq://[::1]:7211", "https://10.0.0.1:443")


@pytest.mark.parametrize("text", SERVERS)
def test_addresses_are_written_as_they_were_read(text):
    """Scheme, host and port make an address; an IPv6 host stays in brackets."""
    assert str(RemoteAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["a:8008", "http://a", "ftp://a:1", "http://:80", "http://a:99999", "http://u:s3cret@a:1", "http://a:1/x",
     "http://a:1?x", "http://[::1", "", "http://a b:80", "http://a..b:80", "http://[::g]:80", "zmq://münchen:1",
     "grpc://-a:1", f"http://{'a' * 64}:1", "http://a:0"],
)  # fmt: skip
def test_other_addresses_are_refused(text):
    """Whatever is no address is refused with the forms that are, and a password in it is not repeated."""
    with pytest.raises(InvalidValue, match="http://HOST:PORT") as caught:
        RemoteModel(servers=(text,))
    assert "s3cret" not in str(caught.value)


def test_the_key_is_named_by_a_variable_of_its_own_prefix():
    """A version cannot make a server send another secret of its environment, nor hold a key itself."""
    RemoteModel(servers=SERVERS, key_variable="REMOTE_MODEL_KEY_CREDIT")
    for name in ("AWS_SECRET_ACCESS_KEY", "REMOTE_MODEL_KEYS", "mk_secret", "REMOTE_MODEL_KEY_x"):
        with pytest.raises(InvalidValue, match="REMOTE_MODEL_KEY"):
            RemoteModel(servers=SERVERS, key_variable=name)


def test_a_model_has_servers():
    """A text or an empty list is no list of servers; a server named twice is one."""
    for servers in ("http://a:1", (), ("http://a:1",) * 65):
        with pytest.raises(InvalidValue, match="1 to 64 servers"):
            RemoteModel(servers=servers)
    assert RemoteModel(servers=("http://a:1", "http://a:1/")).servers == ("http://a:1",)


def test_an_artefact_holds_the_description_and_no_model(tmp_path):
    """What is written is read again; the same model gives the same bytes, and its parity is not measured."""
    model = RemoteModel(servers=SERVERS, model="credit", version="3", key_variable="REMOTE_MODEL_KEY", classes=(0, 1))
    rows = Table({"a": np.array([1.0])})
    digest = write_artifact(model, tmp_path / "one", input_example=rows)
    assert write_artifact(model, tmp_path / "other", input_example=rows) == digest
    mlmodel = read_mlmodel(tmp_path / "one")
    assert RemoteModel.of_section(mlmodel.flavors["remote"]) == model
    assert [flavour.name for flavour in FLAVOURS if flavour.recognises(model)] == ["remote"]
    assert flavour_for(model).describe(mlmodel).classes == (0, 1)
    assert "other servers" in (tmp_path / "one" / "mendel" / "parity.json").read_text()
    with pytest.raises(ModelNotLoadable, match="runs on other servers"):
        load_predictor(tmp_path / "one", digest=digest, project=None)


@pytest.mark.parametrize(
    "section",
    [{}, {"servers": "http://a:1", "model": "m"}, {"servers": ["http://a:1"]}, {"servers": [1], "model": "m"},
     {"servers": ["http://a:1"], "model": "m", "classes": 3}, {"servers": ["a"], "model": "m"},
     {"servers": ["http://a:1"], "model": "m", "key_variable": "HOME"}],
)  # fmt: skip
def test_a_section_of_another_form_is_not_loadable(tmp_path, section):
    """A foreign or damaged MLmodel is refused in words, whatever it holds."""
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {"remote": section}}))
    with pytest.raises(ModelNotLoadable):
        RemoteModel.of_section(read_mlmodel(tmp_path).flavors["remote"])
