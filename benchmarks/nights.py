"""Run nights of a benchmark, with a few recipe keys changed, and read each round's figures beside those of peers.

Not a command; acceptance.py and parts.py are.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from scipy.stats import t as student
from sqlalchemy import select

from wizloop.loop.data.similarity import normalize
from wizloop.loop.measures import linear
from wizloop.loop.measures.metrics import Score, score
from wizloop.loop.measures.platt import threshold
from wizloop.recipes import schema
from wizloop.store import models, predictions, reviews, samples, selections, steps, tables
from wizloop.store.db import Store
from wizloop.store.samples import Sample

RECIPES = Path(__file__).with_name("recipes")
"""Recipes that need the real data beside the repository."""
RANDOM = {"uncertain_compliance": 0.0, "disagreement": 0.0, "low_confidence": 0.0, "diversity": 0.0, "random": 1.0}


@dataclass(frozen=True)
class Round:
    """One round of a night: scores of its challenger and of peers on the request task."""

    number: int
    labels: int
    guard: dict[str, Score]
    """By `dev`, each benchmark, and `all test`."""
    linear: dict[str, Score]
    """TF-IDF of words and characters with logistic regression, trained on the verdicts of this round's guard; empty if
    these were all the same."""
    record: dict[str, Any]
    passed: bool | None
    gate: str
    selected: dict[str, int]
    harmful_selected: float | None
    """Share of the round's selection that the teacher called harmful."""


def recipe_file(name: str) -> Path:
    """Return the file of a recipe of these benchmarks, or else of a shipped one."""
    own = RECIPES / f"{name}.toml"
    return own if own.is_file() else schema.find(name)


def changed(recipe: str, *changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's table with `changes` applied in turn: a key, or a section's name to its keys."""
    table = tomllib.loads(recipe_file(recipe).read_text(encoding="utf-8"))
    for each in changes:
        for name, value in each.items():
            table[name] = table.get(name, {}) | value if isinstance(value, Mapping) else value
    return table


@dataclass(frozen=True)
class Nights:
    """A benchmark's nights, each in a workspace of its own."""

    folder: Path
    changes: Mapping[str, Any]
    """Changes to the recipes by the user."""
    only_read: bool
    """Start and resume no night."""

    def run(self, recipe: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """Run a recipe headless with `before`, the user's changes and `after` applied; return how long it took."""
        workspace = self.folder / name
        if self.only_read:
            return "read again"
        went_on = "went on for " if (workspace / "wizloop.db").exists() else ""
        seconds = _night(changed(recipe, before, self.changes, after), workspace)
        return f"{went_on}{seconds / 60:.1f} min"


def _night(table: Mapping[str, Any], workspace: Path) -> float:
    """Run a night and return its seconds."""
    workspace.mkdir(parents=True, exist_ok=True)
    path = workspace / "recipe.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    program = str(Path(sys.executable).parent / "wizloop")
    # An existing night may have been shorter.
    limits = ["--rounds", str(table["rounds"])]
    command = [program, "start", str(path), "--headless", "-w", str(workspace), *limits]
    began = time.monotonic()
    with (workspace / "night.log").open("a", encoding="utf-8") as log:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    if code:
        said = (workspace / "night.log").read_text(encoding="utf-8")[-2000:]
        raise SystemExit(f"the night in {workspace} ended with {code}:\n{said}")
    return time.monotonic() - began


def add_options(ask: argparse.ArgumentParser) -> None:
    """Add the options of every benchmark of nights."""
    ask.add_argument("--at-once", type=int, default=1, help="concurrent nights")
    ask.add_argument("--changes", type=Path, metavar="TOML", help="changes to the recipe, for a shorter night, say")
    ask.add_argument("--keep", type=Path, metavar="DIR", help="keep the workspaces in this folder, or resume them")
    ask.add_argument("--read", action="store_true", help="run no night, only read the workspaces of --keep")


@contextmanager
def asked(ask: argparse.ArgumentParser, given: argparse.Namespace) -> Iterator[Nights]:
    """Yield the nights of these options."""
    if given.read and given.keep is None:
        ask.error("--read needs --keep DIR, the folder of the workspaces to read")
    changes = tomllib.loads(given.changes.read_text(encoding="utf-8")) if given.changes else {}
    with tempfile.TemporaryDirectory() as scratch:
        yield Nights(given.keep or Path(scratch), changes, given.read)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean (Student's t)."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(student.ppf(0.975, len(values) - 1)) * error
    return mean - half, mean + half


def read(workspace: Path) -> list[Round]:
    """Read every round with a challenger."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        held = {split: _labeled(samples.get(db, samples.ids(db, split))) for split in ("dev", "test")}
        return [_round(db, each, held) for each in steps.rounds(db) if challenger(db, each.number) is not None]


def always(workspace: Path) -> dict[str, Score]:
    """Score a guard that calls every request harmful."""
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        held = {split: _labeled(samples.get(db, samples.ids(db, split))) for split in ("dev", "test")}
    return {name: _score(rows, np.ones(len(rows)), 0.5) for name, rows in _sets(held).items()}


def challenger(db: Any, number: int) -> models.Model | None:
    """Return the model that a round put before the gate."""
    return next((one for one in models.in_round(db, number) if one.role == "challenger"), None)


def _round(db: Any, each: steps.Round, held: Mapping[str, list[Sample]]) -> Round:
    model = challenger(db, each.number)
    assert model is not None
    traces = {one.sample_id: one.verdict["request"] for one in reviews.approved(db, each.number)}
    used = select(tables.uses.c.sample_id).where(tables.uses.c.model_id == _taught(db, each.number).id)
    learned = samples.get(db, list(db.scalars(used)))
    said = {one.sample_id: one for split in held for one in predictions.of_model(db, model.id, split)}

    def guard(rows: list[Sample]) -> Score:
        answers = [said[one.id] for one in rows]
        p = np.array([one.probability["request"] for one in answers])
        return _scored(rows, [one.verdict["request"] for one in answers], p)

    peer = _linear([one.prompt for one in learned], [traces[one.id] == "harmful" for one in learned], held)
    picked = [traces.get(one.sample_id) for one in selections.of_round(db, each.number)]
    told = [verdict == "harmful" for verdict in picked if verdict is not None]
    return Round(
        each.number,
        len(learned),
        {name: guard(rows) for name, rows in _sets(held).items()},
        peer,
        each.record,
        each.passed,
        each.gate_reason or "",
        selections.by_reason(db, each.number),
        sum(told) / len(told) if told else None,
    )


def _taught(db: Any, number: int) -> models.Model:
    return next(one for one in models.in_round(db, number) if one.role == "sft")


def _labeled(found: list[Sample]) -> list[Sample]:
    return [one for one in found if one.excluded is None and one.request is not None]


def _sets(held: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    by_name: dict[str, list[Sample]] = {"dev": held["dev"]}
    for one in held["test"]:
        by_name.setdefault(one.source or "test", []).append(one)
    return by_name | {"all test": held["test"]}


def _linear(prompts: list[str], harmful: list[bool], held: Mapping[str, list[Sample]]) -> dict[str, Score]:
    model = linear.fit(prompts, harmful)
    if model is None:
        return {}

    def p(rows: list[Sample]) -> np.ndarray:
        return np.array(model.p([one.prompt for one in rows]))

    # The threshold is chosen on dev by the guard's rule.
    cut = threshold([int(one.request == "harmful") for one in held["dev"]], p(held["dev"]).tolist())
    return {name: _score(rows, p(rows), cut) for name, rows in _sets(held).items()}


def _score(rows: list[Sample], p: np.ndarray, threshold: float) -> Score:
    return _scored(rows, ["harmful" if value >= threshold else "unharmful" for value in p], p)


def _scored(rows: list[Sample], verdicts: list[str | None], p: np.ndarray) -> Score:
    return score(
        [str(one.request) for one in rows],
        verdicts,
        p.tolist(),
        positive="harmful",
        clusters=[normalize(one.prompt) for one in rows],
        rng=np.random.default_rng(0),
    )
