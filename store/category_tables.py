"""The tables of categories, of samples and in predictions, as the newest migration leaves them."""

import sqlalchemy as sa

from wizloop.store.types import Json, metadata
from wizloop.store.types import model_column as _model
from wizloop.store.types import sample_column as _sample

sample_categories = sa.Table(
    "sample_categories",
    metadata,
    _sample(primary_key=True),
    # As the file names it; empty: it says that the sample is in none.
    sa.Column("category", sa.String(200), primary_key=True),
)

category_predictions = sa.Table(
    "category_predictions",
    metadata,
    _model("model_id", primary_key=True),
    _sample(primary_key=True),
    sa.Column("probability", Json, nullable=False),
)
