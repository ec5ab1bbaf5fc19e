"""Finds what a complainant has said without reading all that others said that day."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index."""
    op.create_index("ix_complaint_complainant", "complaint", ["complainant"])
