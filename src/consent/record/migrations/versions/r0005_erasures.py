"""Erasures that wait are found without reading every subject."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Indexes the few subjects that wait."""
    waiting = sa.text("erase_after IS NOT NULL")
    op.create_index(
        "ix_subject_erase_after",
        "subject",
        ["erase_after"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
