"""The run, its controller, its rounds and phases."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests import stored
from wizloop.store import control, errors, evaluations, events, exports, models, steps
from wizloop.store.db import Connection


def _create(db: Connection, now: datetime, **changed: Any) -> None:
    asked = {"name": "night", "recipe_json": '{"a": 1}', "recipe_hash": "aa", "seed": 2**40, "cap_micro": 5_000_000}
    control.create_run(db, **{**asked, "until": None, "rounds_wanted": 3, "now": now, **changed})


def test_a_workspace_holds_one_run(db: Connection, now: datetime) -> None:
    assert control.get_run(db) is None
    _create(db, now)
    run = control.get_run(db)
    assert run is not None
    assert (run.state, run.wanted, run.reason, run.seed) == ("created", "run", "", 1099511627776)
    assert (run.recipe_json, run.created_at, run.started_at) == ('{"a": 1}', now, None)
    with pytest.raises(errors.RunExists, match="night"):
        _create(db, now)


def test_a_run_keeps_when_it_began_and_when_it_ended(db: Connection, now: datetime) -> None:
    _create(db, now)
    for hours, state in enumerate(("running", "paused", "running", "stopped")):
        control.set_state(db, state, f"because {state}", now + timedelta(hours=hours))
    run = control.get_run(db)
    assert run is not None
    assert (run.started_at, run.ended_at) == (now, now + timedelta(hours=3))
    assert (run.state, run.reason) == ("stopped", "because stopped")
    control.set_state(db, "running", "", now + timedelta(hours=4))
    run = control.get_run(db)
    assert run is not None
    assert (run.started_at, run.ended_at) == (now, None)


def test_only_the_limits_that_are_given_change(db: Connection, now: datetime, model: int) -> None:
    _create(db, now, until=now)
    control.set_limits(db, rounds_wanted=9)
    control.set_limits(db, until=None)
    control.set_limits(db)
    control.want(db, "stop_now")
    control.set_champion(db, model)
    run = control.get_run(db)
    assert run is not None
    assert (run.cap_micro, run.until, run.rounds_wanted) == (5_000_000, None, 9)
    assert (run.wanted, run.champion_id) == ("stop_now", model)


def test_without_a_run_nothing_can_be_wanted(db: Connection, now: datetime) -> None:
    with pytest.raises(errors.NoRun, match="wizloop start"):
        control.want(db, "pause")
    with pytest.raises(errors.NoRun):
        control.set_state(db, "running", "", now)


def test_times_come_back_in_utc_and_naive_ones_are_refused(db: Connection, now: datetime) -> None:
    tokyo = now.astimezone(timezone(timedelta(hours=9)))
    _create(db, tokyo)
    run = control.get_run(db)
    assert run is not None
    assert run.created_at.isoformat() == "2026-05-04T03:02:01+00:00"
    with pytest.raises(Exception, match="no time zone"):
        control.set_limits(db, until=now.replace(tzinfo=None))


def test_each_claim_is_a_new_generation(db: Connection, now: datetime) -> None:
    claim = {"pid": 1, "host": "here", "boot_id": "b", "now": now}
    assert control.controller(db) is None
    assert [control.claim_controller(db, **claim) for _ in range(3)] == [1, 2, 3]  # type: ignore[arg-type]
    control.beat(db, 3, now=now + timedelta(seconds=5), doing="classify", waiting="a teacher")
    held = control.controller(db)
    assert held == control.Controller(3, 1, "here", "b", now + timedelta(seconds=5), "classify", "a teacher")
    with pytest.raises(errors.Fenced):
        control.beat(db, 2, now=now, doing="", waiting=None)


def test_a_round_is_begun_once_and_its_record_grows(db: Connection, now: datetime, model: int) -> None:
    steps.begin_round(db, 1, model, now)
    steps.begin_round(db, 1, None, now + timedelta(days=1))
    steps.merge_record(db, 1, {"threshold": 0.5, "leaked": 3})
    gate = {"champion_after": model, "challenger": model, "passed": False, "gate_reason": "worse"}
    steps.end_round(db, 1, **gate, record_json='{"threshold": 0.75}', now=now)  # type: ignore[arg-type]
    found = steps.get_round(db, 1)
    record = {"last_sample": 0, "threshold": 0.75, "leaked": 3}
    assert found == steps.Round(1, model, model, model, False, "worse", record, now, now)
    assert steps.rounds(db) == [found]
    with pytest.raises(errors.NotFound, match="round 2"):
        steps.merge_record(db, 2, {})


def test_a_step_counts_its_attempts_and_keeps_how_far_it_is(db: Connection, now: datetime) -> None:
    later = now + timedelta(minutes=1)
    steps.begin_step(db, 1, "teach", now)
    steps.progress(db, 1, "teach", 3, 10)
    steps.fail_step(db, 1, "teach", "out of memory", now)
    steps.begin_step(db, 1, "teach", later)
    assert steps.step(db, 1, "teach") == steps.Step(1, "teach", "running", 2, 3, 10, "", later, None)
    steps.finish_step(db, 1, "teach", "10 asked", later)
    steps.begin_step(db, 1, "classify", now)
    assert [(step.phase, step.state) for step in steps.steps(db, 1)] == [("classify", "running"), ("teach", "done")]
    assert steps.step(db, 2, "teach") is None
    with pytest.raises(errors.NotFound, match="review of round 1"):
        steps.progress(db, 1, "review", 1, 1)


def test_models_are_known_by_name_and_by_round(db: Connection, now: datetime, model: int) -> None:
    kept = {"round": 2, "parent_id": model, "path": "models/x", "sha256": "ff", "meta_json": '{"rank": 8}', "now": now}
    member = models.add(db, name="r2-member-0", role="member", **kept)  # type: ignore[arg-type]
    models.add(db, name="r2-challenger", role="challenger", **kept)  # type: ignore[arg-type]
    assert models.add(db, name="r2-member-0", role="base", **kept) == member  # type: ignore[arg-type]
    assert [found.name for found in models.in_round(db, 2)] == ["r2-member-0", "r2-challenger"]
    assert [found.id for found in models.members(db, 2)] == [member]
    models.set_calibration(db, member, '{"best": "margin"}')
    found = models.get(db, member)
    assert (found.role, found.parent_id, found.calibration_json) == ("member", model, '{"best": "margin"}')
    assert models.by_name(db, "nobody") is None
    for ask in (lambda: models.get(db, 99), lambda: models.set_calibration(db, 99, "{}")):
        with pytest.raises(errors.NotFound, match="99"):
            ask()


def test_evaluations_stay_as_they_were_first_made(db: Connection, model: int) -> None:
    made = evaluations.Evaluation(model, 1, "dev", "request", 100, 2, '{"f1": 0.8}')
    again = evaluations.Evaluation(model, 1, "dev", "request", 100, 0, '{"f1": 0.9}')
    other = evaluations.Evaluation(model, 2, "dev", "response", 90, 0, '{"f1": 0.7}')
    evaluations.add(db, [made, other])
    evaluations.add(db, [again])
    evaluations.add(db, [])
    assert evaluations.of_model(db, model) == [made, other]
    assert stored.evaluations(db, 1) == [made]


def test_an_export_to_the_same_path_replaces_the_first(db: Connection, now: datetime, model: int) -> None:
    for parity, digest in (('{"agree": 0.9}', "aa"), ('{"agree": 1.0}', "bb")):
        exports.add(db, 1, model, "mlx-4bit", "exports/r1", parity, digest, now)
    assert exports.of_round(db, 1) == [
        exports.Export(1, 1, model, "mlx-4bit", "exports/r1", '{"agree": 1.0}', "bb", now)
    ]
    assert exports.of_round(db, 2) == []


def test_events_are_paged_and_the_last_ones_come_oldest_first(db: Connection, now: datetime) -> None:
    for n in range(5):
        events.add(db, level="warn", phase="teach", round=1, message=f"{n}", data_json='{"n": 1}', now=now)
    assert [event.message for event in events.page(db, 1, 2)] == ["1", "2"]
    assert [event.message for event in events.last(db, 2)] == ["3", "4"]
    assert events.last(db, 1)[0] == events.Event(5, now, "warn", "teach", 1, "4", '{"n": 1}')
