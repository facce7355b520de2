"""Every key of ``api``, ``server`` and ``observability`` that a door acts on, over real sockets."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from structlog.testing import capture_logs

from mendel.errors import InvalidSettings, ModelFailed
from mendel.projects import Observability
from mendel.serving import InferenceCall, Records
from mendel.transports.rest.application import ROUTES
from mendel.transports.rest.rest_policy import RestPolicy
from mendel.transports.rest.route_table import routes_for
from support.door_forms import both_forms
from support.doors import DOOR_NAMES

SUM = """
class Model:
    def predict(self, X):
        return np.asarray(X, dtype=float).sum(axis=1)
"""
PROBA = """
class Model:
    classes_ = np.array(["no", "yes"])
    def predict(self, X):
        return self.classes_[(X.sum(axis=1) > 0).astype(int)]
    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-X.sum(axis=1)))
        return np.column_stack([1 - p, p])
"""
TOLD = """
class Model:
    def predict(self, X):
        return {"label": "yes", "rows": len(X), "score": float("nan")}
"""
WEIGHTED = """
class Model:
    def predict(self, X):
        return X @ np.array([1.0, 10.0])
"""
ROWS = {"records": [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]}
LISTS = {"ndarray": [[1.0, 2.0]]}


@pytest.fixture
def everywhere(connect):
    """Asks every door the same, and gives the one answer that they agree on."""

    async def ask(world, body, *, proba=False):
        said = [await connect(door, world).predict("model", body, proba=proba) for door in DOOR_NAMES]
        bodies = [_timeless(reply.body) for reply in said if reply.error is None]
        assert len({reply.error for reply in said}) == 1, said
        assert all(body == bodies[0] for body in bodies), bodies
        return said[0]

    return ask


def _timeless(body):
    return {**body, "time_ms": 0, "timestamp": 0} if isinstance(body, dict) else body


@pytest.fixture
def http():
    """One HTTP request to a world's REST door."""

    async def ask(world, method, path, **how):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.ports['rest']}") as client:
            return await client.request(method, path, **how)

    return ask


async def test_nan_and_infinities_are_null(open_project, everywhere):
    """What JSON has no word for is null, at every door."""
    code = "class Model:\n    def predict(self, X):\n        return np.array([np.nan, np.inf])"
    world = await open_project(code)
    assert (await everywhere(world, ROWS)).body["predictions"] == [None, None]


async def test_the_feature_order_is_the_order_of_columns(open_project, everywhere):
    """api.feature_order: however a record is written, its values come in that order; a missing feature is named."""
    world = await open_project(WEIGHTED, "api: {feature_order: [b, a]}")
    for record in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        assert (await everywhere(world, {"records": [record]})).body["predictions"] == [12.0]
    assert (await everywhere(world, {"ndarray": [[2, 1]]})).body["predictions"] == [12.0]
    refused = await everywhere(world, {"records": [{"a": 1}]})
    assert refused.error == "invalid"
    assert "'b' is missing" in refused.message


@pytest.mark.parametrize(
    ("adapter", "code", "refused"),
    [
        ("records", SUM, None),
        ("records", f"{SUM}    input_type = 'dataframe'\n", LISTS),
        ("ndarray", SUM, ROWS),
        ("auto", SUM, None),
        ("auto", f"{SUM}    input_type = 'dataframe'\n", None),
    ],
)
async def test_the_adapter_says_how_rows_come(open_project, everywhere, adapter, code, refused):
    """api.adapter: without a known order, who goes by place takes no names, and who goes by name no places."""
    world = await open_project(code, f"api: {{adapter: {adapter}}}")
    for body in (ROWS, LISTS):
        reply = await everywhere(world, body)
        assert (reply.error is None) == (body != refused)
        assert reply.error is None or "api.adapter" in reply.message


async def test_a_known_order_makes_every_adapter_take_both(open_project, everywhere):
    """api.adapter: ndarray with a feature_order reads objects by name."""
    world = await open_project(WEIGHTED, "api: {adapter: ndarray, feature_order: [a, b]}")
    assert (await everywhere(world, {"records": [{"b": 2, "a": 1}]})).body["predictions"] == [21.0]


async def test_endpoints_that_are_off_are_unsupported(open_project, everywhere):
    """api.endpoints: each by itself; the one that is not listed is on."""
    world = await open_project(PROBA, "api: {endpoints: {predict_proba: false}}")
    assert (await everywhere(world, ROWS)).error is None
    assert (await everywhere(world, ROWS, proba=True)).error == "unsupported"
    world = await open_project(PROBA, "api: {endpoints: {predict: false}}")
    assert (await everywhere(world, ROWS)).error == "unsupported"
    assert (await everywhere(world, ROWS, proba=True)).body["classes"] == ["no", "yes"]


async def test_custom_lets_the_predictors_dict_be_the_body(open_project, everywhere):
    """api.response_format custom: the dict, with null for NaN, and nothing of ours; single requests too."""
    world = await open_project(TOLD, "api: {response_format: custom}")
    for body in (ROWS, {"a": 1.0, "b": 2.0}):
        said = (await everywhere(world, body)).body
        assert {**said, "time_ms": 0, "timestamp": 0} == {
            "label": "yes", "rows": 2 if body is ROWS else 1, "score": None, "time_ms": 0, "timestamp": 0,
        }  # fmt: skip


async def test_custom_promises_a_dict(open_project, everywhere):
    """Validated, anything else is the model's fault; not validated, it goes into the standard envelope."""
    world = await open_project(SUM, "api: {response_format: custom}")
    refused = await everywhere(world, ROWS)
    assert refused.error == "model_failed"
    assert "needs a dict" in refused.message
    world = await open_project(SUM, "api: {response_format: custom, response_validation: false}")
    assert (await everywhere(world, ROWS)).body["predictions"] == [3.0, 7.0]


@pytest.mark.parametrize("returned", ["['x', {'y': 1}, None]", "'one word'", "None", "np.arange(4).reshape(2, 2)"])
async def test_passthrough_is_what_the_predictor_returns(open_project, everywhere, returned):
    """api.response_format passthrough: the return is the body, whatever its form and length."""
    world = await open_project(
        f"class Model:\n    def predict(self, X):\n        return {returned}", "api: {response_format: passthrough}"
    )
    wanted = {"np.arange(4).reshape(2, 2)": [[0, 1], [2, 3]]}.get(returned) or eval(returned)  # noqa: S307 - above
    assert (await everywhere(world, ROWS)).body == wanted


async def test_passthrough_of_probabilities(open_project, everywhere):
    """Each endpoint passes through what its own method returns."""
    world = await open_project(PROBA, "api: {response_format: passthrough}")
    assert (await everywhere(world, {"records": [{"a": 0, "b": 0}]}, proba=True)).body == [[0.5, 0.5]]
    assert (await everywhere(world, ROWS)).body == ["yes", "yes"]


async def test_an_answer_of_ones_own_shares_no_batch(open_project, connect):
    """What is not divided by rows is predicted request by request, even when many wait."""
    code = (
        "class Model:\n    def predict(self, X):\n        time.sleep(0.01)\n        return {'rows': X[:, 0].tolist()}"
    )
    world = await open_project(code, "api: {response_format: custom}")
    client = connect("rest", world)
    asked = [client.predict("model", {"records": [{"a": float(n)}] * 900}) for n in range(20)]
    assert [reply.body for reply in await asyncio.gather(*asked)] == [{"rows": [float(n)] * 900} for n in range(20)]


async def test_validation_holds_answers_to_one_per_row(open_project, everywhere):
    """api.response_validation: another number of answers is the model's fault, or is passed on as it came."""
    code = "class Model:\n    def predict(self, X):\n        return [1, 2, 3]"
    world = await open_project(code)
    assert (await everywhere(world, ROWS)).error == "model_failed"
    world = await open_project(code, "api: {response_validation: false}")
    assert (await everywhere(world, ROWS)).body["predictions"] == [1, 2, 3]
    assert (await everywhere(world, {"a": 1.0})).body["prediction"] == [1, 2, 3]


async def test_validation_holds_probabilities_to_one_per_class(open_project, everywhere):
    """Three probabilities for two classes are the model's fault; so are rows of different lengths, validated or not."""
    odd = PROBA.replace("column_stack([1 - p, p])", "column_stack([1 - p, p, p])")
    assert "the model has 2 classes" in (await everywhere(await open_project(odd), ROWS, proba=True)).message
    world = await open_project(odd, "api: {response_validation: false}")
    assert len((await everywhere(world, ROWS, proba=True)).body["probabilities"][0]) == 3
    ragged = PROBA.replace("return np.column_stack([1 - p, p])", "return [[1.0], [0.5, 0.5]]")
    assert (await everywhere(await open_project(ragged), ROWS)).error == "model_failed"


async def test_extracted_values_have_no_names(open_project, everywhere):
    """api.extract_values: answers that are records become their values; a custom dict gets them as predictions."""
    code = "class Model:\n    def predict(self, X):\n        return [{'label': 'yes', 'score': 0.5}, {'label': 'no'}]"
    world = await open_project(code, "api: {extract_values: true}")
    assert (await everywhere(world, ROWS)).body["predictions"] == [["yes", 0.5], "no"]
    world = await open_project(TOLD, "api: {response_format: custom, extract_values: true}")
    assert (await everywhere(world, ROWS)).body["predictions"] == ["yes", 2, None]


@pytest.mark.parametrize(("safe", "bound", "most"), [("false", 4, 1), ("true", 1, 1), ("true", 3, 3)])
async def test_predict_calls_at_once_are_bounded(open_project, connect, safe, bound, most):
    """api.thread_safe_predict and max_concurrent_predictions: what is above waits, and is answered."""
    code = """
class Model:
    running = most = 0
    def predict(self, X):
        if X[0, 0] < 0:
            return np.full(len(X), float(Model.most))
        Model.running += 1
        Model.most = max(Model.most, Model.running)
        time.sleep(0.1)
        Model.running -= 1
        return X[:, 0]
"""
    api = f"api: {{thread_safe_predict: {safe}, max_concurrent_predictions: {bound}}}"
    world = await open_project(code, api, max_batch_rows=1)
    client = connect("rest", world)
    asked = [client.predict("model", {"records": [{"a": float(n)}]}) for n in range(6)]
    assert [r.body["predictions"] for r in await asyncio.gather(*asked)] == [[float(n)] for n in range(6)]
    assert (await client.predict("model", {"records": [{"a": -1.0}]})).body["predictions"] == [most]


async def test_metrics_are_off_or_elsewhere(open_project, http):
    """observability.metrics off is 404, so is the former place of a moved endpoint; /docs lists what there is."""
    world = await open_project(SUM, "observability: {metrics: false}")
    assert (await http(world, "GET", "/metrics")).status_code == 404
    world = await open_project(SUM, "observability: {metrics_endpoint: /internal/metrics}")
    assert (await http(world, "GET", "/metrics")).status_code == 404
    assert (await http(world, "GET", "/internal/metrics")).status_code == 401
    paths = (await http(world, "GET", "/openapi.json")).json()["paths"]
    assert "/internal/metrics" in paths
    assert "/metrics" not in paths


@pytest.mark.parametrize("place", ["metrics", "/predict", "/a b", "/{x}", "/"])
def test_a_metrics_endpoint_that_cannot_be_is_refused(place):
    """No path, or another route's."""
    with pytest.raises(InvalidSettings, match="metrics_endpoint"):
        routes_for(RestPolicy(metrics=Observability(metrics_endpoint=place).metrics_endpoint), ROUTES)


async def test_the_title_stands_in_the_documentation(open_project, http):
    """server.title, escaped, in /docs and /openapi.json; without one the classifier's name."""
    world = await open_project(SUM, 'server: {title: "Risk <&> Co"}')
    assert "<title>Risk &lt;&amp;&gt; Co</title>" in (await http(world, "GET", "/docs")).text
    assert (await http(world, "GET", "/openapi.json")).json()["info"]["title"] == "Risk <&> Co"
    world = await open_project(SUM)
    assert "<title>model</title>" in (await http(world, "GET", "/docs")).text


@both_forms
@pytest.mark.parametrize("on", [True, False])
async def test_correlation_ids_are_returned_or_there_are_none(open_project, http, connect, on):
    """observability.correlation_ids: the caller's id comes back and a missing one is made; off, neither."""
    world = await open_project(SUM, correlation_ids=on)
    for sent in ({"x-request-id": "mine"}, {}):
        headers = (await http(world, "POST", "/predict", json=ROWS, headers=sent)).headers
        assert ("x-request-id" in headers) is on
        assert not (on and sent) or headers["x-request-id"] == "mine"
    assert (await connect("grpc", world).predict("model", ROWS)).error is None


async def test_payloads_are_logged_when_asked(open_project, connect):
    """observability.log_payloads: what was asked and answered, at every door, with the correlation id; else nothing."""
    for wanted in (True, False):
        world = await open_project(SUM, log_payloads=wanted)
        with capture_logs() as lines:
            for door in DOOR_NAMES:
                await connect(door, world).predict("model", ROWS)
        told = [line for line in lines if line["event"] in {"asked", "answered"}]
        assert len(told) == (2 * len(DOOR_NAMES) if wanted else 0)
        assert {line["door"] for line in told[::2]} == (set(DOOR_NAMES) if wanted else set())
        for asked, answered in zip(told[::2], told[1::2], strict=True):
            assert asked["payload"] == ROWS["records"]
            assert answered["payload"] == [3.0, 7.0]
            assert asked["correlation_id"] == answered["correlation_id"]


CORS = "server: {cors: {allow_origins: [https://a.example], allow_methods: [GET, POST], allow_headers: [X-API-Key], "
ORIGIN = {"origin": "https://a.example"}


@both_forms
async def test_cors_is_off_by_default(open_project, http):
    """Without origins, nothing is said about other origins, and a preflight is a method that is not there."""
    world = await open_project(SUM)
    answer = await http(world, "POST", "/predict", json=ROWS, headers=ORIGIN)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await http(world, "OPTIONS", "/predict", headers=ORIGIN)).status_code == 405


@both_forms
async def test_cors_lets_the_named_origins_in(open_project, http):
    """A simple request and a preflight of an allowed origin say so; of another they do not; errors carry it, too."""
    world = await open_project(SUM, f"{CORS}allow_credentials: true}}}}")
    answer = await http(world, "POST", "/predict", json=ROWS, headers=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "origin" in answer.headers["vary"].lower()
    assert (await http(world, "POST", "/nothing", headers=ORIGIN)).headers["access-control-allow-origin"]
    other = await http(world, "POST", "/predict", json=ROWS, headers={"origin": "https://b.example"})
    assert other.status_code == 200
    assert "access-control-allow-origin" not in other.headers
    asking = {**ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    preflight = await http(world, "OPTIONS", "/predict", headers=asking)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-methods"] == "GET, POST"
    assert preflight.headers["access-control-allow-headers"] == "x-api-key"


@both_forms
@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://b.example"},
        {"access-control-request-method": "DELETE"},
        {"access-control-request-headers": "x-api-key, x-other"},
    ],
)
async def test_cors_refuses_preflights_of_what_is_not_allowed(open_project, http, change):
    """An origin, a method or a header that is not named: 400, and nothing is granted."""
    world = await open_project(SUM, f"{CORS}}}}}")
    asking = {**ORIGIN, "access-control-request-method": "POST", **change}
    refused = await http(world, "OPTIONS", "/predict", headers=asking)
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@both_forms
async def test_cors_never_gives_credentials_to_everybody(open_project, http):
    """With ``*`` anybody may ask, and nobody with credentials."""
    world = await open_project(SUM, 'server: {cors: {allow_origins: ["*"], allow_credentials: true}}')
    asking = {**ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": "x-any"}
    for answer in (
        await http(world, "POST", "/predict", json=ROWS, headers=ORIGIN),
        await http(world, "OPTIONS", "/predict", headers=asking),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@both_forms
async def test_the_body_of_a_fault_is_still_an_error(open_project, http):
    """Whatever the response format, a model that raises is a 500 with its reason."""
    code = "class Model:\n    def predict(self, X):\n        raise ValueError('odd')"
    world = await open_project(code, "api: {response_format: passthrough}")
    answer = await http(world, "POST", "/predict", content=json.dumps(ROWS))
    assert answer.status_code == 500
    assert "ValueError: odd" in answer.json()["error"]
    with pytest.raises(ModelFailed, match="odd"):
        await world.kernel.infer(InferenceCall(model=None, input=Records(rows=ROWS["records"]), door="rest"))
