"""Progress of the leak search, so that an interrupted search resumes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table; an older workspace is searched again in full."""
    op.create_table(
        "leak_search",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("up_to", sa.Integer, nullable=False),
        sa.CheckConstraint("id = 1", name="only_one"),
    )
