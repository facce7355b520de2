"""Run predictors in threads of the server process."""

from mendel.adapters.threads.thread_backend import ThreadBackend, load_in_thread

__all__ = ["ThreadBackend", "load_in_thread"]
