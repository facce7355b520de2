"""The JSON Schema of mlserver.yaml: it takes and refuses what the reader of the file does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from mendel.app.project.policy_files import checked_policy
from mendel.app.project.project_file_schema import mlserver_schema, require_policies
from mendel.errors import InvalidProject, MendelError
from mendel.operations import POLICIES
from mendel.projects import (
    POLICY_SECTIONS,
    Api,
    Build,
    Cors,
    DeploymentSection,
    Ecr,
    Endpoints,
    ImageRegistry,
    Observability,
    PredictorSection,
    RepositorySection,
    ServerLogger,
    ServerSection,
    load_project,
    new_project_files,
    section_schema,
)
from mendel.values import ModelName

EXAMPLES = sorted(Path(__file__).parents[4].glob("examples/*/mlserver.yaml"))
ONE = "classifier: {name: m}\npredictor: {module: a, class_name: A}\n"
TWO = "classifiers:\n  x: {predictor: {module: a, class_name: A}}\n  y-z: {predictor: {module: b.c, class_name: B}}\n"
TAKEN = [
    ONE,
    TWO,
    TWO + "default_classifier: x\nserver: {workers: 2}\napi: {adapter: auto}\nrepository: {name: shop}\n",
    ONE + "server: {host: 127.0.0.1, port: 0, log_level: DEBUG, cors: {allow_origins: ['*']}, logger: {format: x}}\n",
    ONE + "server:\nmonitoring:\nbuild: {registry: }\n",
    ONE + "api: {feature_order: [a, b], endpoints: {predict_proba: false}, response_format: custom}\n",
    ONE + "monitoring: {target: t, every: 30s, features: {a: {type: number}}, segments: {a: [1, 2.5]}}\n",
    ONE + "gates: {profile: conservative, samples: 300, cooldown: 7d}\nretraining: {limits: {memory: 1GiB}}\n",
    ONE + "healing: {autonomy: {retrain: act}}\nrollback: {error_rate: 0.1}\ngovernance: {require: [bias]}\n",
    ONE + "deployment: {registry: {type: ecr, ecr: {aws_region: eu-west-1, registry_id: '123456789012'}}}\n",
    ONE.replace("module: a", "module: ./pkg/a.py"),
    "x: &p {module: a, class_name: A}\n".replace("x: &p", "predictor: &p") + "classifier: {name: '1'}\n",
]
REFUSED = [
    "classifier: {name: m}\n",
    "predictor: {module: a, class_name: A}\n",
    "classifiers: {}\n",
    ONE + "servr: {port: 1}\n",
    ONE + "server: {prot: 1}\n",
    ONE + "server: {port: 70000}\n",
    ONE + "server: {port: '8000'}\n",
    ONE + "server: {workers: 0}\n",
    ONE + "server: {log_level: LOUD}\n",
    ONE + "server: {cors: {allow_origin: ['*']}}\n",
    ONE + "server: {cors: {allow_origins: }}\n",
    ONE + "api: {adapter: rows}\n",
    ONE + "api: {max_concurrent_predictions: 0}\n",
    ONE + "api: {endpoints: {predict: 'yes'}}\n",
    ONE + "api: {feature_order: 7}\n",
    ONE + "default_classifier: m\n",
    ONE + "build: {include_files: x}\n",
    ONE + "deployment: {registry: {type: quay}}\n",
    ONE + "monitoring: {every: 30}\n",
    ONE + "monitoring: {every: soon}\n",
    ONE + "monitoring: {tarjet: t}\n",
    ONE + "monitoring: []\n",
    ONE + "gates: {profile: bold}\n",
    ONE + "gates: {samples: many}\n",
    ONE + "healing: {autonomy: {retrain: maybe}}\n",
    ONE + "governance: {require: [beauty]}\n",
    ONE + "retraining: {runner: moon}\n",
    ONE.replace("name: m", "name: M"),
    ONE.replace("name: m", "name: -m"),
    ONE.replace("name: m", "name: m, version: 1"),
    ONE.replace("module: a", "module: 1a"),
    ONE.replace("class_name: A", "class_name: A.B"),
    ONE.replace(", class_name: A", ""),
    TWO + "classifier: {name: m}\n",
    TWO + "monitoring: {target: t}\n",
    TWO.replace("  x:", "  X:"),
    TWO.replace("x: {predictor", "x: {predictr"),
]


@pytest.fixture(scope="module")
def schema():
    import jsonschema  # noqa: PLC0415 - two seconds, and every worker imports this file

    whole = mlserver_schema()
    jsonschema.Draft202012Validator.check_schema(whole)
    return jsonschema.Draft202012Validator(whole)


def read(text, directory):
    (directory / "mlserver.yaml").write_text(text, encoding="utf-8")
    project = load_project(directory)
    require_policies(project)
    for one in project.classifiers:
        checked_policy(one.policy, at="mlserver.yaml")


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.parent.name for file in EXAMPLES])
def test_every_example_is_valid(file, schema):
    """What the repository shows, an editor finds nothing wrong with."""
    assert list(schema.iter_errors(yaml.safe_load(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("text", TAKEN)
def test_what_is_read_is_valid(text, schema, tmp_path):
    """The schema refuses nothing that the reader takes."""
    read(text, tmp_path)
    assert [error.message for error in schema.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_invalid(text, schema, tmp_path):
    """The schema finds what the reader refuses."""
    with pytest.raises(MendelError):
        read(text, tmp_path)
    assert not schema.is_valid(yaml.safe_load(text))


def test_what_init_writes_is_valid(schema):
    """A first project is a valid one, whatever it is called."""
    for name in ("churn", "1", "null", "1e3"):
        (file,) = (file for file in new_project_files(ModelName(name), "Model") if file.path == "mlserver.yaml")
        tree = yaml.safe_load(file.text)
        assert tree["classifier"]["name"] == name
        assert schema.is_valid(tree)


def test_every_policy_section_is_there():
    """The sections that a project may have are those that the schema describes."""
    assert POLICIES.keys() == set(POLICY_SECTIONS)


@pytest.mark.parametrize(
    "kind",
    [
        *(Api, Build, Cors, DeploymentSection, Ecr, Endpoints, ImageRegistry, Observability, PredictorSection),
        *(RepositorySection, ServerLogger, ServerSection),
    ],
)
def test_every_key_says_what_it_is(kind):
    """Nobody has to look a key of a project up: its meaning stands with it."""
    keys = section_schema(kind)["properties"]
    assert keys.keys() == {one.name for one in fields(kind)}
    assert [name for name, key in keys.items() if not key.get("description")] == []


def test_no_object_is_open_by_accident(schema):
    """Every mapping with fixed keys refuses others."""

    def objects(tree):
        if isinstance(tree, dict):
            if "properties" in tree:
                yield tree
            for inner in tree.values():
                yield from objects(inner)

    found = list(objects(schema.schema))
    assert len(found) > 20
    assert all(one["additionalProperties"] is False for one in found)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (
            ONE + "monitoring:\n  target: t\n  tarjet: t\n",
            5,
            "monitoring: unknown key 'tarjet'; did you mean 'target'?",
        ),
        (ONE + "monitoring:\n  features:\n    a:\n      tipe: x\n", 6, "unknown key 'tipe'; did you mean 'type'?"),
        (ONE + "gates:\n  profile: conservative\n  samples: many\n", 5, "gates"),
        (ONE + "healing:\n  autonomy:\n    retrain: maybe\n", 5, "healing"),
        (ONE + "rollback:\n  error_rate: 0.1\n  sillence: 1h\n", 5, "did you mean 'silence'?"),
        (TWO.replace("}}", "}, gates: {sample: 3}}", 1), 2, "classifiers.x.gates: unknown key 'sample'"),
    ],
)
def test_a_policy_that_no_room_understands_is_told_with_its_line(tmp_path, text, line, says):
    """Keys and values of policy sections are refused as those of all others are."""
    (tmp_path / "mlserver.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidProject) as refused:
        require_policies(load_project(tmp_path))
    assert says in str(refused.value)
    assert refused.value.line == line


@pytest.mark.parametrize("words", [("tag", "patch"), ("lock",), ("lock", "--check"), ("list-classifiers",)])
def test_commands_refuse_it(mendel, tmp_path, words):
    """Nothing is released, pinned or shown of a project with a key that no room understands."""
    (tmp_path / "mlserver.yaml").write_text(ONE + "monitoring:\n  tarjet: t\n", encoding="utf-8")
    said = mendel(*words, "--path", tmp_path)
    assert (said.code, said.out) == (1, "")
    assert "mlserver.yaml:4: monitoring: unknown key 'tarjet'" in said.err
