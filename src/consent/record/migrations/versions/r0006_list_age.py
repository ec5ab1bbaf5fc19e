"""How old a list may be before its facts are stale."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Lists that there are may have any age."""
    op.add_column(
        "catalogue",
        sa.Column("max_age_s", sa.BigInteger(), nullable=False, server_default="0"),
    )
