"""What a key may do."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One right; every route of every door declares the one it needs."""

    PREDICT = "predict"
    READ = "read"
    LABEL = "label"
    REGISTER = "register"
    DEPLOY = "deploy"
    ADMIN = "admin"
