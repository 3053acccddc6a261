"""The digests of samples get an index of their own instead of a constraint: an index can be made after many rows.

SQLite writes the table anew for this, once, in the transaction of the upgrade: seconds for a million samples. Tables
that refer to it must not notice, so that the connection of an upgrade enforces no references
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
    """Replace the constraint by a unique index of the same rows."""
    if op.get_bind().dialect.name == "sqlite":
        _written_anew()
    else:
        op.drop_constraint("uq_samples_hash", "samples")
    op.create_index("ix_samples_hash", "samples", ["hash"], unique=True)


def _written_anew() -> None:
    op.drop_index("ix_samples_split_id", "samples")
    # Without it, what refers to samples would refer to the old table from here on.
    op.execute("PRAGMA legacy_alter_table=ON")
    op.rename_table("samples", "samples_before")
    op.execute("PRAGMA legacy_alter_table=OFF")
    _samples()
    names = ", ".join(KEPT)
    op.execute(f"INSERT INTO samples ({names}) SELECT {names} FROM samples_before ORDER BY id")
    op.drop_table("samples_before")
    op.create_index("ix_samples_split_id", "samples", ["split", "id"])


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
