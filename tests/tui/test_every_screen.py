"""Every screen of a night of many rounds, with pairs and members, at 80 by 24 and 120 by 40: whole, with its keys."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.widgets import Input

from tests import single_calls
from wizloop.store import control, evaluations, events, models, predictions, reviews, samples, selections, steps
from wizloop.store.db import Connection, Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SIZES = [(80, 24), (120, 40)]
TASKS = ("request", "completion", "response")
F1 = {"dev": (0.61, 0.58, 0.6), "test": (0.64, 0.5, 0.55)}


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A workspace after six rounds, with one pair that waits for a person: the teacher stands against everybody."""
    folder = tmp_path / "rich"
    begun = {"name": "demo", "recipe_json": "{}", "recipe_hash": "", "seed": 1, "cap_micro": 5_000_000, "until": None}
    with Store.create(folder) as store, store.write() as db:
        control.create_run(db, rounds_wanted=6, now=NOW, **begun)  # type: ignore[arg-type]
        for number in range(7):
            _measured(db, number)
        _judged(db)
        message = "The export 03-mlx-4bit agrees with its model on 22 of 24 verdicts; its probabilities differ by 0.03."
        events.add(db, level="warn", message=message, now=NOW, round=3, phase="export")
        control.set_state(db, "done", "all 6 rounds are done", NOW)
    return folder


def _measured(db: Connection, number: int) -> None:
    steps.begin_round(db, number, None, NOW)
    made = {"role": "challenger", "parent_id": None, "path": "m", "sha256": "ab", "meta_json": "{}"}
    model = models.add(db, name=f"r{number:02d}", round=number, now=NOW, **made)  # type: ignore[arg-type]
    rows = []
    for benchmark, values in F1.items():
        for task, value in zip(TASKS, values, strict=True):
            f1 = value + number / 50
            figures = {"f1": f1, "low": f1 - 0.06, "high": f1 + 0.05, "fpr": 0.059}
            rows.append(evaluations.Evaluation(model, number, benchmark, task, 260, 1, json.dumps(figures)))
    evaluations.add(db, rows)
    why = (
        "The challenger passes: macro-F1 on dev is 81.7 against 77.4, +4.2 points (95 % interval -4.4 to +13.6), not "
        "significant on 260 dev prompts; 0.0 % of its response answers are unparsable."
    )
    outcome = {"champion_after": model, "challenger": model, "passed": True, "record_json": "{}"}
    steps.end_round(db, number, gate_reason=why, now=NOW, **outcome)  # type: ignore[arg-type]


def _judged(db: Connection) -> None:
    sample = samples.NewSample(
        "pool", "Quick question. " * 9, "I cannot help with that.", "made", "1",
        request="harmful", completion="refusal", response_label="unharmful",
    )  # fmt: skip
    samples.add(db, [sample], NOW)
    selections.add(db, [selections.Selection(6, 1, "disagreement", 0.5, 1, None, "two of three members disagree")])
    made = {"role": "member", "round": 6, "parent_id": None, "path": "m", "sha256": "ab", "meta_json": "{}"}
    members = [models.add(db, name=f"r06-m{n}", now=NOW, **made) for n in (1, 2, 3)]  # type: ignore[arg-type]
    said: dict[str, str | None] = {"request": "harmful", "completion": "refusal", "response": "unharmful"}
    against: dict[str, str | None] = {**said, "response": "harmful"}
    judged = [(7, said, "uncertain_pass"), *((model, said, "") for model in members[:2]), (members[2], against, "")]
    for model, verdict, cell in judged:
        p = {"request": 0.93, "completion": 0.88, "response": 0.12}
        signals = {"members_disagreement_response": 0.75}
        predictions.add(db, [predictions.Prediction(model, 1, 6, p, verdict, 0.31, cell, signals, 0, False, 0)])
    call = single_calls.plan(
        db, key="a" * 64, sample_id=1, round=6, teacher="policy", model="p1", attempt=1, request_json="{}", now=NOW
    )
    rationale = json.dumps({"surface_analysis": "A prompt with a response.", "risk_factors": ["a private address"]})
    trace = single_calls.add_trace(
        db, call_id=call, verdict=against, confidence_word="low", trace_json=rationale,
        explanation="It gives the address away.", steps_json='["first", "second"]', now=NOW,
    )  # fmt: skip
    waits = {"decision": "wait", "by": "rule:doubtful", "reason": "the label says unharmful"}
    reviews.review(db, trace_id=trace, now=NOW, decision_id="w1", **waits)


WHOLE = {
    "1": ("F1 on test, 95 % intervals", "uncertain compliance", "$0.00 spent", "demo: done", "22 of 24"),
    "2": (
        "trace 1 of round 6 by policy, low confidence",
        "two of three members disagree",
        "It gives the address",
    ),
    "3": ("split", "prompt", "Quick question."),
    "4": (">round 6<", "test over-refusal", "unparsed", "macro-F1 on dev is 81.7"),
    "5": (":02:01 warn", "export 3", "The export 03-mlx-4bit"),
}


KEYS = {
    "1": (),
    "2": (
        "a  Approve",
        "r  Reject",
        "e  Edit",
        "l  Label wrong",
        "s  Skip",
        "u  Undo",
        "/  Filter",
        "n  Next",
    ),
    "3": ("/  Search", "⏎  Open"),
    "4": ("x  Export", "o  Report"),
    "5": ("f  Follow", "/  Filter"),
}


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_is_whole_and_has_help(rich: Path, play: Callable[..., Any], size: tuple[int, int]) -> None:
    async def story(on: Any) -> None:
        for key, parts in WHOLE.items():
            said = await on.press(key)
            missing = [part for part in parts if part not in said]
            assert not missing, f"{missing} not on\n{said}"
            assert said.splitlines()[-1].rstrip().endswith("? Help"), said
            said = await on.press("question_mark")
            assert "Escape closes this" in said
            missing = [one for one in (*KEYS[key], "q  Leave", "?  Help") if one not in said]
            assert not missing or size == SIZES[0], f"{missing} not in\n{said}"
            await on.press("escape")

    play(rich, story, size=size)


def test_the_review_shows_who_stands_against_the_teacher(rich: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        lines = [line.split() for line in (await on.press("2")).splitlines()]
        assert ["teacher", "dataset", "r06,", "P", "members"] in lines
        assert ["request", "harmful", "harmful", "harmful", "0.93", "3", "harmful"] in lines
        response = ["response", "harmful", "≠unharmful", "≠unharmful", "0.12", "≠1", "harmful,", "2", "unharmful"]
        assert response in lines, on.text
        await on.pilot.click(offset=(on.text.splitlines()[-1].index("Approve"), 23))
        await on.settle()
        assert "no traces to review" in on.text

    play(rich, story)


def test_what_was_decided_on_a_text_like_this_one_is_shown_whole(rich: Path, play: Callable[..., Any]) -> None:
    with Store.open(rich) as store, store.write() as db:
        samples.add(db, [samples.NewSample("pool", "Quick question, please.", None, "made", "2")], NOW)
        asked = {"sample_id": 2, "round": 6, "teacher": "policy", "model": "p1", "attempt": 1, "request_json": "{}"}
        call = single_calls.plan(db, key="b" * 64, now=NOW, **asked)  # type: ignore[arg-type]
        said = {"trace_json": "{}", "explanation": "so", "steps_json": "{}", "confidence_word": "low"}
        trace = single_calls.add_trace(db, call_id=call, verdict={"request": "harmful"}, now=NOW, **said)
        reviews.review(db, trace_id=trace, decision="reject", by="person:bob", reason="no", now=NOW, decision_id="b1")

    async def story(on: Any) -> None:
        said = await on.press("2")
        left = " ".join(line.partition("▕")[0].strip() for line in said.splitlines())
        assert "67% reject, request harmful, by person:bob: Quick question, please." in left, said

    play(rich, story, size=(100, 48))


def test_rounds_that_do_not_fit_are_shown_around_the_chosen_one(rich: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        assert "…round 2" in (said := await on.press("4")), said
        assert "round 1" not in said
        said = await on.press("left", "left", "left")
        assert ">round 3<" in said
        assert "…round 1" in said
        assert "round 5…" in said
        assert ["dev", "request", "260", "63.0", "+2.0"] in [line.split()[:5] for line in said.splitlines()]
        await on.pilot.resize_terminal(190, 40)
        await on.settle()
        assert "76.0 (70-81) +2.0" in on.text, on.text

    play(rich, story)


def test_a_whole_event_is_opened(rich: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        assert "probabilities differ by 0.03" not in await on.press("5")
        assert "probabilities differ by 0.03" in (await on.press("enter")).replace("\n", " ")

    play(rich, story)


def test_the_command_palette_goes_to_screens_and_tells_the_run(rich: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        await on.press("ctrl+p")
        for letter in "screen log":
            await on.pilot.press("space" if letter == " " else letter)
        await on.pilot.pause(0.5)
        assert "[5 log]" in await on.press("enter")
        await on.press("ctrl+p")
        for letter in "pause":
            await on.pilot.press(letter)
        await on.pilot.pause(0.5)
        await on.press("enter")
        assert on.notes[-1] == "Will pause after the current batch."

    play(rich, story, alive=True)
    with Store.open(rich, readonly=True) as store, store.read() as db:
        run = control.get_run(db)
    assert run is not None
    assert run.wanted == "pause"


def test_a_report_of_evaluate_is_opened_from_its_round(rich: Path, play: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "xstest").mkdir()
    (tmp_path / "xstest" / "report.md").write_text("# Evaluation\n\nF1 is 81.25 [@click=app.quit]\n")
    with Store.open(rich) as store, store.write() as db:
        for name, round in (("xstest", 6), ("moved", None), ("of another round", 2)):
            data = json.dumps({"report": str(tmp_path / name)})
            events.add(db, level="info", message="evaluated", now=NOW, phase="evaluate", round=round, data_json=data)

    async def story(on: Any) -> None:
        said = await on.press("4", "o")
        assert "Which report on round 6?" in said
        assert "/xstest" in said
        assert "of another round" not in said
        assert "F1 is 81.25 [@click=app.quit]" in await on.press("3")
        await on.press("escape", "o", "2")
        assert on.notes[-1].endswith("(moved?)")
        assert "test request: f1 0.76" in await on.press("o", "1")

    play(rich, story, size=(120, 60))


def test_what_is_copied_or_pasted_is_what_is_shown(after_a_night: Path, play: Callable[..., Any]) -> None:
    async def story(on: Any) -> None:
        for keys in (*WHOLE, "3 down enter"):
            await on.press(*keys.split())
            on.app.screen.text_select_all()
            await on.press("ctrl+c")
            assert len(on.app.clipboard) > 20
            assert not {"\x1b", "\x07", "\u202e"} & set(on.app.clipboard)
        assert "kill ␛]52;c;aGk=␇ a [bold]process[/nope] ⟨U+202E⟩back" in on.app.clipboard
        await on.press("escape", "slash")
        on.app.screen.query_one(Input).post_message(Paste("knit\u202e\x1b[2J\nmore"))
        await on.settle()
        assert on.app.screen.query_one(Input).value == "knit⟨U+202E⟩␛[2J"

    play(after_a_night, story)
