"""The rulebook: bundles of rule sets, and which of them is in force."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes the tables, and the counter that numbers activations."""
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    op.bulk_insert(counter, [{"name": "activation", "value": 0}])
    op.create_table(
        "bundle",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sets", sa.Text(), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_bundle"),
    )
    op.create_table(
        "activation",
        sa.Column("sequence", ROWID, autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("back_to", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_activation"),
        sa.ForeignKeyConstraint(["digest"], ["bundle.digest"], name="fk_activation_digest_bundle"),
    )
