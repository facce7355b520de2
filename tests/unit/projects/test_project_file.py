"""mlserver.yaml: every key is read or refused, with file, line and nearest key."""

from __future__ import annotations

import importlib.machinery
import json
from pathlib import Path

import pytest

from mendel.errors import InvalidProject, ProjectNotFound
from mendel.projects import load_project

SINGLE = """\
server:
  port: 9100
  workers: 2
  log_level: DEBUG
  title: Digits
  cors:
    allow_origins: ["https://example.org"]
  logger: {timestamp: true, structured: false, show_tasks: true, format: "%(message)s"}
predictor:
  module: model.py
  class_name: Digits
  init_kwargs: {artefact: weights.bin, threshold: 0.5, missing: nowhere.bin}
classifier:
  name: digits
  description: Even or odd
api:
  adapter: ndarray
  feature_order: [a, b]
  endpoints: {predict_proba: false}
  response_format: custom
  response_validation: false
  extract_values: true
  thread_safe_predict: true
  max_concurrent_predictions: 4
observability:
  {metrics: false, metrics_endpoint: /m, structured_logging: false, log_payloads: true, correlation_ids: false}
build: {base_image: b, registry: r, tag_prefix: t, include_files: [x], exclude_patterns: ["*.tmp"], requirements: r.txt}
repository: {name: shop, description: d, maintainer: m}
deployment:
  registry: {type: ecr, url: u, namespace: n, ecr: {aws_region: eu-central-1}}
monitoring: {target: parity}
gates: {profile: classic}
retraining: {module: training}
healing: {bake: 3s}
rollback: {window: 10m}
governance: {policy: true}
"""

MULTI = """\
server: {port: 9000, log_level: WARNING}
default_classifier: sentiment
classifiers:
  sentiment:
    predictor: {module: a, class_name: A}
    server:
      port: 9001
  sentiment-vip:
    classifier: {name: sentiment-vip}
    predictor: {module: b, class_name: B}
    gates: {profile: conservative}
"""

MINIMAL = "predictor: {module: m, class_name: M}\nclassifier: {name: m}\n"


def write(directory: Path, text: str, name: str = "mlserver.yaml") -> Path:
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return file


def refusal(directory: Path, text: str) -> InvalidProject:
    write(directory, text)
    with pytest.raises(InvalidProject) as caught:
        load_project(directory)
    return caught.value


def test_single_form_reads_every_key(tmp_path):
    """Nothing that the contract lists is dropped on the way."""
    write(tmp_path, SINGLE)
    project = load_project(tmp_path)
    digits = project.classifier()
    assert (digits.server.port, digits.server.workers, digits.server.log_level) == (9100, 2, "DEBUG")
    assert digits.server.cors.allow_origins == ("https://example.org",)
    assert digits.server.logger.format == "%(message)s"
    assert digits.api.feature_order == ("a", "b")
    assert (digits.api.endpoints.predict, digits.api.endpoints.predict_proba) == (True, False)
    assert digits.api.max_concurrent_predictions == 4
    assert digits.observability.metrics_endpoint == "/m"
    assert digits.build.exclude_patterns == ("*.tmp",)
    assert project.repository.name == "shop"
    assert project.deployment.registry.ecr.aws_region == "eu-central-1"
    assert digits.policy == {
        "monitoring": {"target": "parity"},
        "gates": {"profile": "classic"},
        "retraining": {"module": "training"},
        "healing": {"bake": "3s"},
        "rollback": {"window": "10m"},
        "governance": {"policy": True},
    }


def test_defaults_are_those_of_the_contract(tmp_path):
    """A file of two lines means what the contract's default column says."""
    write(tmp_path, MINIMAL)
    only = load_project(tmp_path).classifier()
    assert (only.server.host, only.server.port, only.server.workers) == ("0.0.0.0", 8000, 1)
    assert (only.api.adapter, only.api.max_concurrent_predictions) == ("records", 1)
    assert only.server.cors.allow_origins == ()
    assert only.build.base_image == "python:3.11-slim"
    assert only.policy == {}


def test_multi_form_keeps_order_and_shares_sections(tmp_path):
    """Classifiers inherit what stands at the top, key by key, and keep their own."""
    write(tmp_path, MULTI)
    project = load_project(tmp_path)
    assert project.names == ("sentiment", "sentiment-vip")
    assert project.default_classifier == "sentiment"
    assert [c.server.port for c in project.classifiers] == [9001, 9000]
    assert {c.server.log_level for c in project.classifiers} == {"WARNING"}
    assert project.classifier("sentiment-vip").gates == {"profile": "conservative"}
    with pytest.raises(ProjectNotFound, match="sentiment, sentiment-vip"):
        project.classifier()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("server:\n  prot: 1\n" + MINIMAL, 2, "did you mean 'port'"),
        ("monitorin: {}\n" + MINIMAL, 1, "did you mean 'monitoring'"),
        (MINIMAL + "server:\n  port: eighty\n", 4, "server.port: Expected `int`"),
        (MINIMAL + "server:\n  port: 70000\n", 3, "port is 70000"),
        (MINIMAL + "api:\n  endpoints:\n    predct: true\n", 5, "did you mean 'predict'"),
        (MINIMAL + "api: {adapter: csv}\n", 3, "api.adapter: Invalid enum value"),
        (MINIMAL + "server: {port: 1}\nserver: {port: 2}\n", 4, "occurs twice, first in line 3"),
        ("classifier: {name: m}\n", None, "predictor is missing"),
        ("classifier: {name: m}\npredictor: {module: m}\n", 2, "predictor.class_name is missing"),
        ("classifier: {name: Not A Name}\npredictor: {module: m, class_name: M}\n", 1, "not a model name"),
        ("predictor: {module: m, class_name: M}\n", None, "classifier.name is missing"),
        (MINIMAL + "server: 3\n", 3, "is not a mapping"),
        (MINIMAL + "gates: [1]\n", 3, "is not a mapping"),
        ("a: [1\nb: 2\n", 2, "not YAML"),
        ("- a\n", 1, "a mapping of sections"),
        ("", 1, "a mapping of sections"),
        ("a: !!python/object:os.system {}\n" + MINIMAL, 1, "could not determine a constructor"),
        (MINIMAL + "api:\n  feature_order: order.json\n", 4, "'order.json' in api.feature_order cannot be read"),
        (MINIMAL + "api:\n  feature_order: ../order.json\n", 4, "not a path inside the project"),
        ("classifiers: {}\n", 1, "at least one"),
        (MULTI.replace("name: sentiment-vip", "name: other"), 9, "is named 'sentiment-vip'"),
        (MULTI.replace("default_classifier: sentiment", "default_classifier: x"), 2, "has no classifier 'x'"),
        (MULTI.replace("port: 9001", "prot: 9001"), 7, "classifiers.sentiment.server: unknown key 'prot'"),
        (MULTI.replace("port: 9000", "port: no"), 1, "server.port"),
        ("classifiers:\n  1: {predictor: {module: m, class_name: M}}\n", 1, "the name 1 is not text"),
        ("classifiers:\n  yes: {predictor: {module: m, class_name: M}}\n", 1, "the name True is not text"),
        ("a: &a [*a]\n" + MINIMAL, None, "alias contains itself"),
        ("a: " + "[" * 2000 + "]" * 2000 + "\n", None, "nested too deeply"),
        (
            "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)),
            None,
            "more than 100,000",
        ),
        ("predictor: {module: a-b, class_name: M}\nclassifier: {name: m}\n", 1, "not a module name"),
        (
            MINIMAL.replace("}", ", backend: thread}", 1) + "build: {isolation: process}\n",
            1,
            "predictor.backend is thread",
        ),
    ],
)
def test_refusals_name_the_line(tmp_path, text, line, says):
    """Each mistake is told with its line and, for a key, the nearest known one."""
    error = refusal(tmp_path, text)
    assert says in str(error)
    assert error.line == line
    assert error.path == str(tmp_path / "mlserver.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    """A binary file is told as such, not as a stack trace."""
    (tmp_path / "mlserver.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidProject, match="UTF-8"):
        load_project(tmp_path)


def test_found_in_parents_up_to_the_git_root(tmp_path):
    """From a folder below, the project of the repository is found; beyond the repository nothing is."""
    write(tmp_path, MINIMAL)
    inner = tmp_path / "repository" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    with pytest.raises(ProjectNotFound, match="nor do its parent directories up to"):
        load_project(inner)
    write(tmp_path / "repository", MINIMAL)
    assert load_project(inner).root == tmp_path / "repository"
    assert load_project(tmp_path / "repository" / "mlserver.yaml").root == tmp_path / "repository"


def test_outside_of_a_repository_parents_are_not_searched(tmp_path):
    """Without a git root, a project far above is not picked up by accident."""
    write(tmp_path, MINIMAL)
    (tmp_path / "below").mkdir()
    with pytest.raises(ProjectNotFound, match="below"):
        load_project(tmp_path / "below")


def test_a_missing_path_is_named(tmp_path):
    """A path that does not exist never falls back to another file."""
    write(tmp_path, MINIMAL)
    with pytest.raises(ProjectNotFound, match="elsewhere does not exist"):
        load_project(tmp_path / "elsewhere")


def test_legacy_file_is_read_with_a_hint(tmp_path):
    """classifier.yaml still works, its retired keys are named, and mlserver.yaml wins."""
    legacy = MINIMAL.replace("{name: m}", "{name: m, version: 1.0.0}") + "model: {version: 2.0.0}\n"
    write(tmp_path, legacy, "classifier.yaml")
    project = load_project(tmp_path)
    assert project.names == ("m",)
    assert "mendel migrate mlserver" in project.hints[0]
    assert {hint.split(" ")[0] for hint in project.hints[1:]} == {"classifier.version", "model"}
    write(tmp_path, MINIMAL)
    assert load_project(tmp_path).hints == ()


def test_feature_order_of_a_file(tmp_path):
    """A path in api.feature_order is replaced by the names in it, and remembered."""
    (tmp_path / "order.json").write_text(json.dumps(["b", "a"]), encoding="utf-8")
    write(tmp_path, MINIMAL + "api: {feature_order: order.json}\n")
    only = load_project(tmp_path).classifier()
    assert only.api.feature_order == ("b", "a")
    assert only.feature_order_file == "order.json"


def test_init_kwargs_name_files_of_the_project(tmp_path):
    """Relative values that exist become absolute; other values, and what leaves the project, stay."""
    (tmp_path / "weights.bin").write_bytes(b"")
    write(tmp_path, SINGLE.replace("missing: nowhere.bin", "missing: nowhere.bin, up: .., free: text"))
    kwargs = load_project(tmp_path).classifier().predictor.kwargs_in(tmp_path)
    assert kwargs["artefact"] == str((tmp_path / "weights.bin").resolve())
    assert (kwargs["missing"], kwargs["up"], kwargs["free"], kwargs["threshold"]) == ("nowhere.bin", "..", "text", 0.5)


@pytest.mark.parametrize("module", ["pkg.inner", "pkg/inner.py", "./pkg/inner.py"])
def test_modules_are_dotted_bare_or_files(tmp_path, module):
    """However a module is written, it is one import and one file."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "inner.py").write_text("", encoding="utf-8")
    write(tmp_path, f"predictor: {{module: {module}, class_name: M}}\nclassifier: {{name: m}}\n")
    predictor = load_project(tmp_path).classifier().predictor
    assert predictor.import_name == "pkg.inner"
    assert predictor.source(tmp_path) == tmp_path / "pkg" / "inner.py"
    assert predictor.source(tmp_path / "pkg") is None


def test_of_two_of_one_name_it_is_the_one_that_python_imports(tmp_path):
    """A package wins over a module beside it, in the file that is named and in those that are followed."""
    (tmp_path / "model").mkdir()
    for file in ("model/__init__.py", "model.py"):
        (tmp_path / file).write_text("", encoding="utf-8")
    write(tmp_path, "predictor: {module: model.py, class_name: M}\nclassifier: {name: m}\n")
    predictor = load_project(tmp_path).classifier().predictor
    assert predictor.source(tmp_path) == tmp_path / "model" / "__init__.py"
    spec = importlib.machinery.PathFinder.find_spec(predictor.import_name, [str(tmp_path)])
    assert spec is not None
    assert spec.origin == str(predictor.source(tmp_path))
