"""The record: catalogue of lists, audit, entities, ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROWID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes every table."""
    counter = op.create_table(
        "counter",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )
    op.bulk_insert(counter, [{"name": "revision", "value": 0}, {"name": "event", "value": 0}])
    op.create_table(
        "setting",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
    )
    op.create_table(
        "catalogue",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("region", sa.String(2), nullable=False),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue"),
        sa.UniqueConstraint("name", name="uq_catalogue_name"),
    )
    op.create_table(
        "generation",
        sa.Column("list_id", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("loaded", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.String(64), nullable=False),
        sa.Column("loaded_us", sa.BigInteger(), nullable=False),
        sa.Column("activated_us", sa.BigInteger()),
        sa.Column("retired_us", sa.BigInteger()),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("list_id", "generation", name="pk_generation"),
        sa.ForeignKeyConstraint(
            ["list_id"], ["catalogue.id"], name="fk_generation_list_id_catalogue"
        ),
    )
    op.create_table(
        "audit",
        sa.Column("id", ROWID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "entity",
        sa.Column("id", ROWID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("categories", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_entity"),
        sa.UniqueConstraint("name", name="uq_entity_name"),
    )
    op.create_table(
        "entity_range",
        sa.Column("lo", ROWID, nullable=False),
        sa.Column("hi", sa.BigInteger(), nullable=False),
        sa.Column("entity_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lo", name="pk_entity_range"),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["entity.id"], name="fk_entity_range_entity_id_entity"
        ),
    )
    op.create_index("ix_entity_range_entity_id", "entity_range", ["entity_id"])
    op.create_table(
        "subject",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("token", sa.LargeBinary(32), nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_subject"),
        sa.UniqueConstraint("token", name="uq_subject_token"),
    )
    op.create_table(
        "event",
        sa.Column("sequence", ROWID, autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("entity_id", sa.BigInteger()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_event"),
        sa.ForeignKeyConstraint(["subject_id"], ["subject.id"], name="fk_event_subject_id_subject"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.id"], name="fk_event_entity_id_entity"),
    )
    op.create_index("ix_event_subject_id_sequence", "event", ["subject_id", "sequence"])
    op.create_index("ix_event_entity_id_sequence", "event", ["entity_id", "sequence"])
