"""The command line: helps quickly, prints tables or JSON, refuses in one sentence."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys

import pytest

from mendel import __version__
from mendel.app.cli.main import command_names
from mendel.app.cli.output import print_table
from mendel.app.project.installed_tool import this_tool
from mendel.values import Scope

HEAVY = (
    "alembic",
    "dbos",
    "deltalake",
    "fastapi",
    "grpc",
    "httpx",
    "mlflow",
    "msgspec",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "structlog",
    "uvicorn",
    "yaml",
    "zmq",
)
NAMES = sorted(command_names())


@pytest.fixture
def directory(tmp_path):
    return tmp_path / ".mendel"


class TestHelp:
    @pytest.mark.parametrize("words", NAMES, ids=" ".join)
    def test_every_command_explains_itself(self, mendel, words):
        """--help of every command ends with 0, shows its usage, and says what it does."""
        said = mendel(*words, "--help")
        assert (said.code, said.err) == (0, "")
        assert f"mendel {' '.join(words)}" in said.out
        assert len([line for line in said.out.splitlines() if line.strip()]) > 3

    def test_the_words_of_the_house_are_commands(self):
        """What the documentation tells people to type is there."""
        assert {
            ("up",),
            ("hub",),
            ("serve",),
            ("tag",),
            ("train",),
            ("models",),
            ("promote",),
            ("rollback",),
            ("monitor",),
            ("demo",),
            ("healing", "pause"),
            ("ledger", "verify"),
            ("config", "show"),
        } <= set(NAMES)

    @pytest.mark.parametrize(
        ("words", "typers_own"),
        [(["--help"], set()), (["tag", "--help"], {"pydantic"}), (["ledger", "verify", "--help"], {"pydantic"})],
    )
    def test_help_imports_nothing_heavy(self, words, typers_own):
        """Help is quick because it imports no library but the one that reads the command line."""
        probe = (
            "import sys; sys.argv = ['mendel', *sys.argv[1:]]\n"
            "from mendel.app.cli.main import main\n"
            "try: main()\n"
            "except SystemExit as end: assert not end.code\n"
            f"print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", probe, *words], capture_output=True, text=True, check=True, timeout=60
        )
        assert set(done.stderr.split()) <= typers_own
        assert "Usage: mendel" in done.stdout

    def test_without_a_command_it_helps(self, mendel):
        """`mendel` alone shows the commands; that is a usage error."""
        said = mendel()
        assert said.code == 2
        assert "Usage: mendel" in said.out + said.err


class TestUsage:
    @pytest.mark.parametrize(
        "words",
        [
            ["no-such-command"],
            ["models", "--no-such-option"],
            ["versions"],
            ["promote"],
            ["approve", "credit@1"],
            ["rollback", "credit"],
            ["rollback", "credit", "--reason", "x", "--to", "one"],
            ["canary", "credit@1", "half"],
            ["policy", "set", "credit", "no-such-file.yaml"],
            ["labels", "import", "no-such-file.csv"],
            ["train", "--data", "no-such-file.csv"],
            ["keys", "add"],
            ["ledger", "show", "--limit", "0"],
            ["hub", "--port", "eighty"],
            ["demo", "--target", "x"],
        ],
        ids=" ".join,
    )
    def test_usage_errors_end_with_two(self, mendel, words):
        """What cannot be read as a command ends with 2, before anything is opened."""
        said = mendel(*words)
        assert said.code == 2
        assert said.out == "" or words == []
        assert "Error" in said.err

    @pytest.mark.parametrize(
        ("words", "sentence", "remedy"),
        [
            (["versions", "Credit"], "'Credit' is not a model name.", "lower-case letters"),
            (["versions", "credit"], "credit", ""),
            (["promote", "credit"], "'credit' is not a model version.", "Write NAME@N, for example credit@3."),
            (["approve", "credit@1", "--policy"], "credit@1", ""),
            (["incident", "INC-2026-1"], "INC-2026-1", ""),
            (["runs", "RUN-2026-1"], "RUN-2026-1", ""),
            (["history", "credit"], "credit", ""),
            (["playbook", "credit", "retrain"], "credit", ""),
            (["keys", "add", "--scope", "root", "--label", "x"], "root is no scope.", "Scopes are predict"),
            (["config", "show", "--config", "no-such.yaml"], "There is no settings file no-such.yaml.", "--config"),
            (["hub", "--port", "70000"], "hub.port is a port from 0", ""),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_refusals_end_with_one(self, mendel, directory, words, sentence, remedy):
        """What is refused ends with 1, one sentence on standard error, and what to do below it."""
        said = mendel(*words, "-C", directory)
        assert (said.code, said.out) == (1, "")
        first, *rest = said.err.splitlines()
        assert first.startswith("error: ")
        assert sentence in first
        assert remedy in " ".join(rest)
        assert "Traceback" not in said.err


class TestEmptyDirectory:
    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["models"], "No model is registered. Train one with: mendel train"),
            (["incidents"], "No incident was ever opened."),
            (["runs"], "No playbook was ever run."),
        ],
        ids=" ".join,
    )
    def test_nothing_is_said_as_a_sentence(self, mendel, directory, words, text):
        """An empty list is a sentence for people, and an empty list for programs."""
        assert mendel(*words, "-C", directory).out == f"{text}\n"
        assert json.loads(mendel(*words, "-C", directory, "--json").out) == []

    @pytest.mark.parametrize(
        "words",
        [
            ["version"],
            ["models"],
            ["incidents"],
            ["runs"],
            ["ledger", "show"],
            ["ledger", "verify"],
            ["policy", "show", "credit"],
            ["keys", "add", "--scope", "read", "--label", "x"],
            ["config", "show"],
        ],
        ids=" ".join,
    )
    def test_json_is_json(self, mendel, directory, words):
        """--json prints one JSON document and nothing else."""
        said = mendel(*words, *([] if words == ["version"] else ["-C", directory]), "--json")
        assert (said.code, said.err) == (0, "")
        assert json.loads(said.out) is not None

    def test_the_ledger_is_shown_and_verified(self, mendel, directory):
        """What a command does stands in the ledger, under its user, and is proved."""
        secret = mendel("keys", "add", "--scope", "read", "--scope", "label", "--label", "dashboards", "-C", directory)
        assert len(secret.out.strip()) >= 40
        shown = mendel("ledger", "show", "-C", directory).out
        assert f"cli:{getpass.getuser()}" in shown.splitlines()[-1]
        assert "key.added" in shown.splitlines()[-1]
        assert secret.out.strip() not in shown
        verified = mendel("ledger", "verify", "-C", directory).out
        assert verified.startswith("The ledger holds: entries 1 to 2, head ")
        assert "No anchor was signed yet: it is merely consistent." in verified

    def test_a_user_without_a_name_may_act(self, mendel, directory, monkeypatch):
        """In a container whose user id has no name, commands work."""

        def nameless():
            raise KeyError("getpwuid(): uid not found")

        monkeypatch.setattr(getpass, "getuser", nameless)
        assert mendel("keys", "add", "--scope", "read", "--label", "x", "-C", directory).code == 0

    def test_any_name_may_act(self, mendel, directory, monkeypatch):
        """A name beyond ASCII reaches the ledger as it is."""
        monkeypatch.setattr(getpass, "getuser", lambda: "jürgen")
        mendel("keys", "add", "--scope", "read", "--label", "x", "-C", directory)
        assert "cli:jürgen" in mendel("ledger", "show", "-C", directory).out

    def test_policies_come_from_files(self, mendel, directory, tmp_path):
        """A policy file is read whole or refused with its place; what was set is shown again."""
        good, bad, broken = (tmp_path / name for name in ("good.yaml", "bad.yaml", "broken.yaml"))
        good.write_text("rollback: {error_rate: 0.1, window: 5m}\n")
        bad.write_text("rollback: {eror_rate: 0.1}\n")
        broken.write_text("rollback: {")
        assert mendel("policy", "set", "credit", good, "-C", directory).out.startswith("credit: policy version 1, ")
        assert mendel("policy", "set", "credit", good, "-C", directory).out.startswith("credit: policy version 1, ")
        for file, said in ((bad, "did you mean 'error_rate'?"), (broken, "is not YAML")):
            refused = mendel("policy", "set", "credit", file, "-C", directory)
            assert refused.code == 1
            assert str(file) in refused.err
            assert said in refused.err
        assert "error_rate: 0.1" in mendel("policy", "show", "credit", "-C", directory).out


class TestVersionAndConfig:
    def test_version_tells_tool_commit_and_python(self, mendel):
        """Without a project, and as JSON."""
        said = mendel("version")
        assert said.out.startswith(f"mendel {__version__}, commit ")
        told = json.loads(mendel("version", "--json").out)
        assert told["version"] == __version__
        assert told["commit"] == this_tool().commit

    def test_config_tells_where_values_come_from(self, mendel, tmp_path, monkeypatch):
        """Flag, environment, file and default, each named."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MENDEL_HUB__PORT", "81")
        (tmp_path / "mendel.yaml").write_text("hub: {host: 127.0.0.2, url: 'http://ann:s3cret@x'}\n")
        said = mendel("config", "show", "-C", "elsewhere")
        rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()[2:] if line.strip()}
        assert rows["directory"] == ["elsewhere", "flag"]
        assert rows["hub.port"] == ["81", "environment"]
        assert rows["hub.host"] == ["127.0.0.2", "mendel.yaml"]
        assert rows["hub.look_every"] == ["1s", "default"]
        assert "s3cret" not in said.out

    def test_the_directory_of_the_settings_file_is_used(self, mendel, tmp_path, monkeypatch):
        """MENDEL_CONFIG tells every command where the data are."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.yaml").write_text(f"directory: {tmp_path}/there\n")
        monkeypatch.setenv("MENDEL_CONFIG", str(tmp_path / "a.yaml"))
        assert mendel("models").code == 0
        assert (tmp_path / "there" / "mendel.db").exists()
        assert not (tmp_path / ".mendel").exists()


def test_tables_never_cut_names_off(capsys):
    """Piped, a table is as wide as its widest cell."""
    name = "rfq_likelihood_rfq_features_only_" * 8
    print_table("T", ("Name", "Scope"), [(name, Scope.READ), ("x", None)], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "T"
    assert lines[2] == f" {name}  read"
    assert lines[3].split() == ["x", "None"]
