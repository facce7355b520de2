"""Settings: where they come from, which wins, and what is refused."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import timedelta

import pytest

from mendel.app.settings import OTHER_VARIABLES, Settings, explain_settings, read_settings
from mendel.errors import InvalidSettings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory without a settings file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(directory, text, name="mendel.yaml"):
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def leaves(noun, prefix=""):
    for one in fields(noun):
        value = getattr(noun, one.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}"


def read(noun, key):
    for name in key.split("."):
        noun = getattr(noun, name)
    return noun


class TestPrecedence:
    def test_flag_over_environment_over_file_over_default(self, elsewhere):
        """Each layer wins over those below it, key by key, and explain says which won."""
        file = written(elsewhere, "hub: {port: 1, host: 0.0.0.0, ship_every: 1s, look_every: 2s}\n")
        environment = {"MENDEL_HUB__PORT": "2", "MENDEL_HUB__HOST": "::1", "MENDEL_HUB__SHIP_EVERY": "5m"}
        flags = {"hub.port": 3, "hub.host": None}
        found = read_settings(environment=environment, flags=flags).hub
        assert (found.port, found.host, found.ship_every) == (3, "::1", timedelta(minutes=5))
        assert (found.look_every, found.anchor_every) == (timedelta(seconds=2), timedelta(hours=1))
        told = {one.key: (one.value, one.source) for one in explain_settings(environment=environment, flags=flags)}
        assert told["hub.port"] == ("3", "flag")
        assert told["hub.host"] == ("::1", "environment")
        assert told["hub.ship_every"] == ("5m", "environment")
        assert told["hub.look_every"] == ("2s", file.name)
        assert told["hub.anchor_every"] == ("1h", "default")

    def test_the_file_is_the_one_named(self, elsewhere):
        """--config wins over MENDEL_CONFIG, which wins over mendel.yaml; a named file that is missing is an error."""
        for place, name in enumerate(("mendel.yaml", "a.yaml", "b.yaml")):
            written(elsewhere, f"hub: {{port: {place}}}\n", name)
        named = {"MENDEL_CONFIG": str(elsewhere / "a.yaml")}
        assert read_settings(environment={}).hub.port == 0
        assert read_settings(environment=named).hub.port == 1
        assert read_settings(environment=named, file=elsewhere / "b.yaml").hub.port == 2
        for missing in ({"environment": {"MENDEL_CONFIG": "no.yaml"}}, {"environment": {}, "file": elsewhere / "no"}):
            with pytest.raises(InvalidSettings, match=r"The settings file .* does not exist"):
                read_settings(**missing)

    def test_an_empty_file_is_every_default(self, elsewhere):
        """A file that says nothing, or the defaults, changes nothing; YAML reads off as a truth value."""
        written(elsewhere, "# nothing\n")
        assert read_settings(environment={}) == Settings()
        written(elsewhere, "serving: {accelerate: off, repository_control: off}\n")
        assert read_settings(environment={}) == Settings()


TEXTS = {
    bool: ("true", True),
    int: ("7", 7),
    float: ("0.25", 0.25),
    timedelta: ("90s", timedelta(seconds=90)),
    tuple: ("8001, 8002", (8001, 8002)),
    dict: ("age=keep, name=hash", {"age": "keep", "name": "hash"}),
    type(None): ("1024", 1024),
    str: ("batch", "batch"),
}
CHOICES = {
    "log_format": ("json", "json"),
    "serving.doors": ("fast", "fast"),
    "serving.repository_control": ("explicit", "explicit"),
    "serving.accelerate": ("onnx", "onnx"),
    "serving.backend": ("process", "process"),
    "serving.environments": ("fixed", "fixed"),
    "serving.model_python": ("/venv/bin/python", "/venv/bin/python"),
    "serving.model_roots": ("/models, /more", ("/models", "/more")),
    **dict.fromkeys((f"serving.tls.{name}" for name in ("certificate", "key", "client_ca")), ("/a.pem", "/a.pem")),
    "serving.zmq_key": ("/keys/server.key_secret", "/keys/server.key_secret"),
    "serving.zmq_clients": ("/keys/callers", "/keys/callers"),
    "hub.anchor_copies": ("/mnt/a, /mnt/b", ("/mnt/a", "/mnt/b")),
    "hub.project_roots": ("/srv/git, /more", ("/srv/git", "/more")),
}
"""A value that a key takes, where its type takes few, or where a tuple holds text."""


class TestEnvironment:
    @pytest.mark.parametrize("key", list(leaves(Settings())))
    def test_every_key_is_reachable(self, key):
        """MENDEL_<SECTION>__<KEY> sets any key there is, and explain says so."""
        text, value = CHOICES.get(key) or TEXTS[type(read(Settings(), key))]
        environment = {f"MENDEL_{key.upper().replace('.', '__')}": text}
        assert read(read_settings(environment=environment), key) == value
        (origin,) = [one for one in explain_settings(environment=environment) if one.key == key]
        assert origin.source == "environment"

    def test_explained_is_every_key_once(self):
        """Every key has one line, in order."""
        told = [one.key for one in explain_settings(environment={})]
        assert told == sorted(leaves(Settings()))

    @pytest.mark.parametrize("name", sorted(OTHER_VARIABLES - {"MENDEL_CONFIG"}))
    def test_variables_that_are_no_settings_are_let_be(self, name):
        """What tells where the hub or its key is, is not refused as an unknown key."""
        assert read_settings(environment={name: "x", "PATH": "/bin", "MENDELSSOHN": "op. 64"}) == Settings()

    @pytest.mark.parametrize(
        "environment",
        [
            {"MENDEL_HUB": "3", "MENDEL_HUB__PORT": "1"},
            {"MENDEL_HUB__PORT": "1", "MENDEL_HUB": "3"},
            {"MENDEL_HUB": "3"},
            {"MENDEL_HUB__PORT": ""},
            {"MENDEL_HUB__PORT": "eighty"},
            {"MENDEL_HUB__PORT__X": "1"},
            {"MENDEL_SERVING__REST_PORTS": "a,b"},
            {"MENDEL_SERVING__REST_PORTS": ""},
            {"MENDEL_SPOOL__FEATURES": "age=burn"},
            {"MENDEL_HUB__LOOK_EVERY": "often"},
        ],
    )
    def test_nonsense_is_refused(self, environment):
        """A value that does not fit is InvalidSettings, whatever else is set."""
        with pytest.raises(InvalidSettings):
            read_settings(environment=environment)


class TestRefusals:
    @pytest.mark.parametrize(
        ("layers", "said"),
        [
            ({"environment": {"MENDEL_HUB__PROT": "1"}}, "environment.hub: unknown key 'prot'; did you mean 'port'?"),
            (
                {"environment": {"MENDEL_SERVNG__WORKERS": "1"}},
                "environment: unknown key 'servng'; did you mean 'serving'?",
            ),
            ({"environment": {}, "flags": {"hub.prt": 1}}, "flag.hub: unknown key 'prt'; did you mean 'port'?"),
        ],
    )
    def test_an_unknown_key_is_told_where_it_stands(self, layers, said):
        """The layer, the key and the nearest known one."""
        with pytest.raises(InvalidSettings) as caught:
            read_settings(**layers)
        assert str(caught.value) == said

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("hub: {prot: 1}", "mendel.yaml.hub: unknown key 'prot'; did you mean 'port'?"),
            ("hub: 3", "3 is not a mapping"),
            ("hub:", "None is not a mapping"),
            ("- hub", "is not a mapping"),
            ("hub: {port: 1", "is not YAML"),
            ("hub: {port: !!python/object:os.system {}}", "is not YAML"),
            ("hub: {port: 70000}", "hub.port must be a port from 1 to 65535, or 0 for any free port, not 70000"),
            ("hub: {port: -1}", "not -1"),
            ("serving: {rest_ports: []}", "at least one port"),
            ("serving: {repository_control: on}", "serving.repository_control"),
            ("serving: {workers: -1}", "serving.workers must be 0 or more"),
            ("serving: {max_rows: 0}", "serving.max_rows must be 1 or more"),
            ("hub: {look_every: 0s}", "hub.look_every must be longer than 0"),
            ("spool: {fsync: sometimes}", "spool.fsync is 'sometimes'"),
            ("resilience: {circuit_breaker: {failure_rate: 2}}", "The circuit breaker settings are invalid"),
            ("resilience: {bulkhead: {max_concurrent: 0}}", "The bulkhead settings are invalid"),
        ],
    )
    def test_a_file_is_read_whole_or_refused(self, elsewhere, text, said):
        """Whatever is wrong in the file is told with its name."""
        written(elsewhere, text)
        with pytest.raises(InvalidSettings) as caught:
            read_settings(environment={})
        assert said in str(caught.value)
        assert "mendel.yaml" in str(caught.value)

    def test_what_is_wrong_below_is_not_hidden_by_what_is_above(self, elsewhere):
        """A flag does not cover up nonsense in the file."""
        written(elsewhere, "hub: {port: eighty}")
        with pytest.raises(InvalidSettings, match=r"mendel\.yaml"):
            read_settings(environment={}, flags={"hub.port": 80})

    def test_no_text_is_told_as_that(self, elsewhere):
        """A file that is not UTF-8 is refused, not decoded by luck."""
        (elsewhere / "mendel.yaml").write_bytes(b"hub: {host: \xff}")
        with pytest.raises(InvalidSettings, match="is not YAML"):
            read_settings(environment={})


class TestInterpolation:
    def test_variables_fill_the_file(self, elsewhere):
        """${NAME} is the variable, ${NAME:default} its default where it is not set."""
        written(elsewhere, "hub: {host: '${HOST:127.0.0.2}', port: ${PORT:81}, url: '${URL:}'}\n")
        assert read_settings(environment={}).hub.host == "127.0.0.2"
        filled = read_settings(environment={"PORT": "82", "HOST": "::1", "URL": "http://hub"}).hub
        assert (filled.host, filled.port, filled.url) == ("::1", 82, "http://hub")

    def test_a_variable_without_value_or_default_is_refused(self, elsewhere):
        """A hole in the file is an error that names the variable."""
        written(elsewhere, "hub: {port: ${PORT}}\n")
        with pytest.raises(InvalidSettings, match=r"\$\{PORT\} names an environment variable that is not set"):
            read_settings(environment={})


class TestSecrets:
    def test_credentials_in_a_url_are_masked(self):
        """What explain prints holds no password, wherever it was set."""
        environment = {"MENDEL_HUB__URL": "https://ann:s3cret@hub.example:8443/x"}
        told = {one.key: one.value for one in explain_settings(environment=environment)}
        assert told["hub.url"] == "https://***@hub.example:8443/x"
        assert "s3cret" not in str(explain_settings(environment=environment))

    def test_the_root_is_absolute(self, elsewhere):
        """The data directory does not move when the process does."""
        assert read_settings(environment={}, flags={"directory": "x"}).root == elsewhere / "x"
