"""Batches of teacher calls, and how each call is sent: its batch, price, and earliest time to send it again.

New tables instead of new columns: `teacher_calls` holds money and is referenced, so it is not rebuilt.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TIME = sa.String(27)
STATES = ("intent", "submitted", "collected", "dropped")


def upgrade() -> None:
    """Create both tables."""
    listed = ", ".join(f"'{state}'" for state in STATES)
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.Column("teacher", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("provider_id", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("submitted_at", TIME),
        sa.Column("ended_at", TIME),
        sa.UniqueConstraint("tag"),
        sa.CheckConstraint(f"state IN ({listed})", name="state"),
    )
    op.create_index("ix_batches_state", "batches", ["state"])
    op.create_table(
        "sendings",
        sa.Column("call_id", sa.Integer, sa.ForeignKey("teacher_calls.id"), primary_key=True, autoincrement=False),
        sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.id")),
        sa.Column("price_json", sa.Text),
        sa.Column("answered_by", sa.Text),
        sa.Column("retry_at", TIME),
    )
    op.create_index("ix_sendings_batch_id", "sendings", ["batch_id"])
