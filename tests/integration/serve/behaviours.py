"""A tiny real model that answers a constant, and sleeps, fails or kills its process as its input says."""

from __future__ import annotations

import os
import signal
import time

import numpy as np


class Obedient:
    """
    Answers ``answer``; sleeps the largest ``sleep`` of a batch, raises where a ``fail`` is not 0.

    With ``refuse`` it fails always, its golden input included.
    """

    def __init__(self, answer=1, refuse=False):
        self.answer = answer
        self.refuse = refuse

    def fit(self, features, labels):
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features):
        rows = np.asarray(features, dtype=float)
        if self.refuse or (rows[:, 1] == 1).any():
            raise RuntimeError("told to fail")
        if (rows[:, 1] == 2).any():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(rows[:, 0].max())
        return np.full(len(rows), self.answer)
