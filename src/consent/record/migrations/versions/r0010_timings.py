"""How long decisions took to be in force, by day, for the report of a month."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "timing",
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("facts", sa.String(16), nullable=False),
        sa.Column("within_ms", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "facts", "within_ms", name="pk_timing"),
    )
