"""The ledger as a chain, its checkpoints, erasure, and requests that are carried out once."""

import secrets

import sqlalchemy as sa
from alembic import op

from consent.record.chain import ID_BYTES, LEDGER, Entry, entry_hash, genesis

revision = "0003"
down_revision = "0002"

PAGE = 10_000


def upgrade() -> None:
    """Makes the tables, and the chain of the events that there are."""
    op.create_table(
        "request",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_request"),
    )
    op.create_table(
        "checkpoint",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_checkpoint"),
    )
    op.add_column("subject", sa.Column("erase_after", sa.BigInteger()))
    op.add_column(
        "event", sa.Column("recorded_us", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column(
        "event",
        sa.Column("hash", sa.LargeBinary(32), nullable=False, server_default=sa.text("''")),
    )
    _chain(op.get_bind())


def _chain(connection: sa.Connection) -> None:
    setting = sa.table("setting", sa.column("name"), sa.column("value"))
    ledger = secrets.token_bytes(ID_BYTES)
    connection.execute(setting.insert().values(name=LEDGER, value=ledger.hex()))
    columns = (
        "sequence", "at_us", "recorded_us", "kind", "subject_id", "entity_id", "body", "actor",
    )  # fmt: skip
    event = sa.table("event", *map(sa.column, columns), sa.column("hash"))
    head, after = genesis(ledger), 0
    query = sa.select(*(event.c[name] for name in columns)).order_by(event.c.sequence)
    while rows := connection.execute(query.where(event.c.sequence > after).limit(PAGE)).all():
        for row in rows:
            head = entry_hash(head, Entry(*row))
            mine = event.c.sequence == row.sequence
            connection.execute(event.update().where(mine).values(hash=head))
        after = rows[-1].sequence
