"""Categories of samples, and models' probabilities of categories."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables; samples that were imported before have no categories."""
    op.create_table(
        "sample_categories",
        sa.Column("sample_id", sa.Integer, sa.ForeignKey("samples.id"), primary_key=True),
        sa.Column("category", sa.String(200), primary_key=True),
    )
    op.create_table(
        "category_predictions",
        sa.Column("model_id", sa.Integer, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("sample_id", sa.Integer, sa.ForeignKey("samples.id"), primary_key=True),
        sa.Column("probability", sa.Text, nullable=False),
    )
