"""Finds the steps of the ladder without reading the ledger through."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index."""
    steps = sa.text("kind = 'ladder.stepped'")
    op.create_index(
        "ix_event_steps", "event", ["sequence"], sqlite_where=steps, postgresql_where=steps
    )
