"""Names of imported test sets, under which a run reports them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table; test sets imported before are reported together, as they were."""
    op.create_table("benchmarks", sa.Column("name", sa.String(64), primary_key=True))
