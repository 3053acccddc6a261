"""A night on a guard with categories: taught from labels or by a teacher, measured, bound, exported, shown."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from tests.loop.branching import Branch, model, run
from tests.loop.small_night import NOW, Night, recipe
from wizloop.console import category_figures
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.backend import choose_backend
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.summaries import round_of, rounds_of
from wizloop.recipes.demo_text import demo_samples
from wizloop.recipes.policies import load
from wizloop.recipes.schema import Recipe
from wizloop.store import category_tables, models, predictions
from wizloop.store.db import Store
from wizloop.store.overview import base_summary, summaries
from wizloop.tui import comparison
from wizloop.tui.app import WizloopApp
from wizloop.tui.workspace import Workspace

NAMES = tuple(policy.name for policy in load())
LAX = {"margin": 1.0, "max_over_refusal_rise": 1.0, "max_unparsable": 1.0, "category_macro_margin": 1.0}
SMALL = {"rounds": 0, "dpo": {"enabled": False}, "members": {"count": 0}, "gate": LAX}


def naming(**more: Any) -> Recipe:
    return recipe(**(SMALL | {"guard": {"categories": "policies"}, "export": {"formats": ["safetensors"]}} | more))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Round 0, from the demo's labels: its policies are the categories."""
    made = Night(tmp_path_factory.mktemp("night") / "a", naming())
    made.round(0)
    return made


def lessons(night: Night) -> list[str]:
    [taught] = [one for one in night.backend.jobs if one.kind == "sft"]
    return [one.completion for one in taught.lessons]


def test_its_figures_are_in_rounds_card_and_screens(night: Night) -> None:
    with night.store.read() as db:
        base, found = base_summary(db), summaries(db)
        shown = rounds_of(db, night.folder)
    assert [set(one["categories"]) for one in shown] == [{"dev", "test"}] * 2
    assert set(shown[1]["categories"]["dev"]["by_category"]) == set(NAMES)
    assert base is not None
    table = category_figures.table(found, base)
    assert table is not None
    assert table.row_count == 4 * (2 + len(NAMES))
    assert category_figures.in_short([base, *found]).startswith("categories on test: macro-F1 ")
    brief, wide = comparison.in_brief(found[0]).plain, comparison.side_by_side([base, *found], 1, 200).plain
    assert f"{NAMES[0]}: F1 " in brief
    assert "dev macro-F1 of categories" in wide
    card = (night.folder / "exports" / "00-safetensors" / "README.md").read_text(encoding="utf-8")
    assert f"| `dev` | `{NAMES[0]}` |" in card
    assert found[0].record["gate"]["category_macro_f1"]["champion"] is not None
    assert "macro-F1 over the categories is" in (found[0].round.gate_reason or "")


def test_an_export_carries_names_and_thresholds(night: Night) -> None:
    found = guard_file.read(night.folder / "exports" / "00-safetensors")
    assert found.guard.categories == NAMES
    assert found.calibration is not None
    assert set(found.calibration.categories) <= set(NAMES)
    assert found.calibration.categories == found.calibration.calibration(found.window).categories
    hostile = found.model_dump(mode="json") | {"guard": {"categories": "/etc/passwd.txt"}}
    path = night.folder / guard_file.NAME
    path.write_text(json.dumps(hostile), encoding="utf-8")
    with pytest.raises(ValueError, match="names a file"):
        guard_file.read(night.folder)


def test_a_lossy_export_has_figures_and_thresholds_of_its_own(night: Night, tmp_path: Path) -> None:
    again = Branch(night, tmp_path / "a", naming(export={"formats": ["mlx-4bit"], "parity_n": 0}), dulls=0.4)
    again.phase(0, "export")
    with again.store.read() as db:
        [summary] = summaries(db)
    one = round_of(summary, again.folder)["exported"][-1]
    theirs = summary.record["categories"]
    assert set(one["categories"]) == set(theirs) == {"dev", "test"}
    assert one["categories"]["dev"] != theirs["dev"]
    assert one["categories"]["dev"]["n"] == theirs["dev"]["n"]
    said = guard_file.read(Path(one["path"])).calibration
    known = Calibration.from_json(model(again, "r00").calibration_json)
    assert said is not None
    assert set(said.categories) == set(known.categories)
    assert said.categories != known.categories
    card = (Path(one["path"]) / "README.md").read_text()
    macro = category_figures.overall(one["categories"]["dev"])[0][1]
    assert f"| `dev` | macro-F1 | {theirs['dev']['n']} | {macro} |" in card
    assert "before its weights were rounded: " in card.casefold()
    assert "They are those of the guard before" not in card
    table = category_figures.table([summary])
    assert table is not None
    assert {"dev, mlx-4bit", "test, mlx-4bit"} <= {str(cell) for cell in table.columns[1].cells}


def test_lessons_name_the_categories_of_the_labels(night: Night) -> None:
    told = lessons(night)
    traced, direct = told[::2], told[1::2]
    assert all(text.splitlines()[-1].startswith("Categories: ") for text in traced)
    assert {text.splitlines()[-1] for text in traced} >= {"Categories: None", "Categories: Hate speech"}
    held = [text for text in direct if "harmful" in text.split()]
    assert all(f"{NAMES[-1]}: " in text for text in held)
    assert sum("Categories:" in text for text in direct) == len(held)


def test_without_labels_lessons_name_what_the_teacher_names(night: Night, tmp_path: Path) -> None:
    made = Night(tmp_path / "a", naming())
    run(made, 0, "import", "base")
    with made.store.write() as db:
        db.execute(delete(category_tables.sample_categories))
    run(made, 0, "select", "train")
    named = [text.splitlines()[-1] for text in lessons(made)[::2]]
    assert "Categories: None" in named
    assert {name for line in named for name in NAMES if name in line}


def test_no_verdict_of_the_base_depends_on_categories(night: Night, tmp_path: Path) -> None:
    without = Night(tmp_path / "a", recipe(**SMALL))
    run(without, 0, "import", "base")
    of_base = []
    for one in (night, without):
        with one.store.read() as db:
            base = models.by_name(db, "base")
            assert base is not None
            of_base.append([predictions.of_model(db, base.id, split) for split in ("dev", "test")])
    assert of_base[0] == of_base[1]
    with without.store.read() as db:
        assert all("categories" not in one for one in rounds_of(db, without.folder))


def test_a_night_goes_on_where_it_was_killed_while_it_asked(night: Night, tmp_path: Path) -> None:
    again = Branch(night, tmp_path / "a")
    with again.store.write() as db:
        table = category_tables.category_predictions
        lost = db.execute(delete(table).where(table.c.sample_id % 2 == 0)).rowcount
    again.phase(0, "evaluate")
    assert lost > 0
    assert again.backend.at_once
    with night.store.read() as before, again.store.read() as after:
        assert summaries(before)[0].record["categories"] == summaries(after)[0].record["categories"]


@pytest.fixture(scope="module", params=["labels", "teacher"])
def real_night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Round 0 on the embedded guard with three categories of one's own; the seed's from labels or from the teacher."""
    folder = tmp_path_factory.mktemp(request.param)
    merged = {"violence_and_weapons": "harm", "self_harm": "harm", "hate_speech": "abuse", "sexual_content": "abuse"}
    tables = [
        f'[[policy]]\nid = "{id}"\nname = "{id}"\ndescription = "{id}."\nkeywords = {json.dumps(words)}'
        for id, words in {
            name: [word for one in load() if merged.get(one.id, "crime") == name for word in one.keywords or ()]
            for name in ("harm", "abuse", "crime")
        }.items()
    ]
    (folder / "own.toml").write_text("\n".join(tables), encoding="utf-8")
    data = []
    for split in ("pool", "seed", "dev", "test"):
        rows = [
            {
                "prompt": one.prompt,
                "label": one.labels.get("request"),
                **({} if split == "seed" and request.param == "teacher" else {"category": one.policy}),
            }
            for one in demo_samples(random.Random(5), pool=120, seed=60, dev=50, test=50)
            if one.split == split
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        words = merged | dict.fromkeys(("illegal_activities", "harassment_and_privacy"), "crime")
        data.append({"path": str(folder / f"{split}.jsonl"), "split": split, "category": words})
    asked = recipe(
        source="files",
        data=data,
        teacher={"policies": str(folder / "own.toml")},
        guard={"categories": ["harm", "abuse", "crime"], "instruction": "none", "max_trace_tokens": 48},
        train={"epochs": 1, "least_steps": 60},
        classify={"verdict": "direct"},
        export={"formats": ["safetensors"], "parity_n": 4},
        **SMALL,
    )
    made = Night(folder / "run", asked)
    made.backend = choose_backend("auto", "auto")  # type: ignore[assignment]
    made.round(0)
    yield made
    made.store.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ones_own_three_policies_end_in_figures_on_the_embedded_guard(real_night: Night) -> None:
    with real_night.store.read() as db:
        [base, first] = rounds_of(db, real_night.folder)
    for one in (base, first):
        assert set(one["categories"]["dev"]["by_category"]) == {"harm", "abuse", "crime"}
    assert first["categories"]["test"]["macro_f1"] > 0
    card = (real_night.folder / "exports" / "00-safetensors" / "README.md").read_text(encoding="utf-8")
    assert "| `test` | `crime` |" in card
    screens = asyncio.run(_screens(real_night.folder))
    assert "categories on test: macro-F1" in screens["1"]
    assert "macro-F1 of categories" in screens["4"]


async def _screens(folder: Path) -> dict[str, str]:
    with Store.open(folder) as store:
        app = WizloopApp(Workspace(store, folder, "person:ann", lambda: NOW, lambda: False, lambda: "1"))
        shown = {}
        async with app.run_test(size=(140, 48)) as pilot:
            for key in ("1", "4"):
                await pilot.press(key)
                await pilot.pause()
                while any(worker.is_running for worker in app.workers):
                    await pilot.pause(0.01)
                await pilot.pause()
                shown[key] = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
    return shown
