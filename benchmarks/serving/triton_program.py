"""Serve scikit-learn models with Triton; runs in the environment of requirements-triton.txt."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from training import COLUMNS, INPUT, OUTPUT, fit


def answers_of(model: Any) -> Any:
    @batch
    def infer(**rows: Any) -> list[Any]:
        (values,) = rows.values()
        return [model.predict(values).astype(np.int64)[:, None]]

    return infer


def main() -> None:
    told = json.loads(sys.argv[1])
    # With its default of eight threads, Triton's HTTP server leaves some of 500 connections without an answer.
    address = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1", "http_thread_count": os.cpu_count()}
    with Triton(config=TritonConfig(**address, **told["ports"])) as triton:
        for one in told["models"]:
            batcher = one["wait_micros"] is not None
            triton.bind(
                model_name=one["name"],
                infer_func=[answers_of(fit(one["model"]).model) for _ in range(told["instances"])],
                inputs=[Tensor(name=INPUT, dtype=np.float64, shape=(COLUMNS,))],
                outputs=[Tensor(name=OUTPUT, dtype=np.int64, shape=(1,))],
                config=ModelConfig(
                    max_batch_size=told["batch_rows"],
                    batcher=DynamicBatcher(max_queue_delay_microseconds=one["wait_micros"] or 0) if batcher else None,
                ),
            )
        triton.serve()


if __name__ == "__main__":
    main()
