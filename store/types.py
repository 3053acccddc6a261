"""Building blocks of the tables: metadata, constraint names, column types, and columns that many tables have."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CheckConstraint, Column, Dialect, ForeignKey, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.types import TypeDecorator

from wizloop.store import errors

_COLUMNS = "%(table_name)s_%(column_0_N_name)s"
NAMES = {
    "ix": f"ix_{_COLUMNS}",
    "uq": f"uq_{_COLUMNS}",
    "fk": f"fk_{_COLUMNS}",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}
"""Naming convention of constraints, in tables and migrations: a constraint without a name cannot be changed later."""

metadata = MetaData(naming_convention=NAMES)


def parsed_time(text: str) -> datetime:
    """Return a stored time. Raises errors.Damaged."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise unreadable(text) from error


def unreadable(value: str) -> errors.Damaged:
    """Return the error for a stored value that wizloop never wrote."""
    return errors.Damaged(f"the database is damaged: a row holds {value[:60]!a}; restore a backup")


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, stored as ISO-8601 text in UTC with microseconds, so that text order is time order.

    Raises ValueError for a naive datetime.
    """

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Return the time as text."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: the store takes aware times only")
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Parse the text."""
        return None if value is None else parsed_time(value)


class Json(TypeDecorator[Any]):
    """A JSON value, stored as text with sorted keys. Raises ValueError for NaN and infinity, which are not JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the value as JSON text."""
        return None if value is None else json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Parse the JSON text."""
        if value is None:
            return None
        try:
            return json.loads(value)
        except ValueError as error:
            raise unreadable(value) from error


class Digest(TypeDecorator[str]):
    """A SHA-256, a hex string in Python and 32 bytes in the database, which halves the index of a million samples."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: str | bytes | None, dialect: Dialect) -> bytes | None:
        """Return the digest as bytes."""
        return bytes.fromhex(value) if isinstance(value, str) else value

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Return the digest as a hex string."""
        return None if value is None else bytes(value).hex()


def one_of(column: str, *words: str) -> CheckConstraint:
    """Build a CHECK that a column holds one of these words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def model_column(name: str, **options: Any) -> "Column[int]":
    """Build a column that refers to a model."""
    return Column(name, Integer, ForeignKey("models.id"), **options)


def sample_column(name: str = "sample_id", **options: Any) -> "Column[int]":
    """Build a column that refers to a sample."""
    return Column(name, Integer, ForeignKey("samples.id"), **options)
