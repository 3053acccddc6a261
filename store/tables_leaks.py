"""What was kept out of training because dev or test holds it, and how far that was looked for. Asked in leaks.py."""

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

leak_search = sa.Table(
    "leak_search",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # The last sample of those among which every leak is known.
    sa.Column("up_to", sa.Integer, nullable=False),
    sa.CheckConstraint("id = 1", name="only_one"),
)
