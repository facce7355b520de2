"""Doors: bytes to values, errors to statuses, no decisions."""
