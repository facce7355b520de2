"""Reads mlserver.yaml, finds classifiers, owns release status."""
