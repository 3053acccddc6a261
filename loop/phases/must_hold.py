"""Rows that a guard must not unlearn, `[gate] must_hold`: imported as a test set, and what flipped on them.

A row whose text is in dev or test already stays there and must hold too; one of pool or seed comes here, as every text
that measures does. The ids of the rows are kept in round 0's record, so that a file that changes later changes no run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from wizloop.loop.context import Context
from wizloop.loop.data.import_file import Checked, check
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.phases import predict
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import Task
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.store import models, samples, steps
from wizloop.store.display import shown
from wizloop.store.samples import Kept, Sample

KEY: Final = "must_hold"
"""Name of the test set, and key of round 0's record: the ids of the rows."""
HELD: Final = "must_hold_gate"
"""Key of a round's record: what flipped at its gate."""
MOST_ROWS: Final = 5000
_NAMED: Final = 3
_PROMPT_BYTES: Final = 80


@dataclass(frozen=True)
class Flip:
    """One row on which what stands is right and the challenger is not."""

    sample_id: int
    row: str
    """File and row number."""
    prompt: str
    task: Task
    label: str
    now: str | None
    """The challenger's verdict; None where it cannot be read."""

    def words(self) -> str:
        """Return the row as a person reads it, escaped and shortened."""
        prompt = shown(" ".join(self.prompt.split()), _PROMPT_BYTES)
        return f'{shown(self.row, _PROMPT_BYTES)} "{prompt}" ({self.task} {self.label}, now {self.now or "unreadable"})'


@dataclass(frozen=True)
class Held:
    """What a challenger makes of the rows that must hold, beside what stands."""

    rows: int
    flips: Sequence[Flip]
    righted: int
    """Labels on which only the challenger is right."""

    def check(self) -> tuple[bool, str]:
        """Return whether no row flipped, and the gate's words."""
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'} that must hold"
        if not self.flips:
            return True, f"none of {rows} flipped"
        flipped = len({flip.sample_id for flip in self.flips})
        more = len(self.flips) - _NAMED
        named = ", ".join(flip.words() for flip in self.flips[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        return False, f"{flipped:,} of {rows} flipped: {named}"

    def to_json(self) -> dict[str, Any]:
        """Return the record of a round."""
        return {"rows": self.rows, "righted": self.righted, "flips": [asdict(flip) for flip in self.flips]}


def described(recipe: Recipe) -> Data | None:
    """Return the file as a recipe's [[data]] describes a test set, or None."""
    if recipe.gate.must_hold is None:
        return None
    return Data(path=recipe.gate.must_hold, split="test", benchmark=KEY)


def checked(ctx: Context) -> Checked | None:
    """Read the file to its end, before anything is written. Raises ImportRefused for a row that cannot hold."""
    data = described(ctx.recipe)
    if data is None:
        return None
    found = check(data, ctx.rng("sample", data.path, KEY), declared=ctx.declared)
    refused = found.report.refused
    if fault := fault_of(data.path, found.report.rows, refused[0] if refused else None):
        found.spool.close()
        raise ImportRefused(fault)
    return found


def fault_of(path: str, rows: int, refused: Any) -> str | None:
    """Return why a file of so many rows cannot be held to, with its first refused row, or None."""
    if refused is not None:
        return f"gate.must_hold: {path}: row {refused.row}: {refused.reason}; every row of it must hold: fix or drop it"
    if rows > MOST_ROWS:
        return f"gate.must_hold: {path} has {rows:,} rows: give at most {MOST_ROWS:,}, or name them as a test set"
    return None


def keep(ctx: Context, found: Checked) -> None:
    """Keep which samples must hold, once they are imported. Raises ImportRefused for one that is trained on."""
    kept: list[int] = []
    for batch in found.batches():
        with ctx.store.read() as db:
            there = samples.with_texts(db, batch)
        kept += [_held(row, one) for row, one in zip(batch, there, strict=True)]
    with ctx.store.write() as db:
        samples.name_benchmark(db, KEY)
        steps.merge_record(db, ctx.round, {KEY: {"rows": sorted(set(kept))}})


def compared(ctx: Context, standing: models.Model, challenger: models.Model) -> Held | None:
    """Return what flipped, from stored verdicts; None without rows that must hold."""
    ids = ctx.first_record().get(KEY, {}).get("rows", [])
    if not ids:
        return None
    with ctx.store.read() as db:
        rows = samples.get(db, ids)
    before, after = (predict.stored(ctx, model, rows) for model in (standing, challenger))
    flips, righted = list[Flip](), 0
    for row in rows:
        for task, label in labels_of(row, ctx.declared).items():
            was, now = (found[row.id].verdict.get(task) if row.id in found else None for found in (before, after))
            righted += was != label and now == label
            if was == label and now != label:
                flips.append(Flip(row.id, row.row_ref, row.prompt[:200], task, label, now))
    return Held(len(rows), flips, righted)


def _held(row: Kept, there: Sample | None) -> int:
    """Return the id of the stored sample of a row. Raises ImportRefused."""
    ref = row[samples.KEPT.index("row_ref")]
    if there is None or there.split not in ("dev", "test"):
        raise ImportRefused(
            f"gate.must_hold: {ref} is a text that guards of this workspace were trained on: drop the row, or use "
            "another --workspace"
        )
    given = {task: row[samples.KEPT.index(column)] for task, column in samples.LABELS.items()}
    if any(label is not None and there.labels.get(task, label) != label for task, label in given.items()):
        raise ImportRefused(
            f"gate.must_hold: {ref} has another label than {there.row_ref}, the same text in {there.split}: correct one"
        )
    return there.id
