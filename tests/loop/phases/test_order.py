"""All phases of two rounds on a small demo pool: what they leave behind, and that nothing is done twice."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import stored
from tests.loop.small_night import NOW, ROUNDS, Night, recipe
from tests.loop.stand_in import StandInGuard
from wizloop.backends import artifacts
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.phases import order
from wizloop.store import (
    control,
    models,
    predictions,
    selections,
    steps,
    training,
)
from wizloop.store.db import Connection, Store


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night that is over, to be looked at: no test may write to it."""
    done = Night(tmp_path_factory.mktemp("night") / "a", recipe())
    done.all()
    return done


@pytest.fixture
def own(tmp_path: Path) -> Night:
    """A night that is over, for one test alone."""
    done = Night(tmp_path / "own", recipe())
    done.all()
    return done


def test_round_zero_brings_everything_in_and_later_rounds_do_not() -> None:
    assert order.phases_of(0)[:3] == ("import", "prepare", "base")
    assert "classify" not in order.phases_of(0)
    assert order.phases_of(3) == ("classify", "select", "teach", "review", "train", "evaluate", "gate", "export")


def test_a_night_leaves_every_row_behind(night: Night) -> None:
    rows = night.rows()
    assert {name for name, *_ in rows["models"]} >= {"base", "r00-sft", "r00-m1", "r00-m2", "r00", "r01"}
    assert [len(of_round) for of_round in rows["selections"]] == [30, 16]
    assert {one.reason for one in rows["selections"][0]} == {"seed"}
    assert len(rows["teacher"]) == 46
    assert all(state == "parsed" for _, state in rows["teacher"])
    assert len(rows["reviews"]) == 46
    assert len(rows["pairs"][0]) > 0
    assert [path for path, _ in rows["exports"]][:2] == ["exports/00-safetensors", "exports/00-mlx-4bit"]
    assert {one.benchmark for one in rows["evaluations"][0]} == {"dev", "test"}
    assert rows["gate"][0][0] is True


def test_a_member_is_asked_about_what_no_miner_before_it_found_hard(night: Night) -> None:
    for round in range(ROUNDS + 1):
        with night.store.read() as db:
            found = {one.sample_id: one.miner for one in training.pairs(db, round)}
            asked = []
            for name in ("sft", "m1", "m2"):
                miner = models.by_name(db, f"r{round:02}-{name}")
                assert miner is not None
                asked.append({one.sample_id for one in predictions.traces_of(db, miner.id, list(range(1, 300)))})
        assert len(asked[0]) == 30 + 16 * round
        for at, name in enumerate(("sft", "m1")):
            theirs = {sample for sample, miner in found.items() if miner == f"r{round:02}-{name}"}
            assert theirs <= asked[at]
            assert asked[at + 1] == asked[at] - theirs
        assert len(asked[2]) < len(asked[0])


def test_an_export_has_a_card_and_whole_files(night: Night) -> None:
    folder = night.folder / "exports" / "00-safetensors"
    assert len(artifacts.verify(folder)) == 64
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| `dev` | request | 40 |" in text
    assert "teacher `policy`: 30 ok" in text
    assert "It agrees on" in text
    assert "The challenger passes: macro-F1 on dev is " in text


def test_a_phase_that_is_done_again_changes_nothing(own: Night) -> None:
    before, trained = own.rows(), list(own.backend.trained)
    for round in range(ROUNDS + 1):
        for phase in order.phases_of(round):
            if (round, phase) != (0, "gate"):
                own.phase(round, phase)
    after = own.rows()
    assert own.backend.trained == trained
    for name, rows in before.items():
        assert after[name] == rows, name


def test_a_night_that_is_interrupted_everywhere_ends_with_the_same_rows(night: Night, tmp_path: Path) -> None:
    again = Night(tmp_path / "b", recipe())
    interruptions = 0
    for round in range(ROUNDS + 1):
        for phase in order.phases_of(round):
            after = 1
            while True:
                left = iter(range(after))
                try:
                    again.phase(round, phase, lambda left=left: next(left, None) is None)  # type: ignore[misc]
                    break
                except Interrupted:
                    interruptions += 1
                    after += 3
    assert interruptions > 20
    ours, theirs = night.rows(), again.rows()
    for name, rows in ours.items():
        assert theirs[name] == rows, name


class Killed(BaseException):
    """Nothing catches it, as nothing catches a SIGKILL."""


def test_a_training_that_is_killed_once_a_model_is_there_ends_with_the_same_rows(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Night(tmp_path / "b", recipe())
    known: set[str] = set()
    write = Store.write

    @contextmanager
    def killed_after_a_model(self: Store) -> Iterator[Connection]:
        with write(self) as db:
            yield db
        with self.read() as db:
            there = {model.name for round in range(ROUNDS + 1) for model in models.in_round(db, round)}
        if not there <= known:
            known.update(there)
            raise Killed

    for round in range(ROUNDS + 1):
        for phase in order.phases_of(round):
            while phase == "train":
                with monkeypatch.context() as changed, suppress(Killed):
                    changed.setattr(Store, "write", killed_after_a_model)
                    again.phase(round, phase)
                    break
            if phase != "train":
                again.phase(round, phase)
                known.update(("base",))
    assert {"r00-sft", "r00-m1", "r00", "r01"} < known
    ours, theirs = night.rows(), again.rows()
    for name, rows in ours.items():
        assert theirs[name] == rows, name


def test_a_line_of_losses_that_a_full_disk_tore_stops_no_training(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe())
    kept = tmp_path / "a" / "models" / ".checkpoints"
    kept.mkdir(parents=True)
    (kept / "r00-sft.jsonl").write_text("[10, 0.1]\n[11, 0.0", encoding="utf-8")
    for phase in order.phases_of(0):
        night.phase(0, phase)
    with night.store.read() as db:
        sft = models.by_name(db, "r00-sft")
        assert sft is not None
        logged = {one.step: one.loss for one in stored.losses(db, sft.id, "sft")}
    assert logged == {10: pytest.approx(1 / 10), 12: pytest.approx(1 / 12)}


def test_after_a_failed_gate_nothing_is_read_again(own: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    with own.store.write() as db:
        first = models.by_name(db, "r00")
        assert first is not None
        control.set_champion(db, first.id)
        steps.begin_round(db, 1, first.id, NOW)
        before = predictions.of_model(db, first.id, "pool")
    monkeypatch.setattr(StandInGuard, "score", None)
    told = own.phase(2, "classify")
    with own.store.read() as db:
        left = 90 - len(selections.of_round(db, 1))
        traced = sum(one.n_traces > 0 for one in before)
        picked = {one.sample_id for one in selections.of_round(db, 1)}
        traced -= sum(one.n_traces > 0 for one in before if one.sample_id in picked)
        assert predictions.of_model(db, first.id, "pool") == before
    assert told == f"r00 classified {left} pool samples, {traced} with traces"


def test_what_is_approved_and_cannot_be_learned_from_is_told_with_its_reason(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(guard={"max_trace_tokens": 8}))
    for phase in order.phases_of(0):
        night.phase(0, phase)
    with night.store.read() as db:
        round = steps.get_round(db, 0)
    assert round is not None
    assert round.gate_reason == (
        "There is no challenger: none of 30 approved traces can be trained on (30: its trace is longer than "
        "guard.max_trace_tokens, and its verdict would be cut). There is no champion yet: the base stays."
    )


def test_a_person_interrupts_progress(tmp_path: Path) -> None:
    fresh = Night(tmp_path / "a", recipe())
    for wanted, reason in (("pause", "pause"), ("stop_now", "stop")):
        with fresh.store.write() as db:
            control.want(db, wanted)
        with pytest.raises(Interrupted) as raised:
            fresh.phase(0, "import")
        assert raised.value.reason == reason
    with fresh.store.write() as db:
        control.want(db, "stop")
    assert fresh.phase(0, "import") == "pool 90, seed 30, dev 40, test 40"


def test_a_loss_that_is_not_finite_gives_the_round_up(tmp_path: Path) -> None:
    broken = Night(tmp_path / "a", recipe(), breaks=True)
    for phase in order.phases_of(0):
        broken.phase(0, phase)
    with broken.store.read() as db:
        round = steps.get_round(db, 0)
        run = control.get_run(db)
    assert round is not None
    assert run is not None
    assert round.passed is False
    assert round.gate_reason == (
        "There is no challenger: the loss was not finite: the loss is nan at step 3 of 12. "
        "There is no champion yet: the base stays."
    )
    assert run.champion_id is None
    assert broken.phase(1, "classify") == "base classified 90 pool samples, 22 with traces"


def test_without_hs_dpo_the_rsft_model_is_the_challenger(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(dpo={"enabled": False}))
    for phase in order.phases_of(0):
        night.phase(0, phase)
    with night.store.read() as db:
        sft, challenger = models.by_name(db, "r00-sft"), models.by_name(db, "r00")
    assert sft is not None
    assert challenger is not None
    assert (challenger.path, challenger.role) == (sft.path, "challenger")


def test_what_waits_for_a_person_is_not_trained_on(tmp_path: Path) -> None:
    night = Night(tmp_path / "a", recipe(review={"rule": "everything"}))
    for phase in order.phases_of(0):
        night.phase(0, phase)
    with night.store.read() as db:
        round = steps.get_round(db, 0)
    assert night.backend.trained == []
    assert round is not None
    assert round.gate_reason == (
        "There is no challenger: no approved trace to train on, 30 wait for review. "
        "There is no champion yet: the base stays."
    )
