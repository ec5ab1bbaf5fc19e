"""Complaints, the ladder and appeals."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes the tables, and the column of an entity's stages."""
    op.add_column("entity", sa.Column("stages", sa.Text(), nullable=False, server_default="{}"))
    op.create_table(
        "complaint",
        sa.Column("id", _ROWID, nullable=False),
        sa.Column("once", sa.LargeBinary(32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("complainant", sa.String(32), nullable=False),
        sa.Column("block", sa.String(32), nullable=False),
        sa.Column("caller", sa.String(32), nullable=False),
        sa.Column("jurisdiction", sa.String(2), nullable=False),
        sa.Column("entity_id", sa.BigInteger()),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("rule", sa.String(128), nullable=False),
        sa.Column("authenticated", sa.Boolean(), nullable=False),
        sa.Column("void", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_complaint"),
        sa.UniqueConstraint("once", name="uq_complaint_once"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name="fk_complaint_entity_id_entity"),
        sqlite_autoincrement=True,
    )
    for columns in (["at_us"], ["received_us"], ["caller"], ["entity_id", "at_us"]):
        op.create_index("ix_complaint_" + "_".join(columns), "complaint", columns)
    op.create_table(
        "appeal",
        sa.Column("id", _ROWID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("jurisdiction", sa.String(2), nullable=False),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("entity_id", sa.BigInteger()),
        sa.Column("rule", sa.String(128), nullable=False),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("opened_by", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_us", sa.BigInteger()),
        sa.Column("decided_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_appeal"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name="fk_appeal_entity_id_entity"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_appeal_opened_us", "appeal", ["opened_us"])
