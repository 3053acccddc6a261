"""Exports of models, finished and failed. Does not open their files."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from wizloop.store import rows, tables


@dataclass(frozen=True, slots=True)
class Export:
    """One exported folder: its parity with its model, and the hash of its manifest, empty if it failed."""

    id: int
    round: int
    model_id: int
    format: str
    path: str
    parity_json: str
    sha256: str
    created_at: datetime

    @property
    def parity(self) -> dict[str, Any]:
        """The parsed `parity_json`: n, agree, max_difference; of a lossy export metrics, passed and reason too."""
        found: dict[str, Any] = json.loads(self.parity_json)
        return found

    @property
    def failed(self) -> str | None:
        """Why nothing was kept of it; None for a finished export."""
        found = self.parity
        return None if found.get("passed", True) else str(found["reason"])


def add(
    db: Connection, round: int, model_id: int, format: str, path: str, parity_json: str, sha256: str, now: datetime
) -> None:
    """Record an export; a later one to the same path replaces it."""
    made = {"model_id": model_id, "parity_json": parity_json, "sha256": sha256, "created_at": now}
    rows.put(db, tables.exports, {"round": round, "format": format, "path": path}, made)


def of_round(db: Connection, round: int) -> list[Export]:
    """Return a round's exports, oldest first."""
    table = tables.exports
    query = select(*rows.columns(table, Export)).where(table.c.round == round)
    return rows.every(db, Export, query.order_by(table.c.id))
