"""The phases of a round, where there are more than lines."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from wizloop.console.words import phases_of
from wizloop.store import control, steps
from wizloop.store.db import Store
from wizloop.store.overview import overview
from wizloop.tui.formatting import phase_lines

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("done", "height", "first"), [(0, 9, 0), (1, 9, 1), (4, 9, 2), (4, 7, 4), (4, 2, 4), (10, 9, 2), (3, 10, 1)]
)
def test_finished_phases_make_room_for_those_to_come(tmp_path: Path, done: int, height: int, first: int) -> None:
    asked = {"recipe_json": "{}", "recipe_hash": "", "seed": 1, "cap_micro": None, "until": None, "rounds_wanted": 1}
    with Store.create(tmp_path) as store, store.write() as db:
        control.create_run(db, name="mine", now=NOW, **asked)  # type: ignore[arg-type]
        steps.begin_round(db, 0, None, NOW)
        for phase in phases_of(0)[:done]:
            steps.begin_step(db, 0, phase, NOW)
            steps.finish_step(db, 0, phase, "", NOW)
        now = overview(db)
    lines = phase_lines(now, NOW, 60, height).plain.splitlines()
    assert [line[3:].split()[0] for line in lines] == list(phases_of(0)[first:])
