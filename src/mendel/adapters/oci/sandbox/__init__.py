"""Inspect unpacked images, and run commands in them in a sandbox."""
