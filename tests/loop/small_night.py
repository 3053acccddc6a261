"""A short night in one process on the stand-in backend, phase by phase, and the rows that it leaves."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import stored
from tests.loop.stand_in import StandIn
from wizloop.loop.context import Context, standalone
from wizloop.loop.guard.judge import Judge
from wizloop.loop.phases import order
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.store import (
    control,
    exports,
    models,
    predictions,
    reviews,
    selections,
    steps,
    teacher_calls,
    training,
)
from wizloop.store.db import Connection, Store

ROUNDS = 1
NOW = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


def recipe(**changes: Any) -> Recipe:
    given: dict[str, Any] = {
        "name": "small",
        "source": "demo",
        "seed": 7,
        "rounds": ROUNDS,
        "data_demo": {"pool": 90, "seed": 30, "dev": 40, "test": 40},
        "select": {"budget": 16},
        "classify": {"batch": 16},
        "review": {"rule": "nothing"},
        "export": {"formats": ["safetensors", "mlx-4bit"], "parity_n": 8},
        **changes,
    }
    return Recipe.model_validate_json(json.dumps(given))


class Night:
    """Runs phases in one process, one after the other, as the supervisor has its worker do."""

    def __init__(self, folder: Path, asked: Recipe, **how: Any) -> None:
        self.folder, self.recipe = folder, asked
        self.backend = StandIn(**how)
        self.store = Store.create(folder)
        with self.store.write() as db:
            if control.get_run(db) is None:
                self._begin(db)

    def _begin(self, db: Connection) -> None:
        control.create_run(
            db,
            name=self.recipe.name,
            recipe_json=canonical_json(self.recipe),
            recipe_hash=recipe_hash(self.recipe),
            seed=self.recipe.seed,
            cap_micro=None,
            until=None,
            rounds_wanted=self.recipe.rounds,
            now=NOW,
        )

    def phase(self, round: int, phase: str, stop_asked: Callable[[], bool] = lambda: False) -> str | None:
        with self.store.write() as db:
            run = control.get_run(db)
            steps.begin_round(db, round, run.champion_id if run else None, NOW)
            steps.begin_step(db, round, phase, NOW)
        context = Context(
            self.store, self.folder, self.recipe, round, phase, lambda: NOW, stop_asked, given=self.backend
        )
        return order.load(phase)(context)

    def round(self, number: int, through: str = order.PHASES[-1]) -> None:
        """Run the phases of a round up to and including one."""
        for phase in order.phases_of(number):
            self.phase(number, phase)
            if phase == through:
                return

    def copy(self, folder: Path, asked: Recipe | None = None) -> "Night":
        """Go on from here in another folder, with another recipe or the same."""
        shutil.copytree(self.folder, folder)
        return Night(folder, asked or self.recipe)

    def judge(self, name: str, phase: str) -> Judge:
        """Load a model as the judge of a phase."""
        ctx = standalone(self.store, self.folder, self.recipe, phase, NOW)
        ctx.given = self.backend
        with self.store.read() as db:
            model = models.by_name(db, name)
        assert model is not None
        return ctx.judge(model)

    def all(self) -> None:
        for round in range(ROUNDS + 1):
            self.round(round)

    def rows(self) -> dict[str, Any]:
        """Everything that must be the same whatever interrupted the night."""
        with self.store.read() as db:
            made = [model for round in range(ROUNDS + 1) for model in models.in_round(db, round)]
            splits = ("pool", "dev", "test")
            kept = range(ROUNDS + 1)
            return {
                "models": [(m.name, m.role, m.calibration_json, m.sha256) for m in made],
                "predictions": [predictions.of_model(db, m.id, split) for m in made for split in splits],
                "traces": [predictions.traces_of(db, m.id, list(range(1, 300))) for m in made],
                "selections": [selections.of_round(db, round) for round in kept],
                "teacher": [(c.key, c.state) for round in kept for c in teacher_calls.calls(db, round)],
                "reviews": [(t.sample_id, t.explanation) for t in reviews.approved(db, ROUNDS)],
                "pairs": [training.pairs(db, round) for round in kept],
                "uses": [stored.uses(db, m.id) for m in made],
                "losses": [stored.losses(db, m.id, kind) for m in made for kind in ("sft", "dpo")],
                "evaluations": [stored.evaluations(db, round) for round in kept],
                "records": [(r.number, r.record) for r in steps.rounds(db)],
                "left out": [stored.dropped(db, round) for round in kept],
                "gate": [(r.passed, r.gate_reason, r.champion_after) for r in steps.rounds(db)],
                "exports": [(e.path, e.parity_json) for round in kept for e in exports.of_round(db, round)],
            }
