"""Each bound of the gate on categories, changed alone: another champion, on the same answers."""

from pathlib import Path

import pytest

from tests.loop.branching import model
from tests.loop.phases.test_gate import HARMFUL, candidate, champion, decided, labeled
from tests.loop.small_night import Night, recipe
from wizloop.store import categories, samples
from wizloop.store.steps import Round

NAMES = ("violence", "hate")


def after_the_gate(folder: Path, **bounds: float) -> tuple[str, Round]:
    """Let a challenger that misses a quarter of the hate be judged: a champion names all of it.

    Half of the harmful rows are violence, half are hate. F1 on hate is 85.7, macro-F1 92.9, exact match 92.5 of all.
    """
    night = Night(folder, recipe(guard={"categories": NAMES}, gate=bounds))
    labeled(night)
    champion(night, {"missed": 1})
    candidate(night, "base", {"missed": HARMFUL}, round=0)
    candidate(night, "r01", {"missed": 1})
    with night.store.write() as db:
        dev = samples.page(db, "dev", 0, 1000)
        half = HARMFUL // 2
        truth = [("violence",)] * half + [("hate",)] * half
        digests = [bytes.fromhex(one.hash) for one in dev]
        categories.label(db, dict(zip(digests, truth, strict=False)))
        for name, missed in (("r00", 0), ("r01", half // 4 + 1)):
            said = [*truth[: len(truth) - missed], *[()] * (missed + len(dev) - len(truth))]
            found = {
                one.id: {each: float(each in named) for each in NAMES} for one, named in zip(dev, said, strict=True)
            }
            categories.predict(db, model(night, name).id, found)
    return decided(night)


@pytest.mark.parametrize(
    ("key", "margin", "stands"),
    [
        pytest.param("category_macro_margin", 0.08, "r00", marks=pytest.mark.recipe_key("gate.category_macro_margin")),
        pytest.param("category_macro_margin", 0.1, "r01", marks=pytest.mark.recipe_key("gate.category_macro_margin")),
        pytest.param("category_margin", 0.17, "r00", marks=pytest.mark.recipe_key("gate.category_margin")),
        pytest.param("category_margin", 0.18, "r01", marks=pytest.mark.recipe_key("gate.category_margin")),
        pytest.param("category_exact_margin", 0.07, "r00", marks=pytest.mark.recipe_key("gate.category_exact_margin")),
        pytest.param("category_exact_margin", 0.08, "r01", marks=pytest.mark.recipe_key("gate.category_exact_margin")),
    ],
)
def test_a_challenger_may_be_below_the_champion_by_the_margin(
    tmp_path: Path, key: str, margin: float, stands: str
) -> None:
    name, row = after_the_gate(tmp_path / "a", **{key: margin})
    assert name == stands
    words = {"category_macro_margin": "macro-F1 over", "category_margin": "the category 'hate'"}
    assert words.get(key, "exactly right categories is 92.5 against 100.0") in (row.gate_reason or "")


def test_without_a_bound_categories_hold_nobody_back(tmp_path: Path) -> None:
    name, row = after_the_gate(tmp_path / "a")
    assert name == "r01"
    assert "categor" not in (row.gate_reason or "")
    hate = row.record["gate"]["category.hate"]
    assert hate["champion"] == 1.0
    assert hate["low"] < hate["difference"] < hate["high"] <= 0


def test_a_reason_has_the_interval(tmp_path: Path) -> None:
    _, row = after_the_gate(tmp_path / "a", category_margin=0.1)
    assert "F1 on the category 'hate' is 82.4 against 100.0, -17.6 points (95 % interval -" in (row.gate_reason or "")
    assert "; cannot be told from worse (the margin is 10.0)" in (row.gate_reason or "")
