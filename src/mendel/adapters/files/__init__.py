"""Directories on local disk."""
