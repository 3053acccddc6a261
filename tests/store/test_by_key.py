"""What a screen asks about one sample is found by its key: no reading of a table that grows with the night."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from wizloop.store import browsing, models, predictions, samples
from wizloop.store.db import Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two models, each of which judged the same two samples; the second wrote a trace on each."""
    folder = tmp_path / "runs"
    with Store.create(folder) as store, store.write() as db:
        samples.add(db, [samples.NewSample("pool", text, None, "made", "row") for text in ("one", "two")], NOW)
        made = {"round": 1, "parent_id": None, "path": "m", "sha256": "ab", "meta_json": "{}"}
        for name, role in (("r01", "challenger"), ("r01-m1", "member")):
            model = models.add(db, name=name, role=role, now=NOW, **made)  # type: ignore[arg-type]
            for sample in (1, 2):
                verdict, odds = {"request": "harmful"}, {"request": 0.5 + sample / 10}
                one = predictions.Prediction(model, sample, 1, odds, verdict, 0.5, "c", {}, 1, False, 0)
                measures = {"mean": 1.0, "tail": 1.0, "lowest": 1.0, "bottom": 1.0, "verdict_p": None, "tokens": 3}
                text = predictions.GuardTrace(model, sample, 0, f"by {name} on {sample}", verdict, "stop", **measures)  # type: ignore[arg-type]
                predictions.add(db, [one], [text] if role == "member" else [])
    return folder


def test_what_was_said_of_a_sample_is_that_of_no_other(workspace: Path) -> None:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        guard, member = browsing.judgements(db, 2)
    assert (guard.model, guard.probability, guard.traces) == ("r01", {"request": 0.7}, ())
    assert member.model == "r01-m1"
    assert [text for text, _, _ in member.traces] == ["by r01-m1 on 2"]


@pytest.mark.parametrize("ask", [browsing.judgements, browsing.history])
def test_no_table_of_predictions_or_traces_is_read_through(workspace: Path, ask: Any) -> None:
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        asked.append((statement, parameters))

    with Store.open(workspace, readonly=True) as store, store.read() as db:
        event.listen(db.engine, "before_cursor_execute", note)
        ask(db, 2)
        event.remove(db.engine, "before_cursor_execute", note)
        plans = [
            str(row[3])
            for statement, parameters in asked
            if statement.startswith("SELECT")
            for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert any("SEARCH predictions" in plan for plan in plans)
    grown = ("predictions", "guard_traces", "uses", "teacher_calls", "teacher_traces", "reviews", "selections")
    assert [plan for plan in plans if plan.startswith("SCAN") and plan.split()[1] in grown] == []
