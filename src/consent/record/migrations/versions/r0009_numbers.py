"""Where numbers stand on the ladder for which no entity answers."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "number_stage",
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("stages", sa.Text(), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name="pk_number_stage"),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subject.id"], name="fk_number_stage_subject_id_subject"
        ),
    )
