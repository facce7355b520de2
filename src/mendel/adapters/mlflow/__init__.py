"""Artefacts in MLflow."""
