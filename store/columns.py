"""What the tables are made of: the metadata that holds them, names of constraints, columns that many of them have."""

from typing import Any

import sqlalchemy as sa

_COLUMNS = "%(table_name)s_%(column_0_N_name)s"
NAMES = {
    "ix": f"ix_{_COLUMNS}",
    "uq": f"uq_{_COLUMNS}",
    "fk": f"fk_{_COLUMNS}",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}
"""How constraints are named, in the tables and in the migrations: what has no name cannot be changed later."""

metadata = sa.MetaData(naming_convention=NAMES)


def one_of(column: str, *words: str) -> sa.CheckConstraint:
    """That a column holds one of these words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def model(name: str, **options: Any) -> "sa.Column[int]":
    """A column that names a model."""
    return sa.Column(name, sa.Integer, sa.ForeignKey("models.id"), **options)


def sample(name: str = "sample_id", **options: Any) -> "sa.Column[int]":
    """A column that names a sample."""
    return sa.Column(name, sa.Integer, sa.ForeignKey("samples.id"), **options)
