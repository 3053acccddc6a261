"""The table of what was kept out of training because dev or test holds it. Asked in leaks.py."""

import sqlalchemy as sa

from wizloop.store.columns import metadata, sample
from wizloop.store.types import UtcTime

leaks = sa.Table(
    "leaks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("split", sa.String(8), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("row_ref", sa.Text, nullable=False),
    # Empty: the row is no sample of its own, since the held-out sample is its very text.
    sample(),
    sample("held_id", nullable=False),
    sa.Column("similarity", sa.Float, nullable=False),
    sa.Column("found_at", UtcTime, nullable=False),
    sa.UniqueConstraint("split", "source", "row_ref", "held_id"),
    sa.Index(None, "held_id"),
)
