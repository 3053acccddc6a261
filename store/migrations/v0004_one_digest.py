"""Samples keep only the digest of their exact text: near duplicates are found from the text itself.

SQLite rewrites the table for this, once, in the transaction of the upgrade: seconds for a million samples.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Drop the digest of the normalized text."""
    op.drop_column("samples", "norm_hash")
