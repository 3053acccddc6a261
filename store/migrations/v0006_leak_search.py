"""How far the search for leaks has come, so that one that was cut short is taken up by the next."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table; a workspace of before is searched once more, whole."""
    op.create_table(
        "leak_search",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("up_to", sa.Integer, nullable=False),
        sa.CheckConstraint("id = 1", name="only_one"),
    )
