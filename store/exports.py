"""Which model folders were exported. An export that is not here is not finished; its files are not opened here."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from wizloop.store import rows, tables
from wizloop.store.engine import upsert


@dataclass(frozen=True, slots=True)
class Export:
    """One exported folder or file, how it compared with its model, and the hash of its manifest."""

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
    """Note that an export is complete; one to the same path again replaces the figures of the first."""
    made = {"model_id": model_id, "parity_json": parity_json, "sha256": sha256, "created_at": now}
    new = upsert(db, tables.exports).values(round=round, format=format, path=path, **made)
    db.execute(new.on_conflict_do_update(index_elements=["round", "format", "path"], set_=made))


def of_round(db: Connection, round: int) -> list[Export]:
    """A round's exports, in the order of their making."""
    table = tables.exports
    return rows.every(
        db, Export, select(*rows.columns(table, Export)).where(table.c.round == round).order_by(table.c.id)
    )
