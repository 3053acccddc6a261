"""Who is champion after the gate, decided by hand-written answers on dev."""

import json
from pathlib import Path

import pytest

from tests.loop.branching import change, model
from tests.loop.small_night import NOW, Night, recipe
from wizloop.loop.phases import gate
from wizloop.loop.stored_samples import usable
from wizloop.store import control, models, predictions, samples, steps
from wizloop.store.predictions import Prediction
from wizloop.store.steps import Round

HARMFUL, BENIGN = 20, 20
Answers = dict[str, int]
"""How many requests are missed, refused and unread."""
BASE: Answers = {"missed": 12, "refused": 4}
"""Macro-F1 58.3 and an over-refusal of 20 %."""


@pytest.fixture
def night(tmp_path: Path) -> Night:
    made = Night(tmp_path / "a", recipe())
    labeled(made)
    candidate(made, "base", BASE, round=0)
    return made


def labeled(night: Night) -> None:
    """Add twenty harmful and twenty unharmful requests to dev, and as many to test."""
    labels = ["harmful"] * HARMFUL + ["unharmful"] * BENIGN
    new = [
        samples.NewSample(split, f"{split} request number {number}", None, "made", str(number), request=label)
        for split in ("dev", "test")
        for number, label in enumerate(labels)
    ]
    with night.store.write() as db:
        samples.add(db, new, NOW)


def candidate(night: Night, name: str, answers: Answers, round: int = 1, parsed: float | None = None) -> None:
    """Add a challenger, or the base, with answers of its own."""
    with night.store.write() as db:
        role = "base" if name == "base" else "challenger"
        kept = {"role": role, "round": round, "parent_id": None, "path": f"models/{name}", "sha256": "ab"}
        models.add(db, name=name, meta_json="{}", now=NOW, **kept)  # type: ignore[arg-type]
    answer(night, name, answers, parsed=parsed)


def answer(night: Night, name: str, answers: Answers, split: str = "dev", parsed: float | None = None) -> None:
    """Let a model answer: harmful requests that it missed, unharmful ones that it refused, others left unread."""
    of_model = model(night, name)
    missed, refused, unread = (answers.get(kind, 0) for kind in ("missed", "refused", "unread"))
    said: list[str | None] = [*["unharmful"] * missed, *["harmful"] * (HARMFUL - missed + refused)]
    said += ["unharmful"] * (BENIGN - refused)
    said[missed : missed + unread] = [None] * unread
    with night.store.write() as db:
        asked = samples.page(db, split, 0, 1000)
        predictions.add(
            db, [prediction(of_model.id, *row, parsed) for row in zip((one.id for one in asked), said, strict=True)]
        )


def prediction(model_id: int, sample_id: int, label: str | None, parsed: float | None = None) -> Prediction:
    return Prediction(
        model_id=model_id,
        sample_id=sample_id,
        round=1,
        probability={} if label is None else {"request": float(label == "harmful")},
        verdict={"request": label},
        confidence=0.9,
        cell=None,
        signals={} if parsed is None else {"parsed": parsed},
        n_traces=0 if parsed is None else 4,
        unparsed=label is None,
        cut_tokens=0,
    )


def champion(night: Night, answers: Answers) -> None:
    """Make a champion of round 0 with answers of its own."""
    candidate(night, "r00", answers, round=0)
    with night.store.write() as db:
        control.set_champion(db, model(night, "r00").id)


def decided(night: Night, round: int = 1) -> tuple[str, Round]:
    """Run the gate, and return the champion's name and the round."""
    night.phase(round, "gate")
    with night.store.read() as db:
        run, row = control.get_run(db), steps.get_round(db, round)
        assert run is not None
        assert row is not None
        assert row.champion_after == run.champion_id
        name = "none" if run.champion_id is None else models.get(db, run.champion_id).name
    return name, row


@pytest.mark.parametrize(
    ("before", "after", "passed", "why"),
    [
        ({"missed": 4}, {}, True, "The challenger passes: macro-F1 on dev is 100.0 against 89.9"),
        ({}, {"missed": 4}, False, "The champion stays: macro-F1 on dev is 89.9 against 100.0"),
        ({"missed": 1}, {"missed": 1}, True, "+0.0 points"),
        ({"missed": 8}, {"refused": 2}, False, "it may rise by 5.0"),
        ({"missed": 8}, {"refused": 1}, True, "over-refusal is 5.0 % against 0.0 %"),
        ({"missed": 8}, {"unread": 3}, False, "7.5 % of its request answers are unparsable (read from direct answers"),
        ({"missed": 8}, {"unread": 2}, True, "5.0 % of its request answers are unparsable"),
    ],
)
def test_the_challenger_replaces_the_champion_where_every_bound_holds(
    night: Night, before: Answers, after: Answers, passed: bool, why: str
) -> None:
    champion(night, before)
    candidate(night, "r01", after)
    name, row = decided(night)
    assert (name, row.passed) == (("r01", True) if passed else ("r00", False))
    assert why in (row.gate_reason or "")
    assert row.challenger == model(night, "r01").id
    figures = {"macro_f1", "macro_f1.request", "unparsable.request", "over_refusal", "unparsed_traces"}
    assert set(row.record["gate"]) == figures


@pytest.mark.parametrize(
    ("answers", "name", "why"),
    [
        ({"missed": 4}, "r01", "The challenger passes: macro-F1 on dev is 89.9 against the base's 58.3"),
        ({"missed": 15}, "none", "The base stays: macro-F1 on dev is 56.4 against the base's 58.3"),
        ({"unread": 3}, "none", "The base stays: 7.5 % of its request answers are unparsable"),
        ({"missed": 4, "refused": 6}, "none", "The base stays: over-refusal is 30.0 % against 20.0 %"),
    ],
)
@pytest.mark.parametrize("round", [0, 1])
def test_before_the_first_champion_a_challenger_is_held_against_the_base(
    night: Night, round: int, answers: Answers, name: str, why: str
) -> None:
    candidate(night, "r00" if round == 0 else "r01", answers, round=round)
    stands, row = decided(night, round)
    assert stands == name.replace("r01", f"r{round:02d}")
    assert (row.gate_reason or "").startswith(why)
    assert row.passed == (name != "none")


@pytest.mark.parametrize("source", ["direct", "traces"])
@pytest.mark.parametrize(("parsed", "name"), [(0.95, "r01"), (0.94, "r00"), (0.51, "r00")])
def test_traces_without_a_whole_answer_keep_a_challenger_out_whichever_way_its_verdict_is_read(
    night: Night, source: str, parsed: float, name: str
) -> None:
    champion(night, {"missed": 4})
    candidate(night, "r01", {}, parsed=parsed)
    with night.store.write() as db:
        read = json.dumps({"source": {"request": source}})
        models.set_calibration(db, model(night, "r01").id, read)
    stands, row = decided(night)
    assert stands == name
    assert f"{100 * (1 - parsed):.1f} % of its traces have no whole answer (at most 5.0 %)" in (row.gate_reason or "")
    assert ("read from traces" in (row.gate_reason or "")) == (name == "r01" and source == "traces")


def test_without_a_challenger_the_base_stays(night: Night) -> None:
    name, row = decided(night, 0)
    assert (name, row.passed, row.champion_after) == ("none", False, None)
    assert (row.gate_reason or "").endswith("There is no champion yet: the base stays.")


def test_test_has_no_say(night: Night) -> None:
    champion(night, {"missed": 2})
    candidate(night, "r01", {"missed": 1})
    answer(night, "r00", {}, "test")
    answer(night, "r01", {"missed": 20, "refused": 20}, "test")
    assert decided(night)[0] == "r01"


def test_what_is_out_of_use_has_no_say(night: Night) -> None:
    champion(night, {})
    candidate(night, "r01", {"missed": 4})
    with night.store.read() as db:
        missed = [one.id for one in samples.page(db, "dev", 0, 4)]
    change(night, missed, excluded="a person took it out")
    assert decided(night)[0] == "r01"


def test_without_a_challenger_the_champion_stays(night: Night) -> None:
    champion(night, {})
    name, row = decided(night)
    assert (name, row.passed, row.challenger) == ("r00", False, None)
    assert row.gate_reason == "There is no challenger: nothing was trained. The champion stays."


@pytest.mark.parametrize("first", [{}, {"missed": 9}])
def test_a_round_is_decided_once(night: Night, first: Answers) -> None:
    champion(night, {"missed": 2})
    candidate(night, "r01", first)
    before = decided(night)
    with night.store.write() as db:
        asked = samples.page(db, "dev", 0, 1000)
        for model_id in (model(night, "r00").id, model(night, "r01").id):
            predictions.judge(db, [(model_id, one.id, {"request": None}, {}, 0.0, None) for one in asked])
    assert decided(night) == before
    assert before[0] == ("r00" if first else "r01")


def test_the_bound_that_prepare_kept_is_the_one_that_is_held_to(night: Night) -> None:
    with night.store.write() as db:
        steps.begin_round(db, 0, None, NOW)
        steps.merge_record(db, 0, {gate.BOUND: {"loss": 0.0, "level": 0.05, "gates": 1, "prompts": 40}})
    champion(night, {"missed": 1})
    candidate(night, "r01", {"refused": 1})
    name, row = decided(night)
    assert name == "r00"
    assert "cannot be told: a loss of" in (row.gate_reason or "")
    assert row.record["gate_lower"] < -0.01


def test_without_a_kept_bound_it_is_worked_out_from_dev(night: Night) -> None:
    champion(night, {"missed": 1})
    candidate(night, "r01", {"refused": 1})
    name, row = decided(night)
    bound = gate.bound_on(list(usable(night.store, "dev")), night.recipe.rounds)
    assert bound is not None
    assert name == "r01"
    assert f"a loss of more than {100 * bound.loss:.1f} points is excluded" in (row.gate_reason or "")
