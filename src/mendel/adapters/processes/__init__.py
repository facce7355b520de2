"""Supervised processes: servers' workers and the runner."""
