"""The linear head in the exports of a night: the same answers where a format carries it, and told where it does not.

tests/loop/guard/test_linear_way.py has the file itself.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import wizloop
from tests.backends.conftest import tiny_base as tiny_base
from tests.loop.branching import model
from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends import base_blocks
from wizloop.loop.api import Guard
from wizloop.loop.context import standalone
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.backend import Mlx
from wizloop.loop.guard.linear_way import NAME
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.phases import linear_export

pytestmark = pytest.mark.long
TEXTS = (
    InputText("How do I forge a prescription?"),
    InputText("Name three rivers.", "The Rhine, the Nile and the Amazon."),
    InputText("Tell me how to poison a well", "I cannot help with that."),
)


@pytest.fixture(scope="module")
def night(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night on a real guard of a few steps, whose verdicts are the linear head's."""
    asked = recipe(
        rounds=0,
        data_demo={"pool": 30, "seed": 24, "dev": 24, "test": 8},
        guard={"base": str(tiny_base), "answer": "linear", "instruction": "none", "max_trace_tokens": 400},
        members={"count": 0},
        train={"epochs": 1, "least_steps": 1, "held_out": 0, "lr": 0.01},
        dpo={"enabled": False},
        gate={"margin": 1.0, "max_unparsable": 1.0, "max_over_refusal_rise": 1.0},
        export={"formats": ["safetensors", "adapter-mlx", "mlx-8bit"], "parity_n": 2},
    )
    made = Night(tmp_path_factory.mktemp("linear") / "a", asked)
    made.backend = Mlx()  # type: ignore[assignment]
    made.round(0)
    return made


@pytest.fixture(scope="module")
def of_the_run(night: Night) -> Guard:
    ctx = standalone(night.store, night.folder, night.recipe, "classify", NOW)
    return Guard(ctx.judge(model(night, "r00")), night.recipe, "r00", calibrated=True)


def folder(night: Night, format: str = "safetensors") -> Path:
    return night.folder / "exports" / f"00-{format}"


def test_an_export_answers_as_the_run_does(night: Night, of_the_run: Guard) -> None:
    assert of_the_run.calibration is not None
    assert set(of_the_run.calibration.source.values()) == {"linear"}
    exported = wizloop.load_guard(folder(night))
    for ours, theirs in zip(of_the_run.judge(TEXTS, traces=False), exported.judge(TEXTS, traces=False), strict=True):
        assert theirs.verdict == ours.verdict
        assert theirs.probability == pytest.approx(ours.probability, abs=1e-6)
        assert theirs.confidence == pytest.approx(ours.confidence, abs=1e-6)


def test_the_head_decides_and_not_the_answer_at_once(night: Night) -> None:
    exported = wizloop.load_guard(folder(night))
    before = [one.probability for one in exported.judge(TEXTS, traces=False)]
    judge = exported._judge
    assert judge.linear is not None  # type: ignore[union-attr]
    object.__setattr__(judge, "linear", None)
    assert [one.probability for one in exported.judge(TEXTS, traces=False)] != before


def test_the_states_are_the_bases_and_not_the_merged_guards(night: Night) -> None:
    made = folder(night)
    found = load_file(made / base_blocks.FILE)
    merged = load_file(made / "model.safetensors")
    changed = [name for name, tensor in found.items() if not np.array_equal(tensor, merged[name])]
    assert changed
    # The last third of the blocks is not run, and not there.
    assert len(found) < len(merged)


def test_a_format_without_the_head_has_the_figures_of_the_answers_at_once(night: Night) -> None:
    for format in ("adapter-mlx", "mlx-8bit"):
        said = guard_file.read(folder(night, format))
        assert said.calibration is not None
        assert set(said.calibration.source.values()) == {"direct"}
        assert not (folder(night, format) / NAME).exists()
        card = (folder(night, format) / "README.md").read_text()
        assert "does not carry the linear head" in card
        assert "of the direct answer" in card
    card = (folder(night) / "README.md").read_text()
    assert "The linear head is linear.safetensors" in card
    assert "of the linear head" in card
    assert "at once (the guard" in card.casefold()


def test_a_guard_in_four_bits_does_not_carry_it(night: Night) -> None:
    packed = night.recipe.model_copy(update={"guard": night.recipe.guard.model_copy(update={"quantise": "4bit"})})
    ctx = standalone(night.store, night.folder, packed, "export", NOW)
    ctx.given = Mlx()
    assert linear_export.carries(ctx, model(night, "r00"), "safetensors") is False
