"""The scopes of API keys."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """A right that an API key can hold; every route and every ZMQ message type declares the scope that it needs."""

    PREDICT = "predict"
    READ = "read"
    LABEL = "label"
    REGISTER = "register"
    DEPLOY = "deploy"
    ADMIN = "admin"
