"""Rows kept out of training because dev or test holds their text, with the sample that holds it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "leaks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("split", sa.String(8), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("row_ref", sa.Text, nullable=False),
        sa.Column("sample_id", sa.Integer, sa.ForeignKey("samples.id")),
        sa.Column("held_id", sa.Integer, sa.ForeignKey("samples.id"), nullable=False),
        sa.Column("similarity", sa.Float, nullable=False),
        sa.Column("found_at", sa.String(27), nullable=False),
        sa.UniqueConstraint("split", "source", "row_ref", "held_id"),
    )
    op.create_index("ix_leaks_held_id", "leaks", ["held_id"])
