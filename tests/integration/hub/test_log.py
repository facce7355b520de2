"""Labels and what the log amounts to, through the public client, in process and over a socket."""

from __future__ import annotations

import hashlib
import random
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mendel.errors import AlreadyExists, DigestMismatch, InvalidInput
from mendel.operations.problems import from_problem
from mendel.predictions import LabelRow, PredictionBlock, Spool, id_texts, mint_ids
from mendel.values import Measured, to_micros

LABELS = "/api/v1/monitoring/labels"
ONE, TWO = (str(uuid.UUID(int=number, version=4)) for number in (1, 2))


def segment_of(directory, spool_id, *blocks):
    """The bytes of one sealed segment, as a server would send them."""
    with Spool(directory, spool_id) as spool:
        for block in blocks:
            spool.append(block)
        spool.seal()
        (path,) = directory.glob("*.segment*")
        return path.read_bytes()


def block_of(model, rows, *, seed=0):
    now = to_micros(datetime.now(UTC))
    return PredictionBlock(
        model=model,
        version=1,
        uuid="m-" + "0" * 32,
        generation=1,
        prediction_ids=mint_ids(rows, micros=now, randbytes=random.Random(seed).randbytes),
        timestamp_micros=now,
        door="rest",
        feature_names=("x0", "x1"),
        features=np.zeros((rows, 2)),
        predictions=np.ones(rows),
        probabilities=np.tile([0.25, 0.75], (rows, 1)),
        classes=("0", "1"),
        latency_ms=0.5,
    )


def put(hub, spool_id, seq, content, *, checksum=None):
    said = checksum or f"sha256:{hashlib.sha256(content).hexdigest()}"
    return hub.http.put(f"/api/v1/segments/{spool_id}/{seq}", content=content, headers={"x-checksum": said})


class TestLabels:
    @pytest.mark.parametrize(
        ("body", "kind", "count"),
        [
            (f'{{"prediction_id": "{ONE}", "true_label": 1}}', "application/json", 1),
            (f'[{{"prediction_id": "{ONE}", "true_label": 1}}]', "application/json; charset=utf-8", 1),
            (
                (
                    f'{{"labels": [{{"prediction_id": "{ONE}", "true_label": "a"}}, '
                    f'{{"prediction_id": "{TWO}", "true_label": true}}]}}'
                ),
                "application/json",
                2,
            ),
            (
                f'{{"prediction_id": "{ONE}", "true_label": 0.5}}\n\n{{"prediction_id": "{TWO}", "true_label": 1}}\n',
                "application/x-ndjson",
                2,
            ),
            (
                f"prediction_id,true_label,label_timestamp\n{ONE},1,2026-11-01T00:00:00Z\n{TWO},no,\n",
                "text/csv",
                2,
            ),
        ],
    )
    def test_labels_come_as_applications_have_them(self, hub, body, kind, count):
        """One, a list, an envelope, NDJSON, CSV: each is taken and counted."""
        answer = hub.http.post(LABELS, content=body, headers={"content-type": kind})
        assert (answer.status_code, answer.json()) == (202, {"accepted": count})

    @pytest.mark.parametrize(
        ("body", "kind", "said"),
        [
            ("", "application/json", "not JSON"),
            ("prediction_id,true_label\nx,1\n", "application/json", "text/csv"),
            ("[]", "application/json", "no label"),
            ('{"labels": []}', "application/json", "no label"),
            ("[1]", "application/json", "Label 1 is not a JSON object"),
            ('{"true_label": 1}', "application/json", "Label 1 has no prediction_id"),
            (f'{{"prediction_id": "{ONE}"}}', "application/json", "has no true_label"),
            (f'{{"prediction_id": "{ONE}", "true_label": 1, "lable": 2}}', "application/json", "unknown key 'lable'"),
            (f'{{"prediction_id": "{ONE}", "true_label": {{}}}}', "application/json", "has no true_label"),
            (f'{{"prediction_id": "{ONE}", "true_label": 1}}\n{{', "application/x-ndjson", "not JSON"),
            (f"id,true_label\n{ONE},1\n", "text/csv", "unknown key 'id'"),
            (
                f'{{"prediction_id": "{ONE}", "true_label": 1, "label_timestamp": "2026-11-01"}}',
                "application/json",
                "is not a time",
            ),
            (b"prediction_id,true_label\n\xff,1\n", "text/csv", "not UTF-8"),
        ],
    )
    def test_malformed_labels_are_refused_by_place(self, hub, body, kind, said):
        """A label that is none is a 400 that names it, and none of its fellows is taken."""
        answer = hub.http.post(LABELS, content=body, headers={"content-type": kind})
        assert answer.status_code == 400
        assert isinstance(from_problem(answer.json()), InvalidInput)
        assert said in f"{answer.json()['detail']} {answer.json()['remedy']}"

    @pytest.mark.parametrize("body", ["prediction_id,true_label\n\n", "\x00,\x00\n\x00", "a\n" * 3])
    def test_no_csv_breaks_the_hub(self, hub, body):
        """Empty and odd CSV is the caller's error."""
        answer = hub.http.post(LABELS, content=body, headers={"content-type": "text/csv"})
        assert answer.status_code == 400

    def test_a_client_tells_as_many_as_it_has(self, hub, client, model):
        """More labels than one request may hold are told in several; times they claim survive."""
        rows = [
            LabelRow(
                prediction_id=str(uuid.UUID(int=place)),
                true_label=f"outcome-{place:064}",
                label_source="test",
                received_at=datetime.now(UTC),
                label_timestamp=datetime.now(UTC) - timedelta(days=1),
            )
            for place in range(12_001)
        ]
        before = client.stats(model).unmatched
        client.label(rows)
        assert client.stats(model).unmatched - before == len(rows)


class TestSegments:
    def test_what_servers_send_is_in_the_figures_at_once(self, hub, client, model, tmp_path):
        """Rows of a segment and labels posted to the hub are joined before anything reached the lake."""
        hub.promoted(model)
        block = block_of(model, 8)
        content = segment_of(tmp_path, f"s-{model}", block)
        assert put(hub, f"s-{model}", 1, content).status_code == 204
        now = datetime.now(UTC)
        client.label(
            [
                LabelRow(prediction_id=text, true_label=1, label_source="test", received_at=now)
                for text in id_texts(block.prediction_ids)[:4]
            ]
        )
        stats = client.stats(model)
        assert (stats.predictions, stats.labelled) == (8, 4)
        assert stats.coverage == Measured(value=0.5, samples=8)
        assert stats.last.count == 8

    def test_the_same_again_changes_nothing(self, hub, client, model, tmp_path):
        """A segment sent twice counts once; other content under its number is refused."""
        spool = f"s-{model}"
        hub.promoted(model)
        content = segment_of(tmp_path / "a", spool, block_of(model, 3))
        other = segment_of(tmp_path / "b", spool, block_of(model, 5, seed=1))
        assert [put(hub, spool, 1, content).status_code for _ in range(2)] == [204, 204]
        answer = put(hub, spool, 1, other)
        assert (answer.status_code, type(from_problem(answer.json()))) == (409, AlreadyExists)
        assert client.stats(model).predictions == 3

    def test_damage_is_noticed_on_arrival(self, hub, model, tmp_path):
        """Content without its checksum, torn, or under another number is refused."""
        spool = f"s-{model}"
        content = segment_of(tmp_path, spool, block_of(model, 3))
        answer = put(hub, spool, 1, content[:-1], checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
        assert (answer.status_code, type(from_problem(answer.json()))) == (422, DigestMismatch)
        for damaged, name, seq in (
            (content[:-1], spool, 1),
            (b"", spool, 1),
            (content, spool, 2),
            (content, "another", 1),
            (content, spool, -1),
            (content, "..", 1),
        ):
            assert put(hub, name, seq, damaged).status_code in {400, 404, 405, 422}
        no_sum = hub.http.put(f"/api/v1/segments/{spool}/1", content=content)
        assert no_sum.status_code == 400


def test_an_unknown_model_has_no_figures(hub, client, model):
    """A model nobody registered and nobody logged has counts of nothing, or is not found: never an invented figure."""
    answer = hub.http.get("/api/v1/monitoring/stats", params={"model": model})
    assert answer.status_code in {200, 404}
    if answer.status_code == 200:
        assert client.stats(model).predictions == 0
    assert hub.http.get("/api/v1/monitoring/stats").status_code == 400
