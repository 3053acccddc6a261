"""What a dry run says of a training's memory and disk."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wizloop.backends.guard_types import LoraShape
from wizloop.backends.training_memory import Library, needed, recomputes, shape_of
from wizloop.loop.cli import app

SMOLLM2 = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
LORA = LoraShape(16, 2.0, 0.05, -1)


def gigabytes(batch: int, row: int = 390, **how: Any) -> float:
    options = {"gpu": False, "four_bits": False} | how
    return (needed(SMOLLM2, LORA, "mlx", row=row, batch=batch, **options) or 0.0) / 1e9


def test_the_weights_of_a_base_and_of_its_adapter_are_counted() -> None:
    shape = shape_of(SMOLLM2)
    assert shape is not None
    # The model has 134,515,008 with its norms; PEFT counts 4,884,480 of rank 16 on its linear layers.
    assert shape.parameters == pytest.approx(134_515_008, rel=0.001)
    assert shape.trained(LORA) == 4_884_480
    assert shape_of({**SMOLLM2, "num_local_experts": 8}) is None


def test_a_larger_batch_takes_more_passes_and_no_more_memory() -> None:
    # Measured with benchmarks/memory.py on MLX on two cores.
    measured = {2: 1.43, 4: 1.62, 8: 1.66}
    assert {batch: gigabytes(batch) for batch in measured} == pytest.approx(measured, rel=0.3)
    assert gigabytes(16) == gigabytes(4) < 3.0
    assert gigabytes(16, row=4000) > gigabytes(16)
    assert gigabytes(16, four_bits=True) < gigabytes(16)


def test_whole_blocks_take_their_weights_gradients_and_moments() -> None:
    full = LoraShape(16, 2.0, 0.05, -1, "full")
    shape = shape_of(SMOLLM2)
    assert shape is not None
    # The blocks have 106,203,456 without their norms.
    assert shape.trained(full) == pytest.approx(106_203_456, rel=0.001)
    # Measured with benchmarks/memory.py --method full on two cores.
    peaks: list[tuple[Library, int, float]] = [("mlx", 4, 4.52), ("mlx", 16, 5.32), ("torch", 4, 3.00)]
    for library, batch, measured in peaks:
        told = needed(SMOLLM2, full, library, gpu=False, four_bits=False, row=381, batch=batch)
        assert (told or 0.0) / 1e9 == pytest.approx(measured, rel=0.3)


def test_only_a_base_of_some_size_computes_its_blocks_again_on_a_cpu() -> None:
    tiny = {**SMOLLM2, "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    assert recomputes(SMOLLM2, "mlx", gpu=False)
    assert not recomputes(tiny, "mlx", gpu=False)
    assert recomputes(tiny, "mlx", gpu=True)


def plan(folder: Path, base: str, *options: str, method: str = "lora") -> Any:
    recipe = folder / "mine.toml"
    text = f'name = "mine"\nsource = "demo"\n[guard]\nbase = "{base}"\nbackend = "mlx"\ndevice = "cpu"\n'
    text += f'[train]\nmethod = "{method}"\n'
    recipe.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["start", "--dry-run", *options, str(recipe), "-w", str(folder / "runs")])


def test_the_dry_run_tells_memory_and_disk(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SMOLLM2), encoding="utf-8")
    found = json.loads(plan(tmp_path, str(base), "--json").stdout)["plan"]["training"]
    assert found["bytes"] / 1e9 == pytest.approx(1.6, rel=0.3)
    assert found["model_bytes"] == 4 * 4_884_480
    told = plan(tmp_path, str(base)).stdout
    assert "training (lora): about 1." in told
    assert "19.5 MB a trained model, 4 in a round, and 58.6 MB for its checkpoint" in told


@pytest.mark.parametrize(
    ("config", "ok", "says"),
    [
        ({}, True, "all weights of the blocks: 1,698.7 MB of models a round, and 1,274.0 MB for a checkpoint"),
        ({"quantization": {"bits": 4}}, False, "quantized or a mixture of experts"),
        ({"num_local_experts": 8}, False, "quantized or a mixture of experts"),
        ({"num_hidden_layers": 30_000_000}, False, "free some space"),
    ],
)
def test_the_dry_run_tells_whether_all_weights_can_be_trained(
    tmp_path: Path, config: dict[str, Any], ok: bool, says: str
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SMOLLM2 | config), encoding="utf-8")
    found = json.loads(plan(tmp_path, str(base), "--json", method="full").stdout)
    (check,) = (each for each in found["checks"] if each["name"] == "training")
    assert (check["ok"], says in check["found"]) == (ok, True)


def test_a_base_that_is_not_here_is_not_guessed(tmp_path: Path) -> None:
    found = json.loads(plan(tmp_path, "nobody/nothing", "--json").stdout)["plan"]["training"]
    assert (found["bytes"], found["rests_on"]) == (None, "unknown: the base is not on this disk yet")
