"""The SQLAlchemy metadata that collects all tables of the state database."""

from __future__ import annotations

from sqlalchemy import MetaData

metadata = MetaData()
