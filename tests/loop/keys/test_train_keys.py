"""Each key of [train], changed alone: another lesson, another job, or another guard.

The guard is the real tiny one on MLX, for a step or a few, where only the training's own code reads the key.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import stored
from tests.backends.lessons import digest, pairs
from tests.backends.lessons import examples as lessons
from tests.loop.branching import Branch, model, run
from tests.loop.keys.training import School
from tests.loop.small_night import NOW, Night, recipe
from wizloop.backends import training_rows
from wizloop.backends.guard_types import SftExample
from wizloop.backends.tokens import Tokens
from wizloop.loop.context import Context
from wizloop.loop.guard.backend import Torch
from wizloop.loop.phases import model_training
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import DEFAULT
from wizloop.store import events, samples
from wizloop.store.db import Store

WHOLE = 2.0**20
"""A weight beside which nothing else counts."""


@pytest.fixture(scope="module")
def examples(tokens: Tokens) -> list[SftExample]:
    """Twenty-four lessons: one step of the shared recipe."""
    return lessons(tokens)


@pytest.fixture(scope="module")
def dense(school: School, dense_base: Path) -> School:
    """A school whose base has no output without weights."""
    return replace(school, base=dense_base)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night whose first challenger is champion, up to the review of the next round."""
    night = Night(tmp_path_factory.mktemp("reviewed") / "a", recipe())
    run(night, 0, "import", "gate")
    run(night, 1, "classify", "review")
    return night


@pytest.mark.recipe_key("train.rank")
@pytest.mark.parametrize("rank", [4, 16])
def test_adapters_have_the_rank(school: School, examples: list[SftExample], rank: int) -> None:
    weights = school.sft(examples, rank=rank).weights
    ranks = {each.shape[1] if name.endswith("lora_a") else each.shape[0] for name, each in weights.items()}
    assert ranks == {rank}


@pytest.mark.recipe_key("train.scale")
@pytest.mark.parametrize("scale", [2.0, 5.0])
def test_the_adapters_output_is_multiplied_by_the_scale(
    school: School, examples: list[SftExample], scale: float
) -> None:
    from wizloop.backends.mlx import load as mlx_load

    taught = school.sft(examples, scale=scale)
    name = "model.layers.1.mlp.up_proj"
    before, after = (
        np.array(mlx_load.load(str(school.base), adapter, quantise=False, fuse=True).model.layers[1].mlp.up_proj.weight)
        for adapter in (None, taught.folder)
    )
    product = taught.weights[f"{name}.lora_a"] @ taught.weights[f"{name}.lora_b"]
    assert np.abs(product).max() > 1e-5
    np.testing.assert_allclose(after - before, scale * product.T, atol=1e-7)


@pytest.mark.recipe_key("train.scale")
def test_a_step_at_twice_the_scale_does_twice_as_much(school: School, examples: list[SftExample]) -> None:
    gains = []
    for scale in (2.0, 4.0):
        first, second = school.sft(examples, scale=scale, lr=1e-4, epochs=2).losses
        gains.append(first - second)
    assert gains[1] == pytest.approx(2 * gains[0], rel=0.1)


@pytest.mark.recipe_key("train.dropout")
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_so_much_of_the_adapters_inputs_is_dropped(school: School, share: float) -> None:
    import mlx.core as mx

    from wizloop.backends.mlx import adapter as mlx_adapter
    from wizloop.backends.mlx import load as mlx_load

    loaded = mlx_load.load(str(school.base), None, quantise=False, fuse=False)
    mlx_adapter.add_new_adapter(loaded.model, model_training.lora(school.context({"dropout": share}, {})))
    loaded.model.train()
    mx.random.seed(3)
    dropped = loaded.model.layers[0].mlp.up_proj.dropout(mx.ones((200, 200)))
    assert float((dropped == 0).mean()) == pytest.approx(share, abs=0.02)


@pytest.mark.recipe_key("train.dropout")
def test_dropout_changes_what_is_learned_once_an_adapter_says_something(
    school: School, examples: list[SftExample]
) -> None:
    without, with_it = (school.sft(examples, dropout=share, epochs=3).losses for share in (0.0, 0.6))
    assert with_it[0] == without[0]
    assert with_it[-1] > without[-1]


@pytest.mark.recipe_key("train.word_dropout")
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_so_much_of_a_sample_is_blanked_out_at_each_step(
    school: School, tokens: Tokens, examples: list[SftExample], share: float
) -> None:
    settings = model_training.sft_settings(school.context({"word_dropout": share}, {}), "r00-sft", len(examples))
    rows, _ = training_rows.sft_rows(examples, tokens, settings.max_tokens, 1.0)
    blanked = []
    for step in range(8):
        inputs = training_rows.sft_batch(rows, settings, step, blank=tokens.end)[0]
        blanked.append([list(inputs[at, : row.prompt_length - 1] == tokens.end) for at, row in enumerate(rows)])
        for at, row in enumerate(rows):
            assert list(inputs[at, row.prompt_length - 1 : len(row.ids)]) == row.ids[row.prompt_length - 1 :]
    every = [one for step in blanked for row in step for one in row]
    assert sum(every) / len(every) == pytest.approx(share, abs=0.03)
    assert (blanked[0] != blanked[1]) is (share > 0)


@pytest.mark.recipe_key("train.word_dropout")
def test_word_dropout_makes_a_lesson_harder(school: School, examples: list[SftExample]) -> None:
    (without,), (with_it,) = (school.sft(examples, word_dropout=share).losses for share in (0.0, 0.6))
    assert with_it != without


@pytest.mark.recipe_key("train.layers")
@pytest.mark.parametrize(("layers", "blocks"), [(-1, {"0", "1"}), (1, {"1"}), (2, {"0", "1"})])
def test_the_last_blocks_have_adapters(
    school: School, examples: list[SftExample], layers: int, blocks: set[str]
) -> None:
    weights = school.sft(examples, layers=layers).weights
    assert {name.split(".")[2] for name in weights} == blocks


@pytest.mark.recipe_key("train.epochs")
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_traces_are_passed_over_so_often(school: School, examples: list[SftExample], epochs: int) -> None:
    assert school.sft(examples, epochs=epochs, batch=10).result.steps == 3 * epochs


@pytest.mark.recipe_key("train.least_steps")
@pytest.mark.parametrize(("least", "steps"), [(0, 6), (6, 6), (7, 9), (10, 12)])
def test_more_passes_are_made_until_there_are_steps_enough(
    school: School, examples: list[SftExample], least: int, steps: int
) -> None:
    assert school.sft(examples, least_steps=least, epochs=2, batch=10).result.steps == steps


@pytest.mark.recipe_key("train.batch")
@pytest.mark.parametrize(("batch", "steps"), [(24, 1), (23, 2), (6, 4)])
def test_so_many_traces_are_in_one_step(school: School, examples: list[SftExample], batch: int, steps: int) -> None:
    taught = school.sft(examples, batch=batch)
    assert len(taught.losses) == taught.result.steps == steps


@pytest.mark.recipe_key("train.lr")
def test_the_first_step_is_as_large_as_the_rate(school: School, examples: list[SftExample]) -> None:
    slow, fast = (school.sft(examples, lr=lr).weights for lr in (1e-4, 5e-4))
    name = "model.layers.1.mlp.up_proj.lora_b"
    assert np.abs(slow[name]).max() > 1e-4
    np.testing.assert_allclose(fast[name], 5 * slow[name], rtol=1e-3, atol=1e-7)


@pytest.mark.recipe_key("train.warmup")
def test_the_rate_rises_over_the_share_of_the_steps(school: School, tokens: Tokens, examples: list[SftExample]) -> None:
    name = "model.layers.1.mlp.up_proj.lora_b"
    full, quarter = (school.sft(examples, batch=6, warmup=share) for share in (0.0, 1.0))
    assert [len(one.losses) for one in (full, quarter)] == [4, 4]
    # The first of four steps has a quarter of the rate, so what the second sees has hardly moved.
    begun = full.losses[0]
    assert quarter.losses[0] == begun
    assert abs(quarter.losses[1] - begun) < 0.5 * abs(full.losses[1] - begun)
    start = school.sft(examples).folder
    ended = [school.dpo(start, pairs(tokens), train={"warmup": share}, batch=6).weights[name] for share in (0.0, 1.0)]
    assert np.abs(ended[0] - ended[1]).max() > 1e-6


@pytest.mark.recipe_key("train.method")
def test_dora_trains_magnitudes_beside_the_adapters(dense: School, examples: list[SftExample]) -> None:
    lora, dora = (dense.sft(examples, method=method).weights for method in ("lora", "dora"))
    assert {name for name in dora if name not in lora} == {
        name.removesuffix("lora_a") + "m" for name in lora if name.endswith("lora_a")
    }
    config = json.loads((dense.sft(examples, method="dora").folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["fine_tune_type"] == "dora"


@pytest.mark.recipe_key("train.method")
@pytest.mark.parametrize("layers", [-1, 1])
def test_full_trains_every_weight_of_the_blocks_and_none_besides(
    school: School, examples: list[SftExample], layers: int
) -> None:
    from safetensors.numpy import load_file

    full = school.sft(examples, method="full", layers=layers)
    base = load_file(school.base / "model.safetensors")
    blocks = {name for name in base if name.startswith("model.layers.1." if layers == 1 else "model.layers.")}
    assert set(full.weights) == blocks
    assert [name for name in blocks if np.array_equal(full.weights[name], base[name])] == []
    again = school.sft(examples, method="full", layers=layers, rank=8, scale=9.0, dropout=0.5)
    assert digest(again.folder) == digest(full.folder)


@pytest.mark.recipe_key("train.direct_weight")
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_examples_that_answer_at_once_have_their_weight_and_none_without_it(
    reviewed: Night, tmp_path: Path, weight: float
) -> None:
    night = Branch(reviewed, tmp_path / "a", recipe(train={"direct_weight": weight}, members={"count": 0}))
    night.phase(1, "train")
    given = night.backend.jobs[0].lessons
    at_once = [one.weight for one in given if bytes(one.prompt.body).endswith(b"Request:")]
    by_trace = [one.weight for one in given if bytes(one.prompt.body).endswith(b"Reasoning:\n")]
    assert by_trace == [1.0] * 46
    assert at_once == ([weight] * 46 if weight else [])


def weighted(lighter: float, heavier: float, n: tuple[int, int], weight: float) -> float:
    """Return the mean token loss of two kinds of tokens, of which the second has a weight."""
    return (n[0] * lighter + weight * n[1] * heavier) / (n[0] + weight * n[1])


@pytest.mark.recipe_key("train.direct_weight")
def test_a_weight_counts_in_the_loss_against_the_others(
    school: School, tokens: Tokens, examples: list[SftExample]
) -> None:
    light, heavy = examples[::2], examples[1::2]

    def loss(weight: float) -> float:
        (first,) = school.sft([*light, *(replace(one, weight=weight) for one in heavy)]).losses
        return first

    (others,) = school.sft(light).losses
    of_each = [training_rows.sft_rows(half, tokens, 1000, 1.0)[0] for half in (light, heavy)]
    few, many = (sum(len(row.weights) for row in rows) for rows in of_each)
    assert abs(loss(WHOLE) - others) > 0.01
    for weight in (1.0, 2.5):
        assert loss(weight) == pytest.approx(weighted(others, loss(WHOLE), (few, many), weight), rel=1e-5)


@pytest.mark.recipe_key("train.verdict_weight")
def test_a_verdicts_tokens_count_so_much_in_the_loss(
    school: School, tokens: Tokens, examples: list[SftExample]
) -> None:
    losses = {weight: school.sft(examples, verdict_weight=weight).losses[0] for weight in (1 / WHOLE, 1.0, 8.0, WHOLE)}
    rows, _ = training_rows.sft_rows(examples, tokens, 1000, 8.0)
    every = [weight for row in rows for weight in row.weights]
    n = (every.count(1.0), every.count(8.0))
    assert sum(n) == len(every)
    assert losses[WHOLE] != pytest.approx(losses[1 / WHOLE], rel=0.1)
    for weight in (1.0, 8.0):
        expected = weighted(losses[1 / WHOLE], losses[WHOLE], n, weight)
        assert losses[weight] == pytest.approx(expected, rel=1e-4)


@pytest.mark.recipe_key("train.prompt_weight")
def test_the_prompts_tokens_add_so_much_to_the_loss(school: School, examples: list[SftExample]) -> None:
    without, once, thrice = (school.sft(examples, prompt_weight=weight).losses[0] for weight in (0.0, 0.1, 0.3))
    # A token of the prompt is a few nats.
    assert 0.05 < once - without < 1.0
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)


@pytest.mark.recipe_key("train.start")
@pytest.mark.parametrize("start", ["base", "champion"])
def test_a_round_begins_on_the_base_or_goes_on_from_what_is_there(reviewed: Night, tmp_path: Path, start: str) -> None:
    night = Branch(reviewed, tmp_path / "a", recipe(train={"start": start}))
    night.phase(1, "train")
    before = {"r01-sft": "r00", "r01-m1": "r00-m1", "r01-m2": "r00-m2"}
    begun = {one.name: one for one in night.backend.jobs if one.kind == "sft"}
    assert set(begun) == set(before)
    for name, earlier in before.items():
        old, goes_on = model(night, earlier), start == "champion"
        assert begun[name].job.start == (night.folder / old.path if goes_on else None)
        assert model(night, name).parent_id == (old.id if goes_on else None)
    # It reads the lessons of all rounds either way.
    assert len({one.id for one in begun["r01-sft"].lessons}) == 46


@pytest.mark.recipe_key("train.held_out")
@pytest.mark.parametrize(("n", "given"), [(0, 0), (5, 5), (1000, 40)])
def test_so_many_dev_samples_are_held_out_the_same_in_every_round(
    reviewed: Night, tmp_path: Path, n: int, given: int
) -> None:
    night = Branch(reviewed, tmp_path / "a", recipe(train={"held_out": n}, members={"count": 0}))
    night.phase(1, "train")
    (one,) = [each for each in night.backend.jobs if each.kind == "sft"]
    assert len({each.id for each in one.job.held_out}) == len(one.job.held_out) == given
    with night.store.read() as db:
        dev = {each.id: each for each in samples.page(db, "dev", 0, 1000)}
        logged = stored.losses(db, model(night, "r01-sft").id, model_training.HELD_OUT)
        said = [each.message for each in events.page(db, 0, 1000) if "held-out" in each.message]
    for each in one.job.held_out:
        assert dev[each.id].prompt in bytes(each.prompt.body).decode()
        assert each.completion.startswith(f" {labels_of(dev[each.id], DEFAULT)['request']}")
    assert [each.loss for each in logged] == ([0.5] if n else [])
    assert any("r01-sft: loss on held-out dev samples 0.500 after step 12" in each for each in said) is (n > 0)


@pytest.mark.recipe_key("train.checkpoint_every")
@pytest.mark.parametrize(("every", "again"), [(2, 5), (3, 4), (50, 1)])
def test_a_crash_costs_so_many_steps_and_changes_nothing(
    school: School, tokens: Tokens, examples: list[SftExample], tmp_path: Path, every: int, again: int
) -> None:
    checkpoint, kept = school.store.folder / "checkpoint", tmp_path / "kept"

    def crash(step: int, *_: object) -> None:
        # What a power cut in the fifth step would leave.
        if step == 5 and checkpoint.exists():
            shutil.copytree(checkpoint, kept)

    usual = school.sft(examples, batch=8, epochs=2)
    whole = school.sft(examples, crash, batch=8, epochs=2, checkpoint_every=every)
    if kept.exists():
        kept.rename(checkpoint)
    seen: list[int] = []
    resumed = school.sft(examples, lambda step, *_: seen.append(step), batch=8, epochs=2, checkpoint_every=every)
    assert seen == list(range(again, 7))
    assert {digest(one.folder) for one in (whole, resumed)} == {digest(usual.folder)}


@pytest.mark.recipe_key("train.checkpoint_every")
def test_hs_dpo_keeps_checkpoints_as_often_and_ends_the_same(
    school: School, tokens: Tokens, examples: list[SftExample]
) -> None:
    start = school.sft(examples).folder
    left: list[list[str]] = []

    def look(step: int, *_: object) -> None:
        checkpoint = school.store.folder / "checkpoint"
        left.append([each.name for each in checkpoint.glob("step-*")])

    ended = [school.dpo(start, pairs(tokens), look, train={"checkpoint_every": every}, batch=8) for every in (1, 2, 50)]
    assert [bool(names) for names in left] == [False, True, True, False, False, True, False, False, False]
    assert len({digest(one.folder) for one in ended}) == 1


def backend(folder: Path, **train: Any) -> object:
    """Return what trains by a recipe for torch on the CPU."""
    asked = recipe(guard={"backend": "cuda", "device": "cpu"}, train=train)
    with Store.create(folder) as store:
        return Context(store, folder, asked, 0, "train", lambda: NOW, lambda: False).backend


# That they share the pairs of a step, and end with the model of one process: tests/backends/torch/test_launch.py.
@pytest.mark.recipe_key("train.launch")
def test_one_process_trains_or_several(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="training on torch needs the extra cuda")
    assert backend(tmp_path, launch="one", processes=2) == Torch("cpu", 1, False)
    assert backend(tmp_path, launch="accelerate", processes=2) == Torch("cpu", 2, False)


@pytest.mark.recipe_key("train.processes")
def test_so_many_processes_train(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="training on torch needs the extra cuda")
    made = [backend(tmp_path, launch="accelerate", processes=processes) for processes in (0, 1, 3)]
    assert made == [Torch("cpu", 0), Torch("cpu", 1), Torch("cpu", 3)]
    assert [one.count() for one in made[1:] if isinstance(one, Torch)] == [1, 3]


@pytest.mark.recipe_key("train.sharding")
def test_each_process_holds_the_whole_base_or_a_share(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="training on torch needs the extra cuda")
    made = [backend(tmp_path, launch="accelerate", processes=2, sharding=how) for how in ("none", "fsdp")]
    assert made == [Torch("cpu", 2, False), Torch("cpu", 2, True)]
