"""
Ask a server of Mendel over ZMQ with many messages in flight, and print what was measured as JSON.

    python zmq_client.py '{"port": ..., "key": ..., "model": ..., "rows": [[...]], "classes": [...], "in_flight": 500,
                           "seconds": 3}'

Every answer is compared with the classes of the model itself.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import zmq
from load_generators import percentiles_ms

SOCKETS = 4
PATIENCE_MS = 5000


def asked(told: dict[str, Any]) -> bytes:
    """A message of which only the request id is missing."""
    data = {"model_name": told["model"], "inputs": told["rows"]}
    message = {"type": "inference_request", "client_id": "bench", "api_key": told["key"], "timestamp": 0, "data": data}
    return json.dumps({**message, "request_id": "ID"}).encode()


def main() -> None:
    told = json.loads(sys.argv[1])
    head, _, tail = asked(told).partition(b"ID")
    context, poller = zmq.Context(), zmq.Poller()
    sockets = [context.socket(zmq.DEALER) for _ in range(min(SOCKETS, told["in_flight"]))]
    for socket in sockets:
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{told['port']}")
        poller.register(socket, zmq.POLLIN)
    began: dict[int, int] = {}
    took: list[int] = []
    wrong, number, waiting = 0, 0, 0

    def send(socket: Any) -> None:
        nonlocal number, waiting
        number, waiting = number + 1, waiting + 1
        began[number] = time.perf_counter_ns()
        socket.send(head + str(number).encode() + tail)

    for place in range(told["in_flight"]):
        send(sockets[place % len(sockets)])
    start = time.perf_counter()
    end = start + told["seconds"]
    while waiting:
        ready = poller.poll(PATIENCE_MS)
        if not ready:
            break
        for socket, _ in ready:
            while True:
                try:
                    reply = json.loads(socket.recv(zmq.NOBLOCK))
                except zmq.Again:
                    break
                waiting -= 1
                took.append(time.perf_counter_ns() - began.pop(int(reply["message_id"])))
                wrong += reply["data"].get("predictions") != told["classes"]
                if time.perf_counter() < end:
                    send(socket)
    seconds = time.perf_counter() - start
    p50, p95, p99 = percentiles_ms(np.array(took, dtype=np.int64) // 1000) if took else (0.0, 0.0, 0.0)
    figures = {"requests": len(took), "seconds": seconds, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
    print(json.dumps({**figures, "wrong": wrong, "unanswered": waiting}))
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
