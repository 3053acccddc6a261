"""The tables of rating sets: outputs drawn once, and what each rater said of them."""

import sqlalchemy as sa

from wizloop.store.types import Digest, Json, UtcTime, metadata, one_of, sample_column

rating_sets = sa.Table(
    "rating_sets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("of", sa.String(8), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("round", sa.Integer),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    one_of("of", "guard", "teacher", "file"),
)

rated_outputs = sa.Table(
    "rated_outputs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("set_id", sa.Integer, sa.ForeignKey("rating_sets.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sample_column(),
    sa.Column("row_ref", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("response", sa.Text),
    sa.Column("reasoning", sa.Text, nullable=False),
    sa.Column("questions", Json, nullable=False),
    # The output's own verdict: no rater is shown it.
    sa.Column("verdict", Json, nullable=False),
    sa.Column("digest", Digest, nullable=False),
    sa.UniqueConstraint("set_id", "position"),
)

ratings = sa.Table(
    "ratings",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("output_id", sa.Integer, sa.ForeignKey("rated_outputs.id"), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("decision", sa.String(8), nullable=False),
    sa.Column("verdict", Json, nullable=False),
    sa.Column("coherence", sa.Integer),
    sa.Column("rated_at", UtcTime, nullable=False),
    sa.Column("rating_id", sa.String(128), nullable=False),
    sa.UniqueConstraint("rating_id"),
    sa.Index(None, "output_id", "by"),
    one_of("decision", "rate", "undo"),
    sa.CheckConstraint("coherence BETWEEN 1 AND 5", name="coherence"),
)
