"""A selection may have any reason: installed strategies store their own names.

SQLite cannot drop a constraint, so the table is rewritten in the transaction of the upgrade. It has one row for each
sample that was ever selected, and no other table refers to it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = "sample_id, round, reason, score, rank, propensity, words"


def upgrade() -> None:
    """Rewrite the table without the constraint on the reason; rows and index stay."""
    op.drop_index("ix_selections_round_rank", "selections")
    op.rename_table("selections", "selections_before")
    op.create_table(
        "selections",
        sa.Column("sample_id", sa.Integer, sa.ForeignKey("samples.id"), primary_key=True, autoincrement=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("propensity", sa.Float),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.execute(f"INSERT INTO selections ({COLUMNS}) SELECT {COLUMNS} FROM selections_before ORDER BY sample_id")
    op.drop_table("selections_before")
    op.create_index("ix_selections_round_rank", "selections", ["round", "rank"])
