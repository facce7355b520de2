"""A tiny real model that answers a constant, and waits, fails or kills its process as its input says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np


class Obedient:
    """
    Answers ``answer`` to rows of two columns, ``hold`` and ``fail``; raises where a ``fail`` is 1, and ends its process
    where it is 2 (a signal) or 3 (an exit).

    Where a ``hold`` is not 0 it waits until the file that the variable FREE names is there, at most so many seconds.

    With ``refuse`` it fails in every server, its golden input included, like a model that lacks a file there. With
    ``kill`` its load ends every worker by that signal, like a library that crashes there; with ``slow`` its load takes
    so many seconds there.
    """

    def __init__(self, answer=1, refuse=False, kill=0, slow=0):
        self.answer = answer
        self.refuse = refuse
        self.kill = kill
        self.slow = slow

    def get_params(self, deep=True):
        return {"answer": self.answer, "refuse": self.refuse, "kill": self.kill, "slow": self.slow}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if "FREE" in os.environ:
            time.sleep(self.slow)
            if self.kill:
                os.kill(os.getpid(), self.kill)

    def fit(self, features, labels):
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features):
        rows = np.asarray(features, dtype=float)
        if (self.refuse and "FREE" in os.environ) or (rows[:, 1] == 1).any():
            raise RuntimeError("told to fail")
        if (rows[:, 1] == 2).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (rows[:, 1] == 3).any():
            os._exit(3)
        end = time.monotonic() + rows[:, 0].max()
        while time.monotonic() < end and not Path(os.environ["FREE"]).exists():
            time.sleep(0.005)
        return np.full(len(rows), self.answer)
