"""Bringing samples in: labels that stay hidden, leaks that are found, pools that no run can be made of."""

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wizloop.loop.context import Context
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.phases import import_samples
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Export
from wizloop.store import events, samples, steps
from wizloop.store.db import Store

NOW = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
SUBJECTS = ("bread", "locks", "rivers", "poems", "chess", "glass", "bees", "maps")


def rows(words: str, labels: Sequence[str] = "01") -> list[tuple[str, str]]:
    return [(f"{words} {subject} and nothing else?", labels[at % len(labels)]) for at, subject in enumerate(SUBJECTS)]


def written(path: Path, lines: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("text", "label"), *lines])
    return str(path)


def context(folder: Path, **lines: list[tuple[str, str]]) -> Context:
    given = {"pool": rows("What about"), "seed": rows("Tell me of"), "dev": rows("Explain to me"), **lines}
    data: list[dict[str, Any]] = [
        {"path": written(folder / f"{split}.csv", kept), "split": split, "hide_labels": split == "pool"}
        for split, kept in given.items()
    ]
    recipe = Recipe.model_validate_json(json.dumps({"name": "files", "data": data}))
    store = Store.create(folder / "runs")
    with store.write() as db:
        steps.begin_round(db, 0, None, NOW)
        steps.begin_step(db, 0, "import", NOW)
    return Context(store, folder / "runs", recipe, 0, "import", lambda: NOW, lambda: False)


def test_files_come_in_and_the_pools_labels_do_not(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    assert import_samples.run(ctx) == "pool 8, seed 8, dev 8, test 0"
    assert import_samples.run(ctx) == "pool 8, seed 8, dev 8, test 0"
    with ctx.store.read() as db:
        assert samples.label_counts(db) == {
            "dev": {"request": {"harmful": 4, "unharmful": 4}},
            "seed": {"request": {"harmful": 4, "unharmful": 4}},
        }


def test_a_pool_prompt_that_dev_holds_is_taken_out_of_use_with_its_twin(tmp_path: Path) -> None:
    twins = [("EXPLAIN to me: bread, and nothing else", "1"), ("Explain to me bees and nothing else? Please", "1")]
    ctx = context(tmp_path, pool=[*rows("What about"), *twins])
    assert import_samples.run(ctx).endswith("; 2 excluded: their text is in dev or test")
    with ctx.store.read() as db:
        out = [one for one in samples.page(db, "pool", 0, 99, include_excluded=True) if one.excluded]
        dev = {one.prompt: one.id for one in samples.page(db, "dev", 0, 99)}
    bread, bees = dev["Explain to me bread and nothing else?"], dev["Explain to me bees and nothing else?"]
    assert [one.excluded for one in out] == [
        f"repeats the held-out sample {bread}",
        f"nearly repeats (0.83) the held-out sample {bees}",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"seed": rows("Tell me of", "1")}, "every labeled request of seed is harmful"),
        ({"dev": rows("Explain to me", "0")}, "every labeled request of dev is unharmful"),
        ({"pool": rows("Explain to me")}, "the split pool has no usable sample"),
    ],
)
def test_what_no_run_can_be_made_of_is_refused(
    tmp_path: Path, lines: dict[str, list[tuple[str, str]]], message: str
) -> None:
    with pytest.raises(ImportRefused, match=message):
        import_samples.run(context(tmp_path, **lines))


def test_a_dev_whose_labels_are_hidden_is_refused_before_anything_comes_in_and_a_seed_is_not(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    files = ctx.recipe.data

    def hide(split: str) -> None:
        hidden = [data.model_copy(update={"hide_labels": data.split == split}) for data in files]
        ctx.recipe = ctx.recipe.model_copy(update={"data": tuple(hidden)})

    hide("dev")
    with pytest.raises(ImportRefused, match=r"dev\.csv: the labels of dev cannot be hidden"):
        import_samples.run(ctx)
    with ctx.store.read() as db:
        assert sum(samples.counts(db).values()) == 0
    hide("seed")
    assert import_samples.run(ctx) == "pool 8, seed 8, dev 8, test 0"


def test_a_dev_without_a_label_that_was_imported_before_is_refused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.recipe = Recipe.model_validate_json(json.dumps({"name": "mine", "source": "imported"}))
    with ctx.store.write() as db:
        new = [samples.NewSample(split, f"how to {split}", None, "mine", "1") for split in ("pool", "seed", "dev")]
        samples.add(db, new, NOW)
    with pytest.raises(ImportRefused, match="no sample of dev has a label, so nothing can be measured"):
        import_samples.run(ctx)


def test_a_format_that_is_not_written_here_is_refused_before_anything_comes_in(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.recipe = ctx.recipe.model_copy(
        update={"export": Export(formats=("nf4",)), "guard": ctx.recipe.guard.model_copy(update={"backend": "mlx"})}
    )
    with pytest.raises(ImportRefused, match=r"export\.formats: the MLX backend does not write nf4: it writes adapter"):
        import_samples.run(ctx)
    with ctx.store.read() as db:
        assert sum(samples.counts(db).values()) == 0


def test_a_bad_row_refuses_the_file_before_anything_comes_in_unless_the_recipe_skips_it(tmp_path: Path) -> None:
    ctx = context(tmp_path, pool=[*rows("What about"), ("a NUL\0", "0"), ("\udcff", "0")])
    with pytest.raises(ImportRefused, match=r"pool\.csv: row 9: .*, and bad rows after it: 1; none of its"):
        import_samples.run(ctx)
    with ctx.store.read() as db:
        assert sum(samples.counts(db).values()) == 0
        (said,) = [one.message for one in events.page(db, 0, 9)]
    nul, broken = "the prompt holds a NUL character", "the prompt holds a lone surrogate, or bytes that are not UTF-8"
    assert said == f"pool.csv: row 9: {nul}; row 10: {broken}"
    files = [data.model_copy(update={"skip_bad": True}) for data in ctx.recipe.data]
    ctx.recipe = ctx.recipe.model_copy(update={"data": tuple(files)})
    assert import_samples.run(ctx) == "pool 8, seed 8, dev 8, test 0"


def test_the_demo_hides_its_pools_labels(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    demo = {"name": "demo", "source": "demo", "data_demo": {"pool": 30, "seed": 10, "dev": 10, "test": 10}}
    ctx.recipe = Recipe.model_validate_json(json.dumps(demo))
    import_samples.run(ctx)
    with ctx.store.read() as db:
        assert "pool" not in samples.label_counts(db)
        assert {one.policy for one in samples.page(db, "pool", 0, 99)} == {None}


def test_how_labels_were_read_is_in_the_log(tmp_path: Path) -> None:
    ctx = context(tmp_path, pool=rows("What about", ["spam", "safe"]), dev=rows("Explain to me", ["bad", "0"]))
    pool, seed, dev = ctx.recipe.data
    shown = pool.model_copy(update={"hide_labels": False})
    mapped = dev.model_copy(update={"label": {"bad": "harmful", "worse": "harmful"}})
    for data in (shown, seed, mapped):
        import_samples.import_file(ctx, data)
    with ctx.store.read() as db:
        told = [event.message for event in events.page(db, 0, 9)]
        assert samples.label_counts(db)["pool"] == {"request": {"unharmful": 4}}
    assert "pool.csv: 4 rows without their request label, unknown: 'spam'" in told
    assert "dev.csv: no row has the label words 'worse'" in told
    assert any(one.startswith("seed.csv: format columns; 1 in label is read as harmful") for one in told)
