"""Models on disk: which there are, what each came from, where it lies. Their files are not opened here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from wizloop.store import errors, rows, tables
from wizloop.store.engine import upsert


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `path` is relative to the workspace; `sha256` is of its manifest."""

    id: int
    name: str
    role: str
    """base, member, sft or challenger."""
    round: int
    parent_id: int | None
    path: str
    sha256: str
    calibration_json: str | None
    meta_json: str
    created_at: datetime


def add(
    db: Connection,
    *,
    name: str,
    role: str,
    round: int,
    parent_id: int | None,
    path: str,
    sha256: str,
    meta_json: str,
    now: datetime,
    calibration_json: str | None = None,
) -> int:
    """Register a model and get its id; a name that is there keeps its row and its id."""
    new = upsert(db, tables.models).values(
        name=name,
        role=role,
        round=round,
        parent_id=parent_id,
        path=path,
        sha256=sha256,
        calibration_json=calibration_json,
        meta_json=meta_json,
        created_at=now,
    )
    db.execute(new.on_conflict_do_nothing(index_elements=["name"]))
    return int(db.scalars(select(tables.models.c.id).where(tables.models.c.name == name)).one())


def get(db: Connection, id: int) -> Model:
    """One model. Raises errors.NotFound."""
    found = _where(db, tables.models.c.id == id)
    if not found:
        raise errors.NotFound(f"there is no model with the id {id}")
    return found[0]


def by_name(db: Connection, name: str) -> Model | None:
    """The model of that name, or None."""
    return next(iter(_where(db, tables.models.c.name == name)), None)


def in_round(db: Connection, round: int) -> Sequence[Model]:
    """All models made in a round, in the order of their making."""
    return _where(db, tables.models.c.round == round)


def members(db: Connection, round: int) -> Sequence[Model]:
    """The members of the ensemble made in a round."""
    return _where(db, tables.models.c.round == round, tables.models.c.role == "member")


def set_calibration(db: Connection, id: int, calibration_json: str) -> None:
    """Keep what was learned of the model's confidence on dev. Raises errors.NotFound."""
    changed = update(tables.models).where(tables.models.c.id == id).values(calibration_json=calibration_json)
    if db.execute(changed).rowcount == 0:
        raise errors.NotFound(f"there is no model with the id {id}")


def _where(db: Connection, *conditions: ColumnElement[Any]) -> list[Model]:
    query = select(*rows.columns(tables.models, Model)).where(*conditions).order_by(tables.models.c.id)
    return rows.every(db, Model, query)
