"""Runs the steps in the transaction that `consent.record.database` holds open."""

from alembic import context

from consent.record.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
