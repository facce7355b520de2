"""Clients of image registries (OCI distribution specification 1.1)."""
