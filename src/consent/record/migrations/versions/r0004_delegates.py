"""Entities that call for another, and the audit of one subject found without reading all."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the column and the index."""
    op.add_column("entity", sa.Column("acts_for", sa.BigInteger()))
    op.create_index("ix_audit_subject", "audit", ["subject"])
