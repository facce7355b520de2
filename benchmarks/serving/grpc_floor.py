"""
What a grpc.aio client costs by itself: the same client against a bare grpc.aio server and against another server.

    python grpc_floor.py server PORT ANSWER_FILE
    python grpc_floor.py client '{"port": ..., "path": ..., "message": ..., "metadata": [...], "in_flight": 500, ...}'

The bare server answers every message with the bytes of ANSWER_FILE, and neither side decodes anything.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from load_generators import percentiles_ms


async def serve(port: str, answer: bytes) -> None:
    async def echo(_message: bytes, _context: Any) -> bytes:
        return answer

    class Everything(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(echo)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def ask(told: dict[str, Any]) -> dict[str, float]:
    """Keep ``in_flight`` calls in flight for ``seconds``; give the figures."""
    message, metadata = bytes.fromhex(told["message"]), [tuple(pair) for pair in told["metadata"]]
    took: list[int] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{told['port']}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
        call = channel.unary_unary(told["path"])
        start = time.perf_counter()

        async def caller() -> None:
            while time.perf_counter() - start < told["seconds"]:
                began = time.perf_counter_ns()
                await call(message, metadata=metadata, timeout=20)
                took.append(time.perf_counter_ns() - began)

        await asyncio.gather(*(caller() for _ in range(told["in_flight"])))
        seconds = time.perf_counter() - start
    p50, p95, p99 = percentiles_ms(np.array(took, dtype=np.int64) // 1000)
    return {"requests": len(took), "seconds": seconds, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def main() -> None:
    if sys.argv[1] == "server":
        asyncio.run(serve(sys.argv[2], Path(sys.argv[3]).read_bytes()))
    else:
        print(json.dumps(asyncio.run(ask(json.loads(sys.argv[2])))))


if __name__ == "__main__":
    main()
