"""Each key of [dpo], changed alone: other pairs, or another guard.

The guard is the real tiny one on MLX, for a step or two, where only the training's own code reads the key.
"""

from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.lessons import examples
from tests.backends.lessons import pairs as lessons
from tests.loop.branching import Branch, model, run
from tests.loop.keys.training import Learned, School
from tests.loop.small_night import Night, recipe
from wizloop.backends.guard_types import DpoPair
from wizloop.backends.tokens import Tokens
from wizloop.store import predictions, training


@pytest.fixture(scope="module")
def start(school: School, tokens: Tokens) -> Learned:
    """An R-SFT adapter."""
    return school.sft(examples(tokens))


@pytest.fixture(scope="module")
def pairs(tokens: Tokens) -> list[DpoPair]:
    """Twenty-four pairs: one step of the shared recipe."""
    return lessons(tokens)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("taught") / "a", recipe())
    run(night, 0, "import", "review")
    return night


def trained(taught: Night, folder: Path, **changed: Any) -> Night:
    """Return the night after a training by a recipe in which these keys of [dpo] alone differ."""
    night = Branch(taught, folder, recipe(dpo=changed))
    night.phase(0, "train")
    return night


@pytest.mark.recipe_key("dpo.enabled")
@pytest.mark.parametrize("enabled", [True, False])
def test_pairs_are_mined_and_trained_on_or_not(taught: Night, tmp_path: Path, enabled: bool) -> None:
    night = trained(taught, tmp_path / "a", enabled=enabled)
    with night.store.read() as db:
        mined = training.pairs(db, 0)
        drawn = predictions.traces_of(db, model(night, "r00-sft").id, list(range(1, 300)))
    assert (bool(mined), bool(drawn), "dpo" in [one.kind for one in night.backend.jobs]) == (enabled,) * 3
    assert model(night, "r00").path == ("models/r00" if enabled else model(night, "r00-sft").path)


@pytest.mark.recipe_key("dpo.k")
@pytest.mark.parametrize("k", [2, 4, 6])
def test_so_many_traces_of_each_labelled_sample_are_sampled(taught: Night, tmp_path: Path, k: int) -> None:
    night = trained(taught, tmp_path / "a", k=k)
    with night.store.read() as db:
        drawn = predictions.traces_of(db, model(night, "r00-sft").id, list(range(1, 300)))
        mined = training.pairs(db, 0)
    assert len(drawn) == 30 * k
    assert {one.n_right + one.n_wrong for one in mined} == {k}


@pytest.mark.recipe_key("dpo.gamma")
@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5])
def test_the_weights_lie_between_one_less_and_one_more_gamma(taught: Night, tmp_path: Path, gamma: float) -> None:
    night = trained(taught, tmp_path / "a", gamma=gamma)
    with night.store.read() as db:
        mined = [one.weight for one in training.pairs(db, 0)]
    assert [one.weight for one in night.backend.jobs[-1].lessons] == mined
    assert (min(mined), max(mined)) == pytest.approx((1 - gamma, 1 + gamma))


@pytest.mark.recipe_key("dpo.weights")
def test_the_weights_favor_hard_pairs_or_easy_ones_or_none(taught: Night, tmp_path: Path) -> None:
    found = {}
    for favor in ("up", "equal", "down"):
        with trained(taught, tmp_path / favor, weights=favor).store.read() as db:
            found[favor] = [(one.n_wrong - one.n_right, one.weight) for one in training.pairs(db, 0)]
    hardest, easiest = max(found["up"])[0], min(found["up"])[0]
    assert [dict(found[favor])[hardest] for favor in found] == pytest.approx([1.2, 1.0, 0.8])
    assert [dict(found[favor])[easiest] for favor in found] == pytest.approx([0.8, 1.0, 1.2])
    assert {weight for _, weight in found["equal"]} == {1.0}


@pytest.mark.recipe_key("dpo.gamma")
def test_a_pairs_weight_scales_the_preference_alone(school: School, start: Learned, pairs: list[DpoPair]) -> None:
    weights = [0.8 + 0.4 * at / 23 for at in range(24)]
    spread = [replace(pair, weight=weight) for pair, weight in zip(pairs[::-1], weights, strict=True)]
    even = [replace(pair, weight=2.0) for pair in pairs]
    # Before the first step the margin is none, and a preference costs log 2.
    assert school.dpo(start.folder, spread, sft_weight=0.0).losses == pytest.approx([log(2)], rel=1e-4)
    assert school.dpo(start.folder, even, sft_weight=0.0).losses == pytest.approx([2 * log(2)], rel=1e-4)
    lone, both = (school.dpo(start.folder, each, sft_weight=2.0).losses[0] for each in (spread, even))
    assert both - lone == pytest.approx(log(2), rel=1e-3)


@pytest.mark.recipe_key("dpo.beta")
def test_a_margin_counts_beta_times(school: School, start: Learned, pairs: list[DpoPair]) -> None:
    margins = []
    for beta in (0.02, 0.1, 0.5):
        one = [replace(pairs[0], weight=1.0)]
        first, second = school.dpo(start.folder, one, beta=beta, sft_weight=0.0, lr=5e-4, epochs=2).losses
        assert first == pytest.approx(log(2), rel=1e-5)
        # The loss is log(1 + exp(-beta * margin)). Adam's step, and so the margin after it, does not depend on beta.
        margins.append(-log(exp(second) - 1) / beta)
    assert margins[0] > 0.1
    assert margins == pytest.approx([margins[0]] * 3, rel=0.05)


@pytest.mark.recipe_key("dpo.sft_weight")
def test_the_chosen_traces_token_loss_counts_so_much(school: School, start: Learned, pairs: list[DpoPair]) -> None:
    without, once, thrice = (school.dpo(start.folder, pairs, sft_weight=weight).losses[0] for weight in (0.0, 1.0, 3.0))
    assert once - without > 0.5
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)
    longer = [replace(pair, rejected=pair.rejected + " bread") for pair in pairs]
    assert school.dpo(start.folder, longer, sft_weight=1.0).losses == pytest.approx([once], rel=1e-4)


@pytest.mark.recipe_key("dpo.lr")
def test_the_first_step_is_as_large_as_the_rate(school: School, start: Learned, pairs: list[DpoPair]) -> None:
    slow, fast = (school.dpo(start.folder, pairs, lr=lr).weights for lr in (1e-4, 5e-4))
    before, name = start.weights, "model.layers.1.mlp.up_proj.lora_b"
    moved = slow[name] - before[name]
    assert np.abs(moved).max() > 5e-5
    np.testing.assert_allclose(fast[name] - before[name], 5 * moved, rtol=1e-2, atol=2e-6)


@pytest.mark.recipe_key("dpo.epochs")
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_pairs_are_passed_over_so_often(school: School, start: Learned, pairs: list[DpoPair], epochs: int) -> None:
    assert school.dpo(start.folder, pairs, epochs=epochs, batch=10).result.steps == 3 * epochs


@pytest.mark.recipe_key("dpo.batch")
@pytest.mark.parametrize(("batch", "steps"), [(24, 1), (23, 2), (6, 4)])
def test_so_many_pairs_are_in_one_step(
    school: School, start: Learned, pairs: list[DpoPair], batch: int, steps: int
) -> None:
    taught = school.dpo(start.folder, pairs, batch=batch)
    assert len(taught.losses) == taught.result.steps == steps
