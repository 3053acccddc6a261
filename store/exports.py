"""Finished exports of models. Does not open their files."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from wizloop.store import rows, tables


@dataclass(frozen=True, slots=True)
class Export:
    """One exported folder or file: its parity with its model, and the hash of its manifest."""

    id: int
    round: int
    model_id: int
    format: str
    path: str
    parity_json: str
    sha256: str
    created_at: datetime


def add(
    db: Connection, round: int, model_id: int, format: str, path: str, parity_json: str, sha256: str, now: datetime
) -> None:
    """Record a finished export; a later one to the same path replaces it."""
    made = {"model_id": model_id, "parity_json": parity_json, "sha256": sha256, "created_at": now}
    rows.put(db, tables.exports, {"round": round, "format": format, "path": path}, made)


def of_round(db: Connection, round: int) -> list[Export]:
    """Return a round's exports, oldest first."""
    table = tables.exports
    query = select(*rows.columns(table, Export)).where(table.c.round == round)
    return rows.every(db, Export, query.order_by(table.c.id))
