"""Which model is exported when, and that it is asked before it counts as exported."""

import json
from pathlib import Path

import pytest

from tests.loop.branching import Branch, model, run
from tests.loop.small_night import NOW, Night, recipe
from tests.loop.stand_in import WEIGHTS
from wizloop.backends import artifacts
from wizloop.loop.context import standalone
from wizloop.loop.guard import guard_file, instructions
from wizloop.loop.guard.guard_file import GuardCalibration
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases import export as exporting
from wizloop.loop.words import TASKS
from wizloop.store import control, events, exports, models, samples
from wizloop.store.exports import Export


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night whose first challenger has passed the gate."""
    night = Night(tmp_path_factory.mktemp("passed") / "a", recipe())
    run(night, 0, "import", "gate")
    return night


@pytest.fixture(scope="module")
def exported(passed: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Branch(passed, tmp_path_factory.mktemp("exported") / "a")
    night.phase(0, "export")
    return night


def test_no_file_of_an_export_holds_the_text_of_a_row(exported: Night) -> None:
    with exported.store.read() as db:
        texts = [one.prompt for split in samples.SPLITS for one in samples.page(db, split, 0, 1000)]
    files = [path for path in (exported.folder / "exports").rglob("*") if path.is_file()]
    held = b"".join(path.read_bytes() for path in files).decode(errors="replace")
    assert files
    assert [text for text in texts if text in held or json.dumps(text)[1:-1] in held] == []


def written(night: Night, round: int = 0) -> list[Export]:
    with night.store.read() as db:
        return exports.of_round(db, round)


def weights(folder: Path) -> object:
    return json.loads((folder / WEIGHTS).read_text())


def later_challenger(night: Night, champion: bool) -> None:
    """Put a challenger of round 1 on record, with the folder of the R-SFT model, as champion or not."""
    sft = model(night, "r00-sft")
    with night.store.write() as db:
        kept = {"role": "challenger", "round": 1, "parent_id": None, "path": sft.path, "sha256": sft.sha256}
        new = models.add(db, name="r01", meta_json="{}", now=NOW, **kept)  # type: ignore[arg-type]
        if champion:
            control.set_champion(db, new)


def test_the_champions_own_weights_are_exported_in_every_format(exported: Night) -> None:
    champion = model(exported, "r00")
    rows = written(exported)
    assert [(one.model_id, one.format) for one in rows] == [(champion.id, "safetensors"), (champion.id, "mlx-4bit")]
    others = [weights(exported.folder / model(exported, name).path) for name in ("r00-sft", "r00-m1", "r00-m2")]
    for one in rows:
        folder = exported.folder / one.path
        assert weights(folder) == weights(exported.folder / champion.path)
        assert weights(folder) not in others
        assert one.sha256 == artifacts.verify(folder)
        about = artifacts.about(folder)
        assert (about["model"], about["sha256"], about["format"]) == ("r00", champion.sha256, one.format)


def test_an_export_says_how_the_night_asked_its_guard(exported: Night) -> None:
    window = json.loads(model(exported, "r00").meta_json)["window"]
    for export in written(exported):
        said = guard_file.read(exported.folder / export.path)
        asked = exported.recipe.guard.model_copy(update={"base": said.guard.base, "instruction": "none"})
        known = Calibration.from_json(model(exported, "r00").calibration_json)
        assert (said.guard, said.classify, said.seed) == (asked, exported.recipe.classify, exported.recipe.seed)
        assert (said.frame, said.reader) == (("", ""), "strict")
        assert (said.instruction, said.window) == (instructions.shipped(exported.recipe.guard.instruction), window)
        assert said.calibration is not None
        again = said.calibration.calibration(window)
        # The weights are the same, whatever the format: direct answers get the same thresholds when learned again.
        assert [again.threshold(task, "direct") for task in TASKS] == [
            known.threshold(task, "direct") for task in TASKS
        ]


def test_a_lossless_export_has_the_whole_calibration_of_its_model(exported: Night) -> None:
    (folder,) = [exported.folder / one.path for one in written(exported) if one.format == "safetensors"]
    known = Calibration.from_json(model(exported, "r00").calibration_json)
    assert guard_file.read(folder).calibration == GuardCalibration.of(known)


def test_what_was_exported_is_asked_about_dev(exported: Night) -> None:
    for one in written(exported):
        parity = json.loads(one.parity_json)
        assert parity["n"] >= exported.recipe.export.parity_n
        assert (parity["agree"], parity["max_difference"]) == (parity["n"], 0)


def test_an_export_that_answers_otherwise_is_told(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a", recipe(export={"formats": ["safetensors"], "parity_n": 8}), spoils=True)
    night.phase(0, "export")
    parities = [json.loads(one.parity_json) for one in written(night)]
    assert all(0 < one["agree"] < one["n"] and one["max_difference"] > 0.1 for one in parities)
    with night.store.read() as db:
        warned = [one for one in events.page(db, 0, 1000) if one.phase == "export" and one.level == "warn"]
    assert [json.loads(one.data_json or "") for one in warned] == parities
    assert f"agrees with its model on {parities[0]['agree']} of {parities[0]['n']} verdicts" in warned[0].message


def test_an_export_that_answers_alike_is_told_without_a_warning(exported: Night) -> None:
    with exported.store.read() as db:
        told = [one for one in events.page(db, 0, 1000) if one.phase == "export"]
    assert [one.message for one in told if one.level == "warn"] == []


def test_what_the_night_has_exported_is_found_by_its_format(exported: Night) -> None:
    ctx, r00 = standalone(exported.store, exported.folder, exported.recipe, "export", NOW), model(exported, "r00")
    ctx.given = exported.backend
    assert exporting.finished(ctx, r00, "mlx-4bit") == exported.folder / "exports/00-mlx-4bit"
    assert exporting.finished(ctx, r00, "gguf") is None


def test_an_adapter_is_asked_on_its_base_and_each_step_is_told(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a")
    ctx = standalone(night.store, night.folder, night.recipe, "export", NOW)
    ctx.given = night.backend
    told: list[str] = []
    parity = exporting.write_export(ctx, model(night, "r00"), "adapter", tmp_path / "out", told.append)
    assert parity["agree"] == parity["n"] > 0
    assert told[0] == "writing the weights"
    assert told[-1] == "writing the card and the hashes"


@pytest.mark.parametrize("champion", [True, False])
def test_a_later_challenger_is_exported_where_it_became_champion(
    exported: Night, tmp_path: Path, champion: bool
) -> None:
    night = Branch(exported, tmp_path / "a")
    later_challenger(night, champion)
    told = night.phase(1, "export")
    sft = weights(night.folder / model(night, "r00-sft").path)
    found = [(one.path, weights(night.folder / one.path) == sft) for one in written(night, 1)]
    new = [("exports/01-safetensors", True), ("exports/01-mlx-4bit", True)]
    assert (found, told) == ((new, "r01 as safetensors, mlx-4bit") if champion else ([], "r00 is exported already"))


def test_without_a_champion_nothing_is_exported(tmp_path: Path) -> None:
    empty = Night(tmp_path / "b", recipe())
    assert (empty.phase(0, "export") or "").startswith("no champion to export: no challenger has passed the gate")
    assert written(empty) == []


def test_a_base_that_was_never_taught_is_exported_and_called_one(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a")
    ctx = standalone(night.store, night.folder, night.recipe, "export", NOW)
    ctx.given = night.backend
    base = model(night, "base")
    exporting.write_export(ctx, base, "safetensors", tmp_path / "out")
    assert weights(tmp_path / "out") == {"skill": 0.0}
    assert guard_file.read(tmp_path / "out").reader == "tolerant"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- gate: none: this is the base, before anything was taught" in card
    assert "- teacher" not in card
    with pytest.raises(ValueError, match="base was never taught, and adapter needs an adapter: export safetensors"):
        exporting.write_export(ctx, base, "adapter", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_only_a_timed_export_has_its_speed_on_the_card(passed: Night, exported: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a")
    ctx = standalone(night.store, night.folder, night.recipe, "export", NOW)
    ctx.given = night.backend
    for form in ("safetensors", "mlx-4bit"):
        exporting.write_export(ctx, model(night, "base"), form, tmp_path / form, timed=True)
    assert "- Speed on " in (tmp_path / "safetensors" / "README.md").read_text()
    assert "Speed on" not in (tmp_path / "mlx-4bit" / "README.md").read_text()
    assert not [card for card in exported.folder.glob("exports/*/README.md") if "Speed on" in card.read_text()]


def test_a_guard_whose_weights_were_all_trained_has_no_adapter_to_export(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a")
    ctx = standalone(night.store, night.folder, recipe(train={"method": "full"}), "export", NOW)
    ctx.given = night.backend
    for format in ("adapter", "adapter-mlx"):
        with pytest.raises(ValueError, match=f'train.method "full", and {format} needs an adapter: export safetensors'):
            exporting.write_export(ctx, model(night, "r00"), format, tmp_path / "none")
    exporting.write_export(ctx, model(night, "r00"), "safetensors", tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_a_folder_of_before_a_crash_is_asked_and_put_on_record_as_it_is(passed: Night, tmp_path: Path) -> None:
    night = Branch(passed, tmp_path / "a")
    folder = night.folder / "exports" / "00-safetensors"
    with artifacts.writing(folder, {"model": "r00"}) as to:
        (to / WEIGHTS).write_text(json.dumps({"skill": 0.0, "left": "before a crash"}))
    night.phase(0, "export")
    first = written(night)[0]
    assert weights(folder) == {"skill": 0.0, "left": "before a crash"}
    assert first.sha256 == artifacts.verify(folder)
    parity = json.loads(first.parity_json)
    assert parity["agree"] < parity["n"]
