"""What a run has still to ask its teachers: the seed, a batch a round, and what was picked and is not taught yet.

At most as many samples as these are asked about; a sample that one teacher does not answer goes to the next.
"""

from collections.abc import Sequence

from wizloop.loop.preflight.data_sources import Source, Usual, mean_text, rows_of, usual_of
from wizloop.loop.teaching.estimates import Load
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Split
from wizloop.store import samples, selections, steps
from wizloop.store.db import Connection

_LOOKED_AT = 1000
NOTHING = Load(0, 0.0, 0.0, 0)


def left(recipe: Recipe, found: Sequence[Source], rounds: int, db: Connection | None) -> Load | None:
    """The questions from now to the end of round `rounds`, or None where the samples are not known."""
    chosen = set() if db is None else _chosen(db)
    taken = 0 if db is None else sum(len(selections.of_round(db, number)) for number in chosen - {0})
    to_come = sum(number not in chosen for number in range(1, rounds + 1))
    seed, pool = 0 if 0 in chosen else _rows(found, "seed", db), _rows(found, "pool", db)
    if seed is None:
        return None
    drawn = to_come * recipe.select.budget
    drawn = drawn if pool is None else min(drawn, max(pool - taken, 0))
    parts = [_load(found, "seed", seed, 1, db), _load(found, "pool", drawn, to_come, db), _waiting(db, chosen)]
    known = [part for part in parts if part is not None]
    return sum(known, start=NOTHING) if len(known) == len(parts) else None


def _chosen(db: Connection) -> set[int]:
    """The rounds that have picked their samples."""
    begun = [(one.number, steps.step(db, one.number, "select")) for one in steps.rounds(db)]
    return {number for number, step in begun if step is not None and step.state == "done"}


def _waiting(db: Connection | None, chosen: set[int]) -> Load:
    """What the newest round picked and has not been taught, as long as its teachers are still to be asked."""
    if db is None or not chosen:
        return NOTHING
    taught = steps.step(db, max(chosen), "teach")
    if taught is not None and taught.state == "done":
        return NOTHING
    waiting = samples.get(db, [one.sample_id for one in selections.untaught(db, max(chosen))])
    usual = mean_text(waiting)
    return NOTHING if usual is None else _of(usual, len(waiting), 1)


def _load(found: Sequence[Source], split: Split, number: int, turns: int, db: Connection | None) -> Load | None:
    """So many questions about samples of a split."""
    if not number:
        return NOTHING
    usual = None if db is None else mean_text(samples.page(db, split, 0, _LOOKED_AT))
    usual = usual or usual_of(found, split)
    return None if usual is None else _of(usual, number, turns)


def _of(usual: Usual, number: int, turns: int) -> Load:
    return Load(number, number * usual.text_bytes, number * usual.pairs, turns)


def _rows(found: Sequence[Source], split: Split, db: Connection | None) -> int | None:
    """The samples of a split: as they came in, or at most, before they did."""
    imported = None if db is None else steps.step(db, 0, "import")
    if db is None or imported is None or imported.state != "done":
        return rows_of(found, split)
    return samples.counts(db)[split]
