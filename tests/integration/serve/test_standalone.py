"""Servers without a hub, as an image runs them: the command line, a project of plain predictors, real sockets."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
import zmq
from sklearn.linear_model import LogisticRegression

import mendel
from mendel.conformance import check
from mendel.errors import DigestMismatch, InvalidValue
from mendel.protos import modelops_pb2, modelops_pb2_grpc
from mendel.serving import read_version_directory, write_artifact, write_version_directory
from mendel.values import ModelName, ServedVersion, VersionUuid
from mendel.values.directory_trees import tree_digest
from support.ports import free_ports

ROWS = {"records": [{"a": 1.0, "b": 2.0}, {"a": -4.0, "b": 0.5}]}


def test_the_doors_answer_equally(alone):
    """REST, gRPC and ZMQ give one answer for the default classifier of a project that nobody registered."""
    server = alone(doors=True).ready()
    ports = server.address().ports
    status, told = server.ask("POST", "/predict", ROWS)
    assert (status, told["predictions"]) == (200, [13.0, 6.5])
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc'][0]}") as channel:
        asked = modelops_pb2.InferenceRequest(model_name="sum", prompt=json.dumps(ROWS))
        over_grpc = json.loads(modelops_pb2_grpc.ModelOpsStub(channel).Infer(asked, timeout=20).response_text)
    over_zmq = ask_zmq(ports["zmq"][0], {"model_name": "sum", "inputs": ROWS["records"]})
    for answer in (over_grpc, over_zmq):
        assert {**answer, "time_ms": 0} == {**told, "time_ms": 0}
    assert server.stop() == 0


def test_an_answer_says_no_number_that_nobody_gave(alone):
    """Without a registered version and a release, version and ids are null, and rows are not logged; so says health."""
    server = alone().ready()
    _, told = server.ask("POST", "/v1/sum/predict", ROWS)
    said = told["metadata"]
    assert (said["model_version"], said["model_uuid"], said["git_tag"], said["git_commit"]) == (None, None, None, None)
    assert (said["classifier"], said["predictor_class"], said["predictor_module"]) == ("sum", "Sum", "models")
    assert said["project"] == "project"
    assert told["prediction_ids"] is None
    assert told["logged"] is False
    assert server.ask("GET", "/health") == (200, {"status": "ok"})
    assert server.ask("GET", "/info")[1]["models"][0]["metadata"] == said
    assert server.ask("GET", "/v2/models/sum")[1]["versions"] == []
    assert "model_version" not in server.ask("POST", "/v2/models/sum/infer", v2([[1.0, 2.0]]))[1]
    assert not (server.directory / "spool").exists()
    server.key = (server.directory / "key").read_text()
    assert server.ask("POST", "/monitoring/labels", {"prediction_id": "x", "true_label": 1})[0] == 501


def test_a_release_is_what_answers_say(alone, project, git):
    """On its tag and clean, the version is the release's; one change later it is none, and the commit says so."""
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", "sum-v1.2.0-mlserver-abc1234", "-m", "release")
    head = git("rev-parse", "HEAD")
    server = alone().ready()
    said = server.ask("POST", "/predict", ROWS)[1]["metadata"]
    assert (said["git_tag"], said["model_version"]) == ("sum-v1.2.0-mlserver-abc1234", "1.2.0")
    assert (said["git_commit"], said["model_uuid"]) == (head, None)
    assert server.ask("POST", "/predict", {"a": 1, "b": 1})[1]["model_version"] == "1.2.0"
    assert server.stop() == 0
    (project / "models.py").write_text((project / "models.py").read_text() + "\n# changed\n")
    said = alone().ready().ask("POST", "/predict", ROWS)[1]["metadata"]
    assert (said["git_tag"], said["model_version"], said["git_commit"]) == (None, None, f"{head}-dirty")


def test_an_image_says_what_its_manifest_and_environment_say(alone, project):
    """Without git, release and commit come from the manifest in the project, and the image's digest from outside."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    release = {"tag": "sum-v2.0.1-mlserver-abc1234", "commit": commit, "repository": "risk", "tool_commit": "abc1234"}
    (project / "mendel-manifest.json").write_text(json.dumps({"format": 1, "release": release, "files": []}))
    digest = f"sha256:{'1' * 64}"
    said = alone(PATH="/nowhere", MENDEL_IMAGE_DIGEST=digest).ready().ask("POST", "/predict", ROWS)[1]["metadata"]
    assert said["image"] == {"tag": release["tag"], "commit": commit, "digest": digest}
    assert (said["project"], said["git_commit"], said["model_version"]) == ("risk", commit, "2.0.1")
    assert said["git_tag"] == release["tag"]


def test_init_kwargs_name_files_of_the_project(alone, project):
    """A relative value that names something of the project is absolute for the predictor, ``model_dir`` too."""
    (project / "bias.txt").write_text("100")
    (project / "weights").mkdir()
    server = alone("--classifier", "filed").ready()
    assert server.ask("POST", "/predict", {"a": 1, "b": 2})[1]["prediction"] == 103.0


def test_which_classifier_is_meant(alone, project):
    """One of several without a default must be named: the error lists them, and nothing starts."""
    text = (project / "mlserver.yaml").read_text()
    (project / "mlserver.yaml").write_text(text.replace("default_classifier: sum\n", ""))
    ended = alone().ended()
    assert ended.code == 1
    assert "sum, proba, filed" in ended.text
    assert "no classifier 'other'" in alone("--classifier", "other").ended().text


def test_without_a_project_there_is_nothing_to_serve(alone, tmp_path):
    """No hub and no project is one sentence, and exit code 1."""
    (tmp_path / "empty").mkdir()
    ended = alone(cwd=tmp_path / "empty").ended()
    assert ended.code == 1
    assert "No hub runs with the data directory" in ended.text
    assert "--path" in ended.text


def test_flags_stand_above_the_file_and_their_defaults_do_not(alone, project):
    """Port, workers and log level are the file's until a flag says otherwise."""
    taken = free_port()
    write(project, f"server: {{host: 127.0.0.1, port: {taken}, workers: 2, log_level: WARNING}}")
    server = alone(port=None, MENDEL_SERVING__WORKERS=None).ready()
    assert server.port == taken
    assert len(server.workers()) == 3, "two workers, and the process of the model"
    assert "worker_started" not in server.log.read_text()
    assert server.stop() == 0
    server = alone("--workers", "1", "--log-level", "info", MENDEL_SERVING__WORKERS=None).ready()
    assert server.port != taken
    assert len(server.workers()) == 2, "one worker, and the process of the model"
    assert '"event": "worker_started"' in server.log.read_text()


@pytest.mark.parametrize(
    ("door", "setting"), [("gRPC", "MENDEL_SERVING__GRPC_PORT"), ("ZMQ", "MENDEL_SERVING__ZMQ_PORT")]
)
def test_a_taken_port_ends_the_start_and_says_how_to_do_without(alone, door, setting):
    """Exit code 1, with the port and the flag that turns the door off; off, the server starts."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        ended = alone(**{setting: str(port)}).ended()
        assert ended.code == 1
        assert f"The {door} port {port}" in ended.text
        assert f"--{door.lower()}-port off" in ended.text
    server = alone(**{setting: "off"}).ready()
    assert server.address().ports[door.lower()] == ()


def test_a_taken_rest_port_of_the_project_is_an_error(alone, project):
    """The port that the file names is not left out silently."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        write(project, f"server: {{host: 127.0.0.1, port: {port}}}")
        ended = alone(port=None).ended()
    assert ended.code == 1
    assert f"The REST port {port} on 127.0.0.1 cannot be opened" in ended.text


def test_a_predictor_that_cannot_be_built_is_not_ready_and_alive(alone, project, check_alive):
    """The model is not ready, and told are type and place, not the words; the process lives, and SIGTERM ends it."""
    write(project, "server: {host: 127.0.0.1}", kind="Broken")
    server = alone()
    server.until(server.address)
    status, told = server.until(lambda: try_model(server, "sum", "Building"))
    assert status == 503
    assert "Building classifier 'sum' failed with RuntimeError at " in str(told)
    assert "the weights are gone" not in str(told)
    assert server.ask("POST", "/predict", ROWS)[0] == 503
    assert check_alive(server).returncode == 0
    assert server.stop() == 0


def test_a_feature_order_that_cannot_be_read_starts_nothing(alone, project):
    """No silent order: the file and what is wrong with it, exit code 1."""
    write(project, "server: {host: 127.0.0.1}\napi: {feature_order: order.json}")
    assert "order.json" in alone().ended().text
    (project / "order.json").write_text('{"a": 1}')
    ended = alone().ended()
    assert ended.code == 1
    assert "is not a JSON array of feature names" in ended.text
    (project / "order.json").write_text('["b", "a"]')
    assert alone("--classifier", "first").ready().ask("POST", "/predict", {"a": 1, "b": 2})[1]["prediction"] == 2.0


def test_sigterm_finishes_what_is_in_flight(alone, project):
    """A request that runs when SIGTERM comes is answered; then the port is free, and the code is 0."""
    server = alone("--classifier", "held").ready()
    told = []
    asking = threading.Thread(target=lambda: told.append(server.ask("POST", "/predict", {"a": 20.0, "b": 0.0})))
    asking.start()
    server.until((project / "held").exists)
    server.process.send_signal(signal.SIGTERM)
    server.until(server.closed)
    (project / "free").touch()
    assert server.process.wait(timeout=20) == 0
    asking.join()
    assert told[0][0] == 200


def test_alive_asks_the_server_of_a_directory(alone, check_alive, tmp_path):
    """0 while it answers; 1 and one line when it was killed, hangs, or never was."""
    server = alone().ready()
    assert check_alive(server).returncode == 0
    server.process.send_signal(signal.SIGSTOP)
    for pid in server.workers():
        os.kill(pid, signal.SIGSTOP)
    hanging = check_alive(server)
    assert hanging.returncode == 1
    assert "does not respond" in hanging.stderr
    server.process.kill()
    server.process.wait()
    gone = check_alive(server)
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    server.directory = tmp_path / "nowhere" / "server"
    assert "No server has been started" in check_alive(server).stderr


def test_alive_imports_the_standard_library_only():
    """A health check every few seconds costs no numpy."""
    program = (
        "import sys, mendel.app.server.healthcheck;"
        "print(*{m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    )
    loaded = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "msgspec", "structlog", "httpx", "yaml"} & set(loaded.split())


def test_nothing_but_the_data_directory_is_written(alone, project, tmp_path):
    """With a read-only project, no HOME and no temporary files, every door opens, and the project stays as it was."""
    before = sorted(project.rglob("*"))
    project.chmod(0o555)
    server = alone(doors=True, HOME=None, TMPDIR=str(tmp_path / "no-such"), USER=None, LOGNAME=None).ready()
    assert sorted(project.rglob("*")) == before
    with grpc.insecure_channel(f"127.0.0.1:{server.address().ports['grpc'][0]}") as channel:
        asked = modelops_pb2.InferenceRequest(model_name="sum", prompt=json.dumps(ROWS))
        assert modelops_pb2_grpc.ModelOpsStub(channel).Infer(asked, timeout=20).status == "ok"
    assert server.stop() == 0


def test_the_base_install_is_enough(alone, tmp_path):
    """Where pandas, polars, sqlalchemy and the hub's other packages cannot be imported, the project is served."""
    absent = tmp_path / "absent"
    absent.mkdir()
    for name in (
        "pandas",
        "polars",
        "sqlalchemy",
        "pyarrow",
        "deltalake",
        "dbos",
        "mlflow",
        "fastapi",
        "pandera",
        "deflate",
    ):
        (absent / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    server = alone("--classifier", "proba", PYTHONPATH=str(absent)).ready()
    assert server.ask("POST", "/predict_proba", ROWS)[1]["classes"] == ["no", "yes"]


def test_a_key_closes_what_was_open(alone):
    """MENDEL_KEY is asked for by every route; without one, predicting is open, said in one loud line."""
    server = alone(MENDEL_KEY="mk_mine")
    server.until(server.address)
    server.key = "mk_mine"
    server.until(lambda: try_health(server, "ok"))
    assert server.ask("POST", "/predict", ROWS)[0] == 200
    assert server.ask("GET", "/status")[0] == 200
    server.key = "mk_other"
    assert server.ask("POST", "/predict", ROWS)[0] == 401
    assert "predict_is_open" not in server.log.read_text()
    assert server.stop() == 0
    assert alone().ready().log.read_text().count("predict_is_open") == 1


def test_a_version_in_a_directory_is_served_as_that_version(alone, tmp_path, carried):
    """Number and uuid are the registry's, rows are logged to the spool, and no project is needed."""
    server = alone("--artifact", str(carried), cwd=tmp_path).ready(model="credit")
    _, told = server.ask("POST", "/predict", {"instances": [[1.0, 2.0]]})
    said = told["metadata"]
    assert (said["model_version"], said["model_uuid"], said["git_tag"]) == ("7", f"m-{7:032x}", None)
    assert len(told["prediction_ids"]) == 1
    assert "logged" not in told
    assert server.stop() == 0
    assert list((server.directory / "spool").rglob("*.seg*"))


def test_the_flags_of_a_kserve_predictor_serve_a_version_by_the_protocol(alone, tmp_path, carried):
    """With the arguments of docs/how-to/serve-on-kserve.md, REST and gRPC on their ports pass every required check."""
    (rest, grpc_port), home = free_ports(2), tmp_path / "home"
    arguments = ("--artifact", str(carried), "--host", "127.0.0.1", "--port", str(rest), "--grpc-port", str(grpc_port))
    server = alone(*arguments, "--zmq-port", "off", cwd="/", MENDEL_SERVING__REST_PORTS=None, HOME=str(home))
    server.ready(model="credit")
    report = check(f"http://127.0.0.1:{rest}", grpc=f"127.0.0.1:{grpc_port}", model="credit", required_only=True)
    assert report.failed == ()
    assert server.stop() == 0


def test_a_version_of_the_registry_is_served_by_its_uri(alone, tmp_path):
    """``models:/NAME@STAGE`` serves the newest version in the stage; a stage without a version names the way on."""
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    with mendel.connect(directory=str(tmp_path / "data")) as registry:
        for swapped in (False, True):
            registry.register_baseline(
                model=LogisticRegression().fit(rows, [1, 0] if swapped else [0, 1]),
                model_type="classification",
                name="credit",
                input_example=rows,
            )
    server = alone("models:/credit@development", cwd=tmp_path).ready(model="credit")
    _, told = server.ask("POST", "/predict", {"instances": rows.tolist()})
    assert (told["metadata"]["model_version"], told["predictions"]) == ("2", [1, 0])
    assert server.stop() == 0
    ended = alone("models:/credit@production", cwd=tmp_path).ended()
    assert ended.code == 1
    assert "no version in the stage 'production'" in ended.text
    assert "mendel models versions credit" in ended.text


def test_a_changed_version_is_not_served(alone, tmp_path, carried):
    """The artefact is checked by its digest before anything of it is read."""
    (carried / "artifact" / "MLmodel").write_text("flavors: {}")
    server = alone("--artifact", str(carried), cwd=tmp_path)
    server.until(server.address)
    assert server.until(lambda: try_model(server, "credit", "digest"))[0] == 503


def test_a_version_directory_reads_as_it_was_written(tmp_path, carried):
    """Round trip; the same twice, byte for byte; a tree that is another is refused, and so is a place that is taken."""
    found = read_version_directory(carried)
    assert (found.model, found.version.number) == ("credit", 7)
    assert tree_digest(carried / "artifact") == found.version.artifact_digest
    again = tmp_path / "again"
    write_version_directory(again, found.model, found.version, carried / "artifact")
    assert tree_digest(again) == tree_digest(carried)
    with pytest.raises(InvalidValue, match="not empty"):
        write_version_directory(again, found.model, found.version, carried / "artifact")
    with pytest.raises(DigestMismatch):
        write_version_directory(tmp_path / "other", found.model, found.version, tmp_path / "again")


def test_a_hub_has_the_last_word(alone, project, hub, tmp_path):
    """With MENDEL_URL the same command asks the hub, and what a server without one left behind is not served."""
    assert alone().ready().stop() == 0
    server = alone(MENDEL_URL=hub.url)
    server.until(server.address)
    assert server.until(lambda: try_health(server, "{"))[0] in {200, 503}
    assert server.ask("POST", "/v1/sum/predict", ROWS)[0] in {404, 503}


@pytest.fixture
def carried(tmp_path):
    """Version 7 of credit, as an image carries it."""
    tree = tmp_path / "tree"
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    digest = write_artifact(LogisticRegression().fit(rows, [0, 1]), tree, input_example=rows)
    served = ServedVersion(
        number=7,
        uuid=VersionUuid(f"m-{7:032x}"),
        artifact_digest=digest,
        flavor="sklearn",
        signature=None,
        task="classification",
        registered_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    write_version_directory(tmp_path / "carried", ModelName("credit"), served, tree)
    shutil.rmtree(tree)
    return tmp_path / "carried"


def write(project, more, *, kind="Sum"):
    """Replace the project's file by one with *more* in front, whose ``sum`` is a *kind*."""
    (project / "mlserver.yaml").write_text(
        f"{more}\ndefault_classifier: sum\nclassifiers:\n"
        f"  sum: {{predictor: {{module: models, class_name: {kind}}}}}\n"
        "  first: {predictor: {module: models, class_name: First}}\n"
    )


def v2(rows):
    """A v2 body."""
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [len(rows), len(rows[0])], "data": rows}]}


def ask_zmq(port, data):
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.set(zmq.LINGER, 0)
        client.connect(f"tcp://127.0.0.1:{port}")
        client.send_json({"type": "inference_request", "request_id": "1", "data": data})
        assert client.poll(20_000)
        return client.recv_json()["data"]


def try_health(server, part):
    """What /health says once *part* is in it."""
    return _tried(server, "/health", part)


def try_model(server, model, part):
    """What the readiness of a model says once *part* is in it."""
    return _tried(server, f"/v2/models/{model}/ready", part)


def _tried(server, path, part):
    try:
        status, told = server.ask("GET", path, timeout=2)
    except (OSError, http.client.HTTPException):
        return None
    return (status, told) if part in str(told) else None


def free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return listening.getsockname()[1]


@pytest.fixture
def check_alive():
    """Runs the health check of an image against a server's data directory."""

    def check(server):
        arguments = [sys.executable, "-m", "mendel.app.server.healthcheck", str(Path(server.directory).parent)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=20)

    return check
