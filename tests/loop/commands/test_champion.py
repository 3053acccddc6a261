"""`wizloop champion`: who stands after a person's choice, what is on record, and when it is refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends import artifacts
from wizloop.loop.cli import app
from wizloop.loop.controller import lock
from wizloop.loop.phases import export, model_roles, order
from wizloop.store import control, models, steps


def finish(night: Night, number: int, through: str = "export") -> None:
    """Mark the phases of a round as done, up to and including one."""
    phases = order.phases_of(number)
    with night.store.write() as db:
        steps.begin_round(db, number, None, NOW)
        for phase in phases[: phases.index(through) + 1]:
            steps.begin_step(db, number, phase, NOW)
            steps.finish_step(db, number, phase, "", NOW)


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """Two rounds: the first champion stayed, and the challenger of round 1 was held."""
    made = Night(tmp_path / "a", recipe())
    with made.store.write() as db:
        for name, role, number in (("base", "base", 0), ("r00", "challenger", 0), ("r01", "challenger", 1)):
            with artifacts.writing(made.folder / "models" / name, {}) as folder:
                (folder / "config.json").write_text(name)
            kept = {"parent_id": None, "path": f"models/{name}", "sha256": "ab", "meta_json": "{}", "now": NOW}
            models.add(db, name=name, role=role, round=number, **kept)  # type: ignore[arg-type]
    for number, passed in ((0, True), (1, False)):
        finish(made, number)
        with made.store.write() as db:
            first, own = models.by_name(db, "r00"), models.by_name(db, f"r{number:02d}")
            assert first is not None
            assert own is not None
            control.set_champion(db, first.id)
            decided = {"passed": passed, "gate_reason": "The gate's own words.", "record_json": "{}", "now": NOW}
            steps.end_round(db, number, champion_after=first.id, challenger=own.id, **decided)  # type: ignore[arg-type]
    return made


def choose(night: Night, *words: str) -> Result:
    return CliRunner().invoke(app, ["champion", *words, "--workspace", str(night.folder)])


def stands(night: Night) -> tuple[str, str]:
    """Return what stands for the next round, and what a later export takes."""
    with night.store.read() as db:
        last = steps.rounds(db)[-1].champion_after
        return model_roles.standing(db).name, "base" if last is None else models.get(db, last).name


@pytest.mark.parametrize(("asked", "name"), [("1", "r01"), ("base", "base")])
def test_the_one_chosen_stands_and_the_gates_words_stay(night: Night, asked: str, name: str) -> None:
    chosen = choose(night, asked, "--why", "better on\nour \x1b[31mchats")
    assert chosen.exit_code == 0, chosen.output
    assert stands(night) == (name, name)
    shown = CliRunner().invoke(app, ["rounds", "--workspace", str(night.folder)]).stdout
    said = " ".join(shown.split())
    assert "instead of r00, chosen by person:" in said
    assert "better on our ␛[31mchats" in said
    assert "round 1, held: The gate's own words." in said
    assert ("The base stands, as a person chose" in said) == (asked == "base")
    rows = json.loads(CliRunner().invoke(app, ["rounds", "--json", "--workspace", str(night.folder)]).stdout)
    assert [row["gate"]["passed"] for row in rows[1:]] == [True, False]
    assert [(one["model"], one["before"]) for one in rows[-1]["chosen"]] == [(name, "r00")]


def test_one_can_go_back_and_every_choice_stays_on_record(night: Night) -> None:
    for asked, why in (("1", "better"), ("0", "it was not")):
        assert choose(night, asked, "--why", why).exit_code == 0
    assert stands(night) == ("r00", "r00")
    with night.store.read() as db:
        last = steps.rounds(db)[-1]
    assert [one["why"] for one in last.record["chosen"]] == ["better", "it was not"]


def test_the_next_round_begins_with_it_and_its_card_says_so(night: Night) -> None:
    choose(night, "1", "--why", "better on our chats")
    with night.store.read() as db:
        model = models.by_name(db, "r01")
        assert model is not None
        assert "better on our chats" in export.gate_of(db, model)
        run = control.get_run(db)
    assert run is not None
    assert run.champion_id == model.id


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("2", "--why", "x"), "there is no round 2 yet"),
        (("last", "--why", "x"), "'last' is no round"),
        (("1", "--why", " "), "--why is empty"),
        (("0", "--why", "x"), "r00 stands already"),
        (("1",), "--why"),
    ],
)
def test_what_cannot_be_chosen_is_refused(night: Night, words: tuple[str, ...], why: str) -> None:
    refused = choose(night, *words)
    assert refused.exit_code == 2
    assert why in refused.output
    assert stands(night) == ("r00", "r00")


def test_within_a_round_and_while_a_run_is_active_it_says_what_to_do(night: Night) -> None:
    with lock.held(night.folder, NOW):
        active = choose(night, "1", "--why", "x")
    finish(night, 2, "train")
    middle = choose(night, "1", "--why", "x")
    assert (active.exit_code, middle.exit_code) == (2, 2)
    assert "`wizloop stop`, then `wizloop start --rounds 1`" in active.output
    assert "round 2 is in the middle, at evaluate" in middle.output
    assert "`wizloop start --rounds 2`" in middle.output


def test_a_damaged_model_is_refused(night: Night) -> None:
    (night.folder / "models" / "r01" / "config.json").write_text("other")
    refused = choose(night, "1", "--why", "x")
    assert refused.exit_code == 2
    assert stands(night) == ("r00", "r00")
