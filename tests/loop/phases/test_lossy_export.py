"""An export that rounds weights: its own thresholds and figures, and that it fails if it loses too much."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import delete, insert

from tests.loop.branching import Branch, model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.console.tables import exports_of, rounds_notes, rounds_table
from wizloop.loop.context import standalone
from wizloop.loop.guard import guard_file
from wizloop.loop.interrupted import Interrupted
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.gate_bound import GateBound
from wizloop.loop.measures.promotion import Difference
from wizloop.loop.phases import export as exporting
from wizloop.loop.phases.lossy_export import FailedExport, told
from wizloop.loop.summaries import round_of
from wizloop.store import category_tables, events, samples
from wizloop.store.overview import RoundSummary, summaries

FORMATS = {"formats": ["mlx-4bit"], "parity_n": 0}
BADLY = 0.9
"""So much less an export knows that it is worse beyond doubt."""
WIDE, NARROW = ({"export": FORMATS, "gate": {"margin": margin}} for margin in (1.0, 0.01))


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night whose first challenger has passed the gate, by direct answers."""
    direct = {"batch": 16, "verdict": "direct"}
    night = Night(tmp_path_factory.mktemp("passed") / "a", recipe(classify=direct))
    run(night, 0, "import", "gate")
    return night


def dulled(passed: Night, folder: Path, changes: dict[str, Any], dulls: float = 0.15) -> tuple[Night, RoundSummary]:
    night = Branch(passed, folder, recipe(classify={"batch": 16, "verdict": "direct"}, **changes), dulls=dulls)
    night.phase(0, "export")
    with night.store.read() as db:
        return night, summaries(db)[0]


def screen(summary: RoundSummary) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(rounds_table([summary]))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_it_has_thresholds_and_figures_of_its_own(passed: Night, tmp_path: Path) -> None:
    night, summary = dulled(passed, tmp_path / "a", WIDE)
    (one,) = round_of(summary, night.folder)["exported"]
    assert (one["format"], one["passed"]) == ("mlx-4bit", True)
    assert round_of(summary, night.folder)["exports"] == [one["path"]]
    theirs = {(row.benchmark, row.task): row.metrics for row in summary.evaluations}
    mine = {(name, task): found for name, by_task in one["metrics"].items() for task, found in by_task.items()}
    ours = {name: by_task["request"] for name, by_task in one["metrics"].items()}
    assert list(ours) == ["dev", "test"]
    assert {key: found["n"] for key, found in mine.items()} == {key: found["n"] for key, found in theirs.items()}
    assert any(found["f1"] != theirs[key]["f1"] for key, found in mine.items())
    assert 0 < one["parity"]["agree"] < one["parity"]["n"]
    said = guard_file.read(Path(one["path"])).calibration
    known = Calibration.from_json(model(night, "r00").calibration_json)
    assert said is not None
    assert said.thresholds["request"]["direct"] != known.threshold("request", "direct")
    card = (Path(one["path"]) / "README.md").read_text()
    f1, low, high = (100 * ours["test"][key] for key in ("f1", "low", "high"))
    assert f"| `test` | request | {ours['test']['n']} | 0 | {f1:.1f} ({low:.1f} to {high:.1f}) |" in card
    assert f"a raw probability of {said.thresholds['request']['direct']:.3f}" in card
    assert "which makes it another guard" in card
    assert f"test, mlx-4bit  {f1:.1f} (" in screen(summary)
    assert not [note for note in rounds_notes([summary]) if "failed" in note]


def test_one_that_loses_more_than_the_margin_has_failed(passed: Night, tmp_path: Path) -> None:
    night, summary = dulled(passed, tmp_path / "a", NARROW, BADLY)
    assert not list(night.folder.glob("exports/*"))
    shown = round_of(summary, night.folder)
    (one,) = shown["exported"]
    assert (shown["exports"], exports_of([summary]), one["path"], one["passed"]) == ([], [], None, False)
    assert one["metrics"]["dev"]["request"]["f1"] is not None
    assert one["reason"].endswith("; the margin is 1.0; it is worse")
    assert "dev, mlx-4bit (failed)" in screen(summary)
    assert f"round 0, mlx-4bit failed: {one['reason']}" in rounds_notes([summary])
    with night.store.read() as db:
        warned = [each for each in events.page(db, 0, 1000) if each.phase == "export" and each.level == "warn"]
    assert [each.message for each in warned] == [
        f"The export of r00 as mlx-4bit failed: {one['reason']}. Nothing was kept: export safetensors, or set a wider "
        "gate.margin."
    ]
    asked = len(night.backend.at_once)
    assert night.phase(0, "export") == "r00 is exported already"
    assert len(night.backend.at_once) == asked


def test_one_that_may_lose_more_by_chance_is_kept_and_says_so(passed: Night, tmp_path: Path) -> None:
    night, summary = dulled(passed, tmp_path / "a", NARROW)
    (one,) = round_of(summary, night.folder)["exported"]
    assert one["passed"]
    assert "; the margin is 1.0; that it is worse cannot be told, and a loss of more than" in one["reason"]
    assert one["reason"][1:] in (Path(one["path"]) / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "lower", "passed", "ends"),
    [
        ((-0.011, -0.072, 0.05), -0.061, True, "cannot be told, and a loss of more than 9.0 is excluded"),
        (
            (-0.011, -0.112, 0.05),
            -0.1,
            False,
            "cannot be told: a loss of 10.0 points is not excluded (at most 9.0 may be)",
        ),
        ((-0.05, -0.07, -0.03), -0.065, False, "it is worse"),
        ((-0.005, -0.007, -0.003), -0.0065, True, "the margin is 1.0"),
        ((-0.05, None, None), None, False, "the margin is 1.0"),
    ],
)
def test_an_export_is_held_to_what_dev_can_exclude(
    change: tuple[float, float | None, float | None], lower: float | None, passed: bool, ends: str
) -> None:
    found = Difference(0.9, 0.9 + change[0], *change)
    kept, reason = told(found, lower, GateBound(0.09, 0.05, 1, 60), 0.01)
    assert (kept, reason.endswith(ends)) == (passed, True), reason


def test_a_command_gets_the_words_and_no_folder(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a", recipe(classify={"batch": 16, "verdict": "direct"}, **NARROW), dulls=BADLY)
    ctx = standalone(night.store, night.folder, night.recipe, "export", NOW)
    ctx.given = night.backend
    said: list[str] = []
    with pytest.raises(FailedExport, match="the export of r00 as mlx-4bit failed: macro-F1 on dev is"):
        exporting.write_export(ctx, model(night, "r00"), "mlx-4bit", tmp_path / "out", said.append)
    assert not list(tmp_path.glob("*out*"))
    assert said[1] == "running the export on dev: 0 of 40 samples"
    # The card is not written.
    assert len(said) == exporting.parts(ctx, "mlx-4bit") - 1


def test_a_long_measurement_ends_when_it_is_asked_to(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a", recipe(classify={"batch": 16, "verdict": "direct"}, **WIDE))
    asked = iter([False] * 3 + [True] * 9)
    with pytest.raises(Interrupted):
        night.phase(0, "export", stop_asked=lambda: next(asked))
    assert not list(night.folder.glob("exports/*"))


def test_a_folder_of_before_a_crash_keeps_its_figures(passed: Night, tmp_path: Path) -> None:
    night, summary = dulled(passed, tmp_path / "a", WIDE)
    again = Branch(passed, tmp_path / "b", night.recipe)
    (night.folder / "exports").rename(again.folder / "exports")
    again.phase(0, "export")
    assert again.backend.at_once == []
    with again.store.read() as db:
        (row,) = summaries(db)[0].exports
    assert json.loads(row.parity_json) == summary.exports[0].parity


def test_it_learns_operating_point_and_promise_again(passed: Night, tmp_path: Path) -> None:
    point = {"operating_point": "fpr<=0.05", "let_through": 0.3}
    night = Branch(passed, tmp_path / "a", recipe(classify={"batch": 16, "verdict": "direct"}, **WIDE, guard=point))
    table = category_tables.sample_categories
    with night.store.write() as db:
        db.execute(delete(table))
        found = [{"sample_id": id, "category": "arson"} for id in samples.ids(db, "dev")]
        db.execute(insert(table), [*found, {"sample_id": samples.ids(db, "test")[0], "category": "rare"}])
    night.phase(0, "export")
    with night.store.read() as db:
        summary = summaries(db)[0]
    (one,) = round_of(summary, night.folder)["exported"]
    said = guard_file.read(Path(one["path"])).calibration
    assert said is not None
    assert (said.operating_point, said.let_through) == ("fpr<=0.05", 0.3)
    assert said.reached["request"]["direct"]["fpr"].rate <= 0.05  # type: ignore[operator]
    dev = one["metrics"]["dev"]["request"]["promise"]
    assert dev["misses"]["k"] == said.cuts["request"]["direct"].misses
    card = (Path(one["path"]) / "README.md").read_text()
    assert "- request: the threshold is set on dev for a false-positive rate of at most 5 %, where it has " in card
    assert "- dev request: let through silently " in card
    # Nine harmful rows can show 30 %.
    assert (dev["by_group"]["arson"]["n"], dev["by_group"]["arson"]["misses"]) == (
        dev["misses"]["n"],
        dev["misses"]["k"],
    )
    told = f"let through silently {dev['misses']['k']} of {dev['misses']['n']} harmful, upper 95 % bound"
    assert f"- dev request, arson: {told}" in card
    assert one["metrics"]["test"]["request"]["promise"].get("by_group", {}) == {}
