"""An export is asked in the library that did not write it, and the card says which were run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backends.conftest import tiny_base as tiny_base
from tests.loop.branching import model
from tests.loop.phases.test_model_card import FACTS
from tests.loop.small_night import NOW, Night, recipe
from tests.loop.stand_in import StandIn
from wizloop.backends.mlx import export as mlx_export
from wizloop.loop.context import standalone
from wizloop.loop.guard.backend import Backend, Mlx, Torch, other_library
from wizloop.loop.phases import model_card
from wizloop.loop.phases.export import compare

Compare = Callable[[Backend, Path], dict[str, Any]]


@pytest.fixture(scope="module")
def compared(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """Compare a safetensors export of the base with the base, as a backend's own export."""
    night = Night(
        tmp_path_factory.mktemp("night") / "a", recipe(guard={"base": str(tiny_base)}, export={"parity_n": 4})
    )
    for phase in ("import", "prepare"):
        night.phase(0, phase)

    def compared(backend: Backend, folder: Path) -> dict[str, Any]:
        context = standalone(night.store, night.folder, night.recipe, "export", NOW)
        context.given = backend
        return compare(context, model(night, "base"), "safetensors", folder)

    return compared


@pytest.mark.parametrize("backend", [Mlx(), Torch("cpu")], ids=["mlx", "torch"])
def test_an_export_is_asked_in_both_libraries(
    compared: Compare, tiny_base: Path, tmp_path: Path, backend: Backend
) -> None:
    mlx_export.export_safetensors(str(tiny_base), None, tmp_path)
    parity = compared(backend, tmp_path)
    assert (parity["run"], parity["not_run"]) == (["mlx-lm", "transformers"], {})
    assert parity["agree"] == parity["n"] > 0
    assert parity["max_difference"] < 1e-3
    # transformers takes the theta inside: what our reading mends is what we say of plain mlx-lm's.
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 30.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert compared(backend, tmp_path)["max_difference"] > 0.01


def test_torch_writes_a_format_of_mlx_from_what_it_has_merged(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    Torch("cpu").export("mlx-4bit", str(tiny_base), None, tmp_path / "small")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["quantization"]["bits"] == 4
    Mlx().load(str(tmp_path / "small"), None, quantise=False)
    assert [each.name for each in tmp_path.iterdir()] == ["small"]


def test_an_export_that_only_one_library_can_run_says_so(compared: Compare, tiny_base: Path, tmp_path: Path) -> None:
    mlx_export.export_safetensors(str(tiny_base), None, tmp_path)
    # transformers reads it by this type's names, which are not there.
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "nonesuch"}))
    parity = compared(Mlx(), tmp_path)
    assert parity["run"] == ["mlx-lm"]
    assert "cannot be loaded as a model" in parity["not_run"]["transformers"]


def test_a_backend_of_no_library_has_no_other(tmp_path: Path) -> None:
    assert other_library(StandIn(), tmp_path) == (None, "")


def test_the_card_says_which_libraries_were_run() -> None:
    parity = {"n": 16, "agree": 16, "max_difference": 0.0}
    both = model_card._parity({**parity, "run": ["mlx-lm", "transformers"], "not_run": {}}, loads=True)
    assert both.endswith("by at most 0.0000. Run in mlx-lm and transformers.")
    one = model_card._parity(
        {**parity, "run": ["mlx-lm"], "not_run": {"transformers": "torch not installed"}}, loads=True
    )
    assert one.endswith("Run in mlx-lm. **Not run in transformers**: `torch not installed`.")
    assert "Run in" not in model_card.render(FACTS)
