"""The command line: helps quickly, prints tables or JSON, refuses in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from mendel import __version__
from mendel.app.cli.main import commands
from mendel.app.cli.output import Grid, Result, emit
from mendel.app.project.installed_tool import this_tool
from mendel.app.settings import Settings
from mendel.app.wiring import open_rooms
from mendel.values import Scope
from support.principals import ME

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
COMMANDS = dict(commands())
NAMES = sorted(COMMANDS)
NOUNS = sorted({words[:-1] for words in NAMES})
SECTIONS = ["Start", "Release", "Image", "Model", "Watch", "Repair", "Prove", "System"]
RUN_FOR_LONG = {("demo",), ("up",), ("hub",), ("serve",)}
OF_MLSERVER = (
    *("init", "serve", "version", "tag", "lock", "build", "images", "push", "run", "clean", "verify"),
    *("list-classifiers", "status", "init-github", "init-gitlab"),
)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """Make a data directory without models."""
    place = tmp_path_factory.mktemp("used") / ".mendel"
    with open_rooms(Settings(directory=str(place))):
        pass
    return place


@pytest.fixture
def directory(tmp_path, used):
    return shutil.copytree(used, tmp_path / ".mendel")


class TestHelp:
    @pytest.mark.parametrize("words", NAMES, ids=" ".join)
    def test_every_command_explains_itself(self, mendel, words):
        """--help of every command ends with 0, shows its usage, and says what it does."""
        said = mendel(*words, "--help")
        assert (said.code, said.err) == (0, "")
        assert f"mendel {' '.join(words)}" in said.out
        assert len([line for line in said.out.splitlines() if line.strip()]) > 3

    @pytest.mark.parametrize("words", NAMES, ids=" ".join)
    def test_the_short_help_is_one_whole_sentence(self, words):
        """A command or group says in one sentence of at most 60 characters what it does."""
        text = COMMANDS[words].short_help
        assert 8 < len(text) <= 60
        assert text.endswith(".")
        assert not text.endswith("..")

    @pytest.mark.parametrize("noun", NOUNS, ids=" ".join)
    def test_each_command_has_one_line(self, mendel, noun, monkeypatch):
        """On a terminal of 80 columns, a list of commands has one line for each, and cuts none off."""
        monkeypatch.setenv("COLUMNS", "80")
        lines = mendel(*noun, "--help").out.splitlines()
        assert max(map(len, lines)) <= 80
        below = {words[-1]: COMMANDS[words] for words in NAMES if words[:-1] == noun}
        found = {
            line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.startswith("  ") and line.strip()
        }
        shown = {name: command.short_help for name, command in below.items() if not command.hidden}
        assert {name: found.get(name) for name in shown} == shown
        assert not {name for name, command in below.items() if command.hidden} & found.keys()

    def test_commands_are_grouped_by_what_people_want(self, mendel):
        """The sections stand in the order in which people need them, the demo first."""
        lines = mendel("--help").out.splitlines()
        assert [line[:-1] for line in lines if line.endswith(":") and line != "Options:"] == SECTIONS
        assert lines[lines.index("Start:") + 1].split()[0] == "demo"

    @pytest.mark.parametrize("name", OF_MLSERVER)
    def test_the_commands_of_mlserver_are_shown(self, name):
        """Who knows the older tool finds each of its commands."""
        assert not COMMANDS[name,].hidden

    def test_what_returns_something_has_json(self):
        """Every command has --json but those that run until they are stopped."""
        flags = {words: {flag for param in COMMANDS[words].params for flag in param.opts} for words in NAMES}
        without = {words for words in NAMES if words not in NOUNS and "--json" not in flags[words]}
        assert without == RUN_FOR_LONG

    @pytest.mark.parametrize("words", [["--help"], ["tag", "--help"], ["ledger", "verify", "--help"]], ids=" ".join)
    def test_help_imports_nothing_heavy(self, words):
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
        assert done.stderr.split() == []
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
            ["promote", "credit@1", "--at", "tomorrow"],
            ["promote", "credit@1", "--at", "2027-01-01T12:00"],
            ["shadow", "credit"],
            ["fallback", "credit@1", "--off"],
            ["history"],
            ["history", "credit", "--at", "2026-03-01T12:00"],
            ["diff"],
            ["diff", "--from", "2999-01-01T00:00Z"],
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
        ("words", "meant"),
        [
            (["modles"], "models"),
            (["incident-list"], "incidents"),
            (["runs", "aprove", "INC-2026-1-1"], "approve"),
            (["models", "lst"], "list"),
            (["promte", "credit@1"], "promote"),
            (["pause", "--reason", "x"], "healing pause"),
            (["import", "labels.csv"], "labels import"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else value,
    )
    def test_a_misspelt_command_is_answered_with_the_nearest(self, mendel, words, meant):
        """The error names the command that was probably meant, never one that the help does not show."""
        said = mendel(*words)
        assert said.code == 2
        assert f"Did you mean '{meant}'?" in said.err

    def test_run_and_runs_are_told_apart(self, mendel):
        """The help of the command that runs images names the one that lists runs of playbooks."""
        assert "mendel runs" in mendel("run", "--help").out

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
            (["keys", "add", "--scope", "root", "--label", "x"], "Unknown scope: root.", "scopes are predict"),
            (
                ["config", "show", "--config", "no-such.yaml"],
                "The settings file no-such.yaml does not exist.",
                "--config",
            ),
            (["hub", "--port", "70000"], "hub.port must be a port from 1", ""),
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


class TestNames:
    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            (["models"], ["models", "list"]),
            (["incidents"], ["incidents", "list"]),
            (["incidents", "--model", "credit"], ["incidents", "list", "--model", "credit"]),
            (["runs"], ["runs", "list"]),
            (["runs", "INC-2026-1-1"], ["runs", "show", "INC-2026-1-1"]),
            (["incident", "INC-2026-1"], ["incidents", "show", "INC-2026-1"]),
            (["incidents", "INC-2026-1"], ["incidents", "show", "INC-2026-1"]),
            (["resolve", "INC-2026-1", "--reason", "x"], ["incidents", "resolve", "INC-2026-1", "--reason", "x"]),
            (["approve-run", "INC-2026-1-1"], ["runs", "approve", "INC-2026-1-1"]),
            (["decline-run", "INC-2026-1-1", "--reason", "x"], ["runs", "decline", "INC-2026-1-1", "--reason", "x"]),
            (["versions", "credit"], ["models", "versions", "credit"]),
            (["history", "credit"], ["models", "history", "credit"]),
            (["card", "credit@1"], ["models", "card", "credit@1"]),
        ],
        ids=" ".join,
    )
    def test_short_and_former_names_do_the_same(self, mendel, directory, said, meant):
        """A noun alone lists, a noun with an id shows it, and names that were replaced work as before."""
        one, other = mendel(*said, "-C", directory), mendel(*meant, "-C", directory)
        assert (one.code, one.out) == (other.code, other.out)


class TestWrongDirectory:
    @pytest.mark.parametrize(
        "words",
        [
            ["models"],
            ["incidents"],
            ["stats", "credit"],
            ["monitor", "credit"],
            ["rollback", "credit", "--dry-run", "--reason", "x"],
            ["approve", "credit@1", "--policy"],
            ["ledger", "verify"],
            ["down"],
        ],
        ids=" ".join,
    )
    def test_a_command_says_where_it_looked_and_makes_nothing(self, mendel, tmp_path, words):
        """In a directory without data, a command names the place and what to do, and leaves no trace."""
        place = tmp_path / "elsewhere" / ".mendel"
        said = mendel(*words, "-C", place)
        assert (said.code, said.out) == (1, "")
        assert str(place) in said.err
        assert "--directory" in said.err
        assert not list(tmp_path.iterdir())


class TestEmptyDirectory:
    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["models"], "No model is registered in {}. Train one with: mendel train"),
            (["incidents"], "No incident was ever opened."),
            (["runs"], "No playbook was ever run."),
        ],
        ids=" ".join,
    )
    def test_nothing_is_said_as_a_sentence(self, mendel, directory, words, text):
        """An empty list is a sentence for people, and an empty list for programs."""
        assert mendel(*words, "-C", directory).out == f"{text.format(directory)}\n"
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
        """What a command does stands in the ledger, under the user of the directory, and is proved."""
        secret = mendel("keys", "add", "--scope", "read", "--scope", "label", "--label", "dashboards", "-C", directory)
        assert len(secret.out.strip()) >= 40
        shown = mendel("ledger", "show", "-C", directory).out
        assert f"{ME} (this installation)" in shown.splitlines()[-1]
        assert "key.added" in shown.splitlines()[-1]
        assert secret.out.strip() not in shown
        verified = mendel("ledger", "verify", "-C", directory).out
        assert verified.startswith("The hash chain of the ledger is intact: entries 1 to 2, head ")
        assert "No anchor was signed yet, so no signature confirms the entries." in verified

    def test_keys_are_managed(self, mendel, directory):
        """A key is listed with its end, renewed under its id, and revoked; the last admin key is not."""
        made = json.loads(
            mendel(
                "keys", "add", "--scope", "serve", "--label", "edge", "--expires", "90d", "-C", directory, "--json"
            ).out
        )
        renewed = mendel("keys", "rotate", made["id"], "--overlap", "1h", "--expires", "2999-01-31", "-C", directory)
        assert renewed.out.strip().startswith("mendel_")
        own, edge = json.loads(mendel("keys", "-C", directory, "--json").out)
        assert (edge["id"], edge["scopes"], edge["state"]) == (made["id"], ["serve"], "active")
        assert edge["expires_at"] == "2999-01-31T00:00:00Z"
        said = mendel("keys", "revoke", made["id"], "-C", directory)
        assert said.out == f"The key {made['id']} (edge) is revoked.\n"
        assert "revoked" in mendel("keys", "list", "-C", directory).out
        assert mendel("keys", "revoke", own["id"], "-C", directory).code == 1
        assert "neither a duration" in mendel("keys", "rotate", "x", "--expires", "soon", "-C", directory).err

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
        assert mendel("keys", "add", "--scope", "read", "--label", "x").code == 0
        assert (tmp_path / "there" / "mendel.db").exists()
        assert not (tmp_path / ".mendel").exists()


class TestOutput:
    def test_tables_never_cut_names_off(self, capsys):
        """Piped, a table is as wide as its widest cell."""
        name = "rfq_likelihood_rfq_features_only_" * 8
        grid = Grid(title="T", columns=("Name", "Scope"), rows=[(name, Scope.READ), ("x", None)], empty="none")
        assert emit(Result(None, [grid]), as_json=False) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "T"
        assert lines[2] == f" {name}  read"
        assert lines[3].split() == ["x", "None"]

    def test_what_is_yielded_is_one_list_for_programs(self, capsys):
        """A command that yields prints each result as it comes for people, and all of them as one list of JSON."""
        results = [Result({"n": 1}, ["one"]), Result({"n": 2}, ["two"])]
        emit(iter(results), as_json=False)
        assert capsys.readouterr().out == "one\ntwo\n"
        emit(iter(results), as_json=True)
        assert json.loads(capsys.readouterr().out) == [{"n": 1}, {"n": 2}]

    def test_a_refusal_may_be_a_result(self, capsys):
        """A result carries the exit code, and is printed like any other."""
        refused = Result({"holds": False}, ["It does not hold."], exit_code=1)
        assert emit(refused, as_json=True) == 1
        assert json.loads(capsys.readouterr().out) == {"holds": False}
        assert emit(refused, as_json=False) == 1
