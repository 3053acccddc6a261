"""The tables of how teacher calls are sent: in batches, at which price, and not before when. Asked in batches.py."""

import sqlalchemy as sa

from wizloop.store.columns import metadata, one_of
from wizloop.store.types import UtcTime

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tag", sa.String(64), nullable=False),
    sa.Column("teacher", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("provider_id", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("submitted_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.UniqueConstraint("tag"),
    sa.Index(None, "state"),
    one_of("state", "intent", "submitted", "collected", "dropped"),
)

sendings = sa.Table(
    "sendings",
    metadata,
    sa.Column("call_id", sa.Integer, sa.ForeignKey("teacher_calls.id"), primary_key=True, autoincrement=False),
    sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.id")),
    sa.Column("price_json", sa.Text),
    sa.Column("answered_by", sa.Text),
    sa.Column("retry_at", UtcTime),
    sa.Index(None, "batch_id"),
)
