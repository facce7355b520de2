"""Migrations of the state database, run by Alembic."""
