"""Alembic's environment and steps; `consent.record.database` runs them at open."""
