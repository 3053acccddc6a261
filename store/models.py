"""Registered models: role, parent, and path. Does not open their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from wizloop.store import errors, rows, tables


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


_MODELS = select(*rows.columns(tables.models, Model)).order_by(tables.models.c.id)


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
    """Register a model and return its id; an existing model of that name keeps its row."""
    made = {"name": name, "role": role, "round": round, "parent_id": parent_id, "path": path, "sha256": sha256}
    made |= {"calibration_json": calibration_json, "meta_json": meta_json, "created_at": now}
    rows.add_missing(db, tables.models, [made])
    return int(db.scalars(select(tables.models.c.id).where(tables.models.c.name == name)).one())


def get(db: Connection, id: int) -> Model:
    """Return a model. Raises errors.NotFound."""
    found = rows.first(db, Model, _MODELS.where(tables.models.c.id == id))
    if found is None:
        raise errors.NotFound(f"there is no model with the id {id}")
    return found


def by_name(db: Connection, name: str) -> Model | None:
    """Return the model of that name, or None."""
    return rows.first(db, Model, _MODELS.where(tables.models.c.name == name))


def in_round(db: Connection, round: int) -> Sequence[Model]:
    """Return the models made in a round, oldest first."""
    return rows.every(db, Model, _MODELS.where(tables.models.c.round == round))


def members(db: Connection, round: int) -> Sequence[Model]:
    """Return the ensemble members made in a round."""
    return [model for model in in_round(db, round) if model.role == "member"]


def set_sha256(db: Connection, path: str, sha256: str) -> None:
    """Store the hash of a folder that was made again, with every model that is in it."""
    db.execute(update(tables.models).where(tables.models.c.path == path).values(sha256=sha256))


def set_calibration(db: Connection, id: int, calibration_json: str) -> None:
    """Store a model's calibration on dev. Raises errors.NotFound."""
    changed = update(tables.models).where(tables.models.c.id == id).values(calibration_json=calibration_json)
    if db.execute(changed).rowcount == 0:
        raise errors.NotFound(f"there is no model with the id {id}")
