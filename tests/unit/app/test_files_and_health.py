"""The small parts of the application: labels from files, policy files, probes, connecting."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from mendel import connect
from mendel.adapters.memory import MemoryUnitOfWork, all_stores
from mendel.app.cli.watch import labels_of_file
from mendel.app.hub.background_jobs import JobState
from mendel.app.hub.health import probe
from mendel.app.project.policy_files import read_policy_file
from mendel.errors import DataDirectoryNotFound, HubUnavailable, InvalidInput, InvalidPolicy, StoreUnavailable
from mendel.registry import MirrorReading, RegistryStore
from mendel.registry.artifact_mirror_repair import LaggingModel
from mendel.values import ExternalServer, ModelName, ServerReport

HUB_ONLY = (
    "alembic",
    "dbos",
    "deltalake",
    "fastapi",
    "mlflow",
    "pandas",
    "pandera",
    "polars",
    "pyarrow",
    "pydantic",
    "sqlalchemy",
    "starlette",
)
LABELS = "prediction_id,true_label\np1,1\np2,\np3,no\n"


class TestLabelling:
    def test_rows_with_an_outcome_are_labels(self, tmp_path):
        """A CSV gives its labels in order; a row without outcome gives none."""
        path = tmp_path / "labels.csv"
        path.write_text(LABELS)
        found = labels_of_file(path, id_column="prediction_id", label_column="true_label", source="crm")
        assert [(one.prediction_id, str(one.true_label), one.label_source) for one in found] == [
            ("p1", "1", "crm"),
            ("p3", "no", "crm"),
        ]
        assert datetime.now(UTC) - found[0].received_at < timedelta(minutes=1)

    def test_a_missing_column_is_told_with_those_there_are(self, tmp_path):
        """The error lists the columns to choose from."""
        path = tmp_path / "labels.csv"
        path.write_text(LABELS)
        with pytest.raises(InvalidInput, match=r"no column 'id'.*columns: prediction_id, true_label"):
            labels_of_file(path, id_column="id", label_column="true_label", source="x")

    def test_a_file_that_is_no_table_is_told(self, tmp_path):
        """Neither CSV nor Parquet is InvalidInput."""
        path = tmp_path / "labels.parquet"
        path.write_bytes(b"no parquet")
        with pytest.raises(InvalidInput):
            labels_of_file(path, id_column="id", label_column="true_label", source="x")


class TestPolicyFiles:
    def test_a_file_is_read_as_it_stands(self, tmp_path):
        """What is written is what is sent, durations as people write them."""
        path = tmp_path / "policy.yaml"
        path.write_text("healing: {cooldown: 5m}\nrollback: {error_rate: 0.1}\ngates:\n")
        assert read_policy_file(path) == {
            "healing": {"cooldown": "5m"},
            "rollback": {"error_rate": 0.1},
            "gates": None,
        }

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"healing: {", "is not YAML"),
            (b"\xff", "is not YAML"),
            (b"- healing", "is not a mapping of sections"),
            (b"healing: 3", "is not a mapping"),
            (b"3: {}", "unknown key '3'"),
            (b"monitoring: {every: 5 minutes}", "is not a duration"),
        ],
    )
    def test_what_is_no_policy_is_told_with_the_file(self, tmp_path, content, said):
        """The error names the file, and the place where there is one."""
        path = tmp_path / "policy.yaml"
        path.write_bytes(content)
        with pytest.raises(InvalidPolicy) as caught:
            read_policy_file(path)
        assert said in str(caught.value)
        assert str(path) in str(caught.value)

    def test_an_empty_file_is_every_default(self, tmp_path):
        """Nothing written, nothing set."""
        path = tmp_path / "policy.yaml"
        path.write_text("# later\n")
        assert read_policy_file(path) == {}


NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Away:
    """Any service that does not answer."""

    @property
    def mlflow_version(self):
        raise StoreUnavailable("It does not answer.")

    def __getattr__(self, name):
        def fail(*_, **__):
            raise StoreUnavailable("It does not answer.")

        return fail


class TestProbes:
    def probed(self, *, jobs=None, mirror=None, **changes):
        parts = {
            "state": MemoryUnitOfWork(all_stores()),
            "lake": SimpleNamespace(tables=lambda: ("a",)),
            "segments": SimpleNamespace(pending=lambda: ()),
            "artifacts": SimpleNamespace(mlflow_version="3.17.2", check=lambda: None),
        }
        return probe(SimpleNamespace(**(parts | changes)), workflows=None, jobs=jobs or {}, now=NOW, mirror=mirror)

    def test_all_is_well(self):
        """Every service of the contract has a word, and all together are healthy."""
        told = self.probed()
        assert told.status == "healthy"
        assert {name: one.status for name, one in told.services.items()} == {
            "database": "healthy",
            "message_queue": "healthy",
            "lake": "healthy",
            "mlflow": "healthy",
            "postgres": "disabled",
            "redis": "disabled",
            "external_api": "disabled",
        }

    @pytest.mark.parametrize(
        ("gone", "services", "overall"),
        [
            ("state", {"database", "message_queue", "external_api"}, "unhealthy"),
            ("lake", {"lake"}, "degraded"),
            ("segments", {"lake"}, "degraded"),
            ("artifacts", {"mlflow"}, "degraded"),
        ],
    )
    def test_a_service_that_is_away_is_told(self, gone, services, overall):
        """Only the state database makes the whole unhealthy; anything else degrades it, and says why."""
        told = self.probed(**{gone: Away()})
        assert told.status == overall
        assert {name for name, one in told.services.items() if one.status == "unhealthy"} == services
        assert {told.services[name].detail for name in services} == {"It does not answer."}

    @pytest.mark.parametrize(
        ("seen", "age", "status"),
        [
            (("healthy", "healthy"), 1, "healthy"),
            (("healthy", "unhealthy"), 1, "degraded"),
            (("unhealthy", "unhealthy"), 1, "unhealthy"),
            (("unhealthy", "unhealthy"), 60, "disabled"),
        ],
    )
    def test_servers_of_remote_models_are_told(self, seen, age, status):
        """They are the external API, as the servers that report now see them; silent servers count for nothing."""
        state = MemoryUnitOfWork(all_stores())
        external = tuple(ExternalServer(address=f"http://{n}:1", status=one) for n, one in enumerate(seen))
        report = ServerReport(
            server="s", epoch="e", seq=1, at=NOW, revision=1, ready=True, spool={}, external_api=external
        )
        received = NOW - timedelta(seconds=age)
        state.write(lambda tx: tx.store(RegistryStore).add_report(report, received_at=received))
        told = self.probed(state=state).services["external_api"]
        assert told.status == status
        assert ("http://1:1: " in told.detail) == (status != "disabled")

    def test_a_lagging_alias_degrades(self):
        """Models whose alias or tags in MLflow could not be repaired are named, with the time and the reason."""
        lagging = LaggingModel(model=ModelName("credit"), since=NOW - timedelta(hours=1), why="database is locked")
        reading = MirrorReading(at=NOW - timedelta(seconds=7), models=3, repaired=2)
        well, ill = (self.probed(mirror=one) for one in (reading, replace(reading, lagging=(lagging,))))
        assert (well.status, "of 3 models compared 7 s ago, 2 repaired" in well.services["mlflow"].detail) == (
            "healthy",
            True,
        )
        assert (ill.status, ill.services["mlflow"].status) == ("degraded", "degraded")
        assert f"credit since {NOW - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}: database is locked" in (
            ill.services["mlflow"].detail
        )

    def test_a_failing_job_degrades(self):
        """A job that fails now is named with its error; one that failed once is not."""
        told = self.probed(jobs={"ship": JobState(failures=2, last_error="full"), "look": JobState(failed_in_all=9)})
        assert (told.status, told.failing_chores) == ("degraded", {"ship": "full"})


class TestConnecting:
    def test_a_url_of_the_environment_is_taken(self, tmp_path, monkeypatch):
        """MENDEL_URL names the hub, and nothing is opened here."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MENDEL_URL", "http://127.0.0.1:9")
        with connect() as client, pytest.raises(HubUnavailable, match=r"http://127\.0\.0\.1:9"):
            client.models()
        assert not client.embedded
        assert list(tmp_path.iterdir()) == []

    def test_without_a_hub_the_directory_is_opened_here(self, tmp_path):
        """Reading a directory that does not exist is an error and creates nothing; the first change creates it."""
        with connect(directory=str(tmp_path / ".mendel")) as client:
            assert (client.embedded, client.where) == (True, str(tmp_path / ".mendel"))
            with pytest.raises(DataDirectoryNotFound, match="nothing was created"):
                client.models()
            assert not list(tmp_path.iterdir())
            client.set_policy("credit", {})
            assert client.models() == ()

    def test_two_may_have_it_open(self, tmp_path):
        """Commands of one directory do not exclude each other, and see each other's changes."""
        where = str(tmp_path / ".mendel")
        with connect(directory=where) as one, connect(directory=where) as other:
            one.set_policy("credit", {"rollback": {"error_rate": 0.1}})
            assert other.policy("credit").version == 1
            other.set_policy("credit", {})
            assert one.policy("credit").version == 2

    def test_a_remote_hub_needs_no_hub_here(self):
        """Where only the base is installed, connecting to a hub's URL works: no library of the hub is imported."""
        probe_ = (
            "import sys\n"
            "class Absent:\n"
            "    def find_spec(self, name, *_):\n"
            f"        if name.split('.')[0] in {HUB_ONLY!r}:\n"
            "            raise ImportError(name)\n"
            "sys.meta_path.insert(0, Absent())\n"
            "import mendel\n"
            "from mendel.errors import HubUnavailable\n"
            "with mendel.connect('http://127.0.0.1:9', key='x') as client:\n"
            "    try: client.models()\n"
            "    except HubUnavailable: print('as it should')\n"
        )
        done = subprocess.run([sys.executable, "-c", probe_], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == "as it should", done.stderr
