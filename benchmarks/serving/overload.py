"""
Show what a server of Mendel does when five times as many requests arrive as it can answer.

    .venv/bin/python benchmarks/serving/overload.py [--seconds 20] [--times 5] [--doors fast]

The model takes 10 ms for a batch of at most eight rows, and requests may wait for one second
(``serving.request_timeout``). The peak is what callers get who ask one after the other. Then requests arrive at a fixed
rate, five times the peak, whether or not answers come back. For each second the program shows how many were answered
rightly and in time (goodput), how many were refused (429, RESOURCE_EXHAUSTED), and how many ended otherwise. Bounds:
the goodput stays above 90 % of the peak, everything else is refused, and every refusal says when to try again.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mendel_servers import MendelSettings, register, serving
from numpy.typing import NDArray
from servers import Route
from sklearn.base import BaseEstimator, ClassifierMixin
from training import Fitted, fit
from workload import Question, questions

HERE = Path(__file__).parent
BATCH_ROWS, BATCH_S = 8, 0.01
CLIENTS = 2
CALLERS = 32
PEAK_S = 4.0
PATIENCE_S = 8.0
SHARE = 0.9
SETTINGS = {"MENDEL_SERVING__MAX_BATCH_ROWS": str(BATCH_ROWS), "MENDEL_SERVING__REQUEST_TIMEOUT": "1s"}
RIGHT = {"REST": 200, "gRPC": 0}
REFUSED = {"REST": 429, "gRPC": 8}
WIDTH = 50


class Slow(ClassifierMixin, BaseEstimator):
    """Answers like another model, but takes 10 ms for each call."""

    def __init__(self, model: Any = None) -> None:
        self.model = model

    def fit(self, rows: NDArray[np.float64], _labels: object = None) -> Slow:
        self.classes_, self.n_features_in_ = self.model.classes_, rows.shape[1]
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        time.sleep(BATCH_S)
        return self.model.predict(rows)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of every request: due, answered, status, time to try again; and the peak in answers per second."""

    door: str
    peak: float
    rate: float
    seconds: int
    rows: NDArray[np.float64]

    def _per_second(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.histogram(self.rows[chosen, 1], bins=np.arange(self.seconds + 1))[0]

    @property
    def good(self) -> NDArray[np.bool_]:
        return self.rows[:, 2] == RIGHT[self.door]

    @property
    def refused(self) -> NDArray[np.bool_]:
        return self.rows[:, 2] == REFUSED[self.door]

    def lines(self) -> Iterator[str]:
        """The curve and the verdicts."""
        other = ~self.good & ~self.refused
        good, refused, others = map(self._per_second, (self.good, self.refused, other))
        yield f"{self.door}: peak {self.peak:,.0f} answers/s, {self.rate:,.0f} requests/s arrive"
        yield f"{'s':>4}{'goodput/s':>11}{'refused/s':>11}{'other/s':>9}"
        for second in range(self.seconds):
            bar = "#" * min(round(good[second] / self.peak * WIDTH), 2 * WIDTH)
            yield f"{second + 1:4}{good[second]:11,}{refused[second]:11,}{others[second]:9,}  {bar}"
        share = good[1:].mean() / self.peak
        yield _verdict(share > SHARE, f"goodput {share:.1%} of the peak (bound: above {SHARE:.0%})")
        yield _verdict(
            not other.any(), f"{int(other.sum())} of {len(self.rows)} ended otherwise: {self._statuses(other)}"
        )
        retry = self.rows[self.refused, 3]
        said = f"from {retry.min():.2f} to {retry.max():.2f} s, {len(np.unique(retry))} values" if len(retry) else "-"
        yield _verdict(bool(len(retry)) and bool((retry > 0).all()), f"{len(retry)} refused, to try again in: {said}")
        took = (self.rows[self.good, 1] - self.rows[self.good, 0]) * 1000
        yield f"       time to a right answer: P50 {np.median(took):.0f} ms, P95 {np.quantile(took, 0.95):.0f} ms"

    def _statuses(self, chosen: NDArray[np.bool_]) -> str:
        statuses, counts = np.unique(self.rows[chosen, 2].astype(int), return_counts=True)
        return ", ".join(f"{status} ({count})" for status, count in zip(statuses, counts, strict=True)) or "none"


def _verdict(met: bool, told: str) -> str:
    return f"{'met' if met else 'MISSED':7}{told}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=20)
    options.add_argument("--times", type=float, default=5.0)
    options.add_argument("--doors", choices=("fast", "standard"), default="fast")
    chosen = options.parse_args()
    fitted = fit("logistic")
    slow = Fitted(name="slow", model=Slow(fitted.model).fit(fitted.rows), rows=fitted.rows)
    (question, *_) = questions(fitted, rows=1, count=1)
    with tempfile.TemporaryDirectory(prefix="mendel-overload-", ignore_cleanup_errors=True) as place:
        room = Path(place)
        (room / "registry").mkdir()
        version = register(slow, room / "registry")
        settings = MendelSettings(doors=chosen.doors, other=SETTINGS)
        with serving(version, "slow", settings, room / "server") as server:
            for route in server.routes[:2]:
                print("\n".join(_overloaded(route, question, room, chosen).lines()), flush=True)
                print()


def _overloaded(route: Route, question: Question, room: Path, chosen: argparse.Namespace) -> Outcome:
    calm = _sent(route, question, room, rate=0.0, seconds=PEAK_S)
    right = calm[calm[:, 2] == RIGHT[route.door]]
    peak = ((right[:, 1] > 1) & (right[:, 1] <= PEAK_S)).sum() / (PEAK_S - 1)
    rate = peak * chosen.times
    rows = _sent(route, question, room, rate=rate, seconds=chosen.seconds)
    return Outcome(door=route.door, peak=peak, rate=rate, seconds=chosen.seconds, rows=rows)


def _sent(route: Route, question: Question, room: Path, *, rate: float, seconds: float) -> NDArray[np.float64]:
    request = route.message(question) if route.door == "gRPC" else route.http_request(question)
    told = {
        "door": route.door,
        "port": route.port,
        "path": route.path,
        "request": base64.b64encode(request).decode(),
        "metadata": [(name, value) for name, value in route.headers.items() if name != "grpc-timeout"],
        "right": f'"data":[{question.classes[0]}]',
        "classes": list(question.classes),
        "patience_s": PATIENCE_S,
        "rate": rate / CLIENTS,
        "callers": CALLERS // CLIENTS,
        "seconds": seconds,
        "start": time.time() + 1.5,
    }
    files = [room / f"client-{number}.npy" for number in range(CLIENTS)]
    clients = [
        subprocess.Popen([sys.executable, str(HERE / "open_loop.py"), json.dumps({**told, "file": str(file)})])
        for file in files
    ]
    try:
        if any(client.wait(timeout=seconds + 60) for client in clients):
            raise RuntimeError("a client failed")
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return np.concatenate([np.load(file) for file in files])


if __name__ == "__main__":
    main()
