"""Durable workflows on DBOS."""

from mendel.adapters.dbos.workflows import DbosWorkflows

__all__ = ["DbosWorkflows"]
