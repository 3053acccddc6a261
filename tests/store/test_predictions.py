"""What guards said, what was picked, and the counters beside."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from wizloop.store import models, predictions, samples, selections
from wizloop.store.db import Connection, Store
from wizloop.store.predictions import GuardTrace, Prediction
from wizloop.store.selections import Selection


def _said(model: int, sample: int, cell: str | None = None) -> Prediction:
    return Prediction(
        model_id=model,
        sample_id=sample,
        round=1,
        probability={"request": 0.25},
        verdict={"request": "unharmful", "response": None},
        confidence=None,
        cell=cell,
        signals={"margin": 0.5, "mean": None},
        n_traces=0,
        unparsed=False,
        cut_tokens=12,
    )


def _trace(model: int, sample: int, idx: int) -> GuardTrace:
    return GuardTrace(model, sample, idx, "because", {"request": "harmful"}, "stop", 1.5, 1.25, 0.5, 0.75, None, 40)


def _picked(sample: int, rank: int, round: int = 1, reason: str = "random") -> Selection:
    return Selection(round, sample, reason, 0.5, rank, 0.1, "picked by chance")


def test_what_is_added_comes_back_and_is_never_overwritten(db: Connection, pool: list[int], model: int) -> None:
    first = _said(model, pool[0])
    traces = [_trace(model, pool[0], 1), _trace(model, pool[0], 0)]
    assert predictions.add(db, [first, _said(model, pool[1])], traces) == 2
    assert predictions.add(db, [replace(first, cut_tokens=99), _said(model, pool[2])], traces) == 1
    assert predictions.for_samples(db, model, [pool[0]]) == [first]
    assert predictions.traces_of(db, model, pool) == [_trace(model, pool[0], 0), _trace(model, pool[0], 1)]
    assert [made.sample_id for made in predictions.of_model(db, model, "pool")] == pool[:3]
    assert [made.sample_id for made in predictions.of_model(db, model, "pool", pool[0], 1)] == [pool[1]]
    assert predictions.of_model(db, model, "dev") == []


def test_what_is_not_predicted_yet_is_asked_for_in_order(db: Connection, pool: list[int], model: int) -> None:
    predictions.add(db, [_said(model, pool[0]), _said(model, pool[3])])
    samples.exclude(db, [pool[1]], "leaked")
    selections.add(db, [_picked(pool[4], 0)])

    def ask(after: int, limit: int, *, fresh: bool = False) -> list[int]:
        found = predictions.unpredicted(db, model, "pool", after, limit, only_unselected=fresh)
        return [sample.id for sample in found]

    assert ask(0, 3) == [pool[2], pool[4], pool[5]]
    assert ask(0, 3, fresh=True) == [pool[2], pool[5], pool[6]]
    assert ask(pool[5], 100) == pool[6:]


def test_judging_moves_predictions_between_cells(db: Connection, pool: list[int], model: int) -> None:
    predictions.add(db, [_said(model, sample) for sample in pool[:3]])
    assert predictions.cells(db, model, "pool") == {"": 3}
    judged = [
        (model, pool[0], {"request": "harmful"}, {"request": 0.6}, 0.9, "sure"),
        (model, pool[1], {}, {}, 0.2, "unsure"),
    ]
    predictions.judge(db, judged)
    predictions.judge(db, [(model, pool[1], {}, {}, 0.8, "sure")])
    assert predictions.cells(db, model, "pool") == {"": 1, "sure": 2}
    (made,) = predictions.for_samples(db, model, [pool[0]])
    assert (made.verdict, made.confidence, made.cell) == ({"request": "harmful"}, 0.9, "sure")
    assert made.probability == {"request": 0.6}


CELLS = st.sampled_from([None, "a", "b"])
ROWS = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 6), CELLS), max_size=6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), ROWS), max_size=6))
def test_the_cell_counters_are_the_real_counts(work: Sequence[tuple[bool, list[tuple[int, int, str | None]]]]) -> None:
    moment = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    splits = ["pool", "pool", "pool", "dev", "dev", "test"]
    with TemporaryDirectory() as folder, Store.create(Path(folder)) as store, store.write() as db:
        samples.add(db, [samples.NewSample(split, f"{n}", None, "m", "r") for n, split in enumerate(splits)], moment)
        for name in ("one", "two"):
            kept = {"round": 0, "parent_id": None, "path": name, "sha256": "", "meta_json": "{}", "now": moment}
            models.add(db, name=name, role="member", **kept)  # type: ignore[arg-type]
        real: dict[tuple[int, int], str] = {}
        for adds, rows in work:
            if adds:
                predictions.add(db, [_said(*row) for row in rows])
                real = {**{(m, s): c or "" for m, s, c in reversed(rows)}, **real}
            else:
                predictions.judge(db, [(m, s, {}, {}, 0.5, c) for m, s, c in rows])
                real.update({(m, s): c or "" for m, s, c in rows if (m, s) in real})
        for model in (1, 2):
            for split in ("pool", "dev", "test"):
                cells = [cell for (m, s), cell in real.items() if m == model and splits[s - 1] == split]
                assert predictions.cells(db, model, split) == Counter(cells)


def test_a_sample_is_picked_once_in_a_run(db: Connection, pool: list[int]) -> None:
    first = [_picked(pool[3], 1), _picked(pool[2], 0, reason="disagreement")]
    assert selections.add(db, first) == 2
    assert selections.add(db, [*first, _picked(pool[4], 2), _picked(pool[5], 0, round=2)]) == 2
    assert selections.add(db, [_picked(pool[3], 0, round=2)]) == 0
    assert [(row.sample_id, row.rank) for row in selections.of_round(db, 1)] == [
        (pool[2], 0),
        (pool[3], 1),
        (pool[4], 2),
    ]
    assert selections.by_reason(db, 1) == {"disagreement": 1, "random": 2}
    assert [row.round for row in selections.of_samples(db, [pool[5], pool[0], pool[2]])] == [1, 2]
