"""Workflows on DBOS."""
