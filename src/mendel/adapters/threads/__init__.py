"""Predictors in threads of the server."""

from mendel.adapters.threads.thread_backend import ThreadBackend, load_in_thread

__all__ = ["ThreadBackend", "load_in_thread"]
