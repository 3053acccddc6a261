"""Copies of a short night, so that many tests go on from one beginning, and the questions that they ask of its rows."""

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import update

from tests.loop.small_night import Night
from tests.loop.stand_in import StandIn
from wizloop.loop.phases import order
from wizloop.recipes.schema import Recipe
from wizloop.store import models, tables
from wizloop.store.db import Store
from wizloop.store.models import Model
from wizloop.store.sqlite import DB_NAME


class Branch(Night):
    """A copy of a night's workspace, in which a test goes on by a recipe of its own."""

    def __init__(self, night: Night, folder: Path, asked: Recipe | None = None, **how: Any) -> None:
        shutil.copytree(night.folder, folder, ignore=shutil.ignore_patterns(f"{DB_NAME}*"))
        night.store.backup(folder / DB_NAME)
        self.folder, self.recipe = folder, asked or night.recipe
        self.backend = StandIn(**how)
        self.store = Store.open(folder)


def run(night: Night, round: int, first: str, last: str) -> None:
    """Run a round's phases from `first` to `last`."""
    phases = order.phases_of(round)
    for phase in phases[phases.index(first) : phases.index(last) + 1]:
        night.phase(round, phase)


def model(night: Night, name: str) -> Model:
    """Return the model of this name."""
    with night.store.read() as db:
        found = models.by_name(db, name)
    assert found is not None, name
    return found


def change(night: Night, ids: list[int], **values: Any) -> None:
    """Overwrite columns of samples, as no phase would."""
    with night.store.write() as db:
        db.execute(update(tables.samples).where(tables.samples.c.id.in_(ids)).values(**values))
