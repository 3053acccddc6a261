"""A sample keeps the digest of its exact text alone: what is the same but for case and spacing is found by the text.

SQLite writes the table anew for this, once, in the transaction of the upgrade: seconds for a million samples.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Drop the digest of the normalised text."""
    op.drop_column("samples", "norm_hash")
