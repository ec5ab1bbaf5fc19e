"""Calling numbers that a network list names and that are excepted from it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "list_exception",
        sa.Column("list_id", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("list_id", "subject_id", name="pk_list_exception"),
        sa.ForeignKeyConstraint(
            ["list_id"], ["catalogue.id"], name="fk_list_exception_list_id_catalogue"
        ),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subject.id"], name="fk_list_exception_subject_id_subject"
        ),
    )
