"""The one metadata all tables of the state database stand in."""

from __future__ import annotations

from sqlalchemy import MetaData

metadata = MetaData()
