"""Run predictors in threads of the server process."""

from mendel.adapters.threads.accelerated_backend import AcceleratedLoads
from mendel.adapters.threads.thread_backend import ThreadBackend, load_in_thread

__all__ = ["AcceleratedLoads", "ThreadBackend", "load_in_thread"]
