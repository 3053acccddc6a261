"""Samples' digests get a unique index instead of a constraint: an index can be created after many rows are inserted.

SQLite rewrites the table for this, once, in the transaction of the upgrade: seconds for a million samples. Tables that
refer to it stay as they are, because the connection of an upgrade does not enforce foreign keys
(sqlite.org/lang_altertable.html, 7).
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEPT = (
    *("id", "split", "prompt", "response", "source", "row_ref", "request", "completion", "response_label", "policy"),
    *("hash", "excluded", "added_at"),
)


def upgrade() -> None:
    """Rewrite the table without the constraint, and add the index."""
    op.drop_index("ix_samples_split_id", "samples")
    # Without it, references to samples would follow the rename.
    op.execute("PRAGMA legacy_alter_table=ON")
    op.rename_table("samples", "samples_before")
    op.execute("PRAGMA legacy_alter_table=OFF")
    _samples()
    names = ", ".join(KEPT)
    op.execute(f"INSERT INTO samples ({names}) SELECT {names} FROM samples_before ORDER BY id")
    op.drop_table("samples_before")
    op.create_index("ix_samples_split_id", "samples", ["split", "id"])
    op.create_index("ix_samples_hash", "samples", ["hash"], unique=True)


def _samples() -> None:
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("split", sa.String(8), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("response", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("row_ref", sa.Text, nullable=False),
        sa.Column("request", sa.String(16)),
        sa.Column("completion", sa.String(16)),
        sa.Column("response_label", sa.String(16)),
        sa.Column("policy", sa.Text),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("excluded", sa.Text),
        sa.Column("added_at", sa.String(27), nullable=False),
        sa.CheckConstraint("split IN ('pool', 'seed', 'dev', 'test')", name="split"),
    )
