"""A workspace in which a night has been: two rounds, a trace that waits, an export. No test may change it by hand.

And the order of the files: the longest first, so that no process is left alone with one at the end.
"""

import gc
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import single_calls
from wizloop.recipes import schema
from wizloop.store import (
    call_writes,
    control,
    evaluations,
    events,
    exports,
    models,
    reviews,
    samples,
    selections,
    steps,
)
from wizloop.store.db import Connection, Store

BEGAN = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
LONGEST = ("test_night.py", "test_kill.py", "test_paid_night.py", "test_launch.py", "test_bad_input.py")
HOSTILE = "kill \x1b]52;c;aGk=\x07 a [bold]process[/nope] \u202eback"


# A test process of several has these, and a program on a pty would believe them instead of its terminal.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of garbage collections: a night asks for nine, half a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def after_a_night(a_night: Path, tmp_path: Path) -> Path:
    """The workspace's folder."""
    return Path(shutil.copytree(a_night, tmp_path / "runs"))


@pytest.fixture(scope="session")
def a_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace that every test gets a copy of."""
    workspace = tmp_path_factory.mktemp("night") / "runs"
    with Store.create(workspace) as store, store.write() as db:
        _begin(db)
        _teach(db)
        for number, f1 in enumerate((0.7, 0.75)):
            _measure(db, number, f1)
        _measure_base(db)
        events.add(db, level="warn", message=f"the worker died\n{HOSTILE}", now=BEGAN, round=1, phase="train")
        control.set_state(db, "done", "the one round is done", BEGAN)
    return workspace


def _begin(db: Connection) -> None:
    recipe = schema.load("demo")
    control.create_run(
        db,
        name=recipe.name,
        recipe_json=schema.canonical_json(recipe),
        recipe_hash=schema.recipe_hash(recipe),
        seed=recipe.seed,
        cap_micro=5_000_000,
        until=None,
        rounds_wanted=1,
        now=BEGAN,
    )
    rows = [samples.NewSample("pool", text, None, "made", "row") for text in ("how do I knit", HOSTILE)]
    samples.add(db, rows, BEGAN)


def _teach(db: Connection) -> None:
    steps.begin_round(db, 0, None, BEGAN)
    steps.begin_round(db, 1, None, BEGAN)
    picked = [selections.Selection(1, n, "random", 0.5, n, 0.1, "picked at random") for n in (1, 2)]
    selections.add(db, picked)
    for n in (1, 2):
        asked = {"sample_id": n, "round": 1, "teacher": "policy", "model": "p1", "attempt": 1}
        call = single_calls.plan(db, key=f"{n:064x}", request_json="{}", now=BEGAN, **asked)  # type: ignore[arg-type]
        single_calls.reserve(db, call, 400_000)
        call_writes.mark_sent(db, [call], BEGAN)
        nothing = {"usage_json": None, "request_id": None, "stop_reason": None}
        single_calls.receive(db, call, raw="{}", cost_micro=250_000, now=BEGAN, **nothing)
        single_calls.finish(db, call, "parsed", "ok")
        text = {"trace_json": "{}", "explanation": HOSTILE, "steps_json": "{}", "confidence_word": "low"}
        trace = single_calls.add_trace(db, call_id=call, verdict={"request": "harmful"}, now=BEGAN, **text)
        decided = {"decision": "wait", "by": "rule:doubtful", "reason": "the teacher doubts it"}
        reviews.review(db, trace_id=trace, now=BEGAN, decision_id=f"rule-{n}", **decided)


def _measure_base(db: Connection) -> None:
    """The base is beaten, and so is "all harmful"; TF-IDF is not told apart from round 1, and better than round 0."""
    described = {"role": "base", "parent_id": None, "sha256": "ab", "meta_json": "{}"}
    model = models.add(db, name="base", path="models/base", round=0, now=BEGAN, **described)  # type: ignore[arg-type]
    metrics = json.dumps(figures(0.6))
    evaluations.add(db, [evaluations.Evaluation(model, 0, name, "request", 80, 0, metrics) for name in ("dev", "test")])
    everything = {name: {"request": figures(0.65)} for name in ("dev", "test")}
    steps.merge_record(db, 0, {"base_measured": {"baselines": {"all_harmful": everything}}})
    for number, ours, theirs in ((0, 0.7, 0.9), (1, 0.75, 0.76)):
        linear = {name: {"request": figures(theirs)} for name in ("dev", "test")}
        f1s = {"base": 0.6, "all_harmful": 0.65, "tfidf": theirs}
        beside = {"request": {name: against(ours, f1) for name, f1 in f1s.items()}}
        steps.merge_record(db, number, {"baselines": {"tfidf": linear}, "compared": {"test": beside}})


def figures(f1: float) -> dict[str, float]:
    return {"f1": f1, "low": f1 - 0.05, "high": f1 + 0.05, "precision": 0.5, "recall": 0.9}


def against(ours: float, theirs: float) -> dict[str, float]:
    """A difference as the round's record holds it, with an interval of four points to either side."""
    gap = ours - theirs
    return {"champion": theirs, "challenger": ours, "difference": gap, "low": gap - 0.04, "high": gap + 0.04}


def _measure(db: Connection, number: int, f1: float) -> None:
    described = {"role": "challenger", "parent_id": None, "sha256": "ab", "meta_json": "{}"}
    model = models.add(db, name=f"r{number:02d}", path=f"models/r{number:02d}", round=number, now=BEGAN, **described)  # type: ignore[arg-type]
    metrics = json.dumps(figures(f1))
    rows = [evaluations.Evaluation(model, number, name, "request", 80, 1, metrics) for name in ("dev", "test")]
    evaluations.add(db, rows)
    for at, phase in enumerate(("train", "evaluate")):
        steps.begin_step(db, number, phase, BEGAN + timedelta(seconds=at))
        steps.progress(db, number, phase, 80, 80)
        steps.finish_step(db, number, phase, "well", BEGAN + timedelta(seconds=42))
    outcome = {"champion_after": model, "challenger": model, "passed": True, "gate_reason": "it is better"}
    steps.end_round(db, number, record_json='{"cells": {}}', now=BEGAN, **outcome)  # type: ignore[arg-type]
    exports.add(db, number, model, "safetensors", f"exports/{number}-safetensors", "{}", "ab", BEGAN)
