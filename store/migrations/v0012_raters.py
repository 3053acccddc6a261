"""Rating sets, their outputs, and the ratings of people."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0009"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "rating_sets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("of", sa.String(8), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("round", sa.Integer),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.CheckConstraint("of IN ('guard', 'teacher', 'file')", name="of"),
    )
    _outputs()
    op.create_table(
        "ratings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("output_id", sa.Integer, sa.ForeignKey("rated_outputs.id"), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("coherence", sa.Integer),
        sa.Column("rated_at", sa.String(27), nullable=False),
        sa.Column("rating_id", sa.String(128), nullable=False),
        sa.UniqueConstraint("rating_id"),
        sa.CheckConstraint("decision IN ('rate', 'undo')", name="decision"),
        sa.CheckConstraint("coherence BETWEEN 1 AND 5", name="coherence"),
    )
    op.create_index("ix_ratings_output_id_by", "ratings", ["output_id", "by"])


def _outputs() -> None:
    op.create_table(
        "rated_outputs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("set_id", sa.Integer, sa.ForeignKey("rating_sets.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("sample_id", sa.Integer, sa.ForeignKey("samples.id")),
        sa.Column("row_ref", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("response", sa.Text),
        sa.Column("reasoning", sa.Text, nullable=False),
        sa.Column("questions", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.UniqueConstraint("set_id", "position"),
    )
