"""What a dry run says of a training in several processes."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app

NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="torch trains with the extra cuda")


def told(folder: Path, guard: str, train: str) -> dict[str, Any]:
    recipe = folder / "mine.toml"
    recipe.write_text(f'name = "mine"\nsource = "demo"\n[guard]\n{guard}\n[train]\n{train}\n', encoding="utf-8")
    result = CliRunner().invoke(app, ["start", "--dry-run", "--json", str(recipe), "-w", str(folder / "runs")])
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def of_training(found: dict[str, Any]) -> list[tuple[bool, str]]:
    return [(check["ok"], check["found"]) for check in found["checks"] if check["name"] == "training"]


@NEEDS_TORCH
@pytest.mark.parametrize(
    ("train", "said"),
    [
        ('launch = "accelerate"\nprocesses = 3', "3 processes by accelerate, each with the whole base"),
        (
            'launch = "accelerate"\nprocesses = 2\nsharding = "fsdp"',
            "2 processes by accelerate, each with a share of the base (FSDP)",
        ),
    ],
)
def test_how_many_processes_train_and_what_each_holds(tmp_path: Path, train: str, said: str) -> None:
    assert of_training(told(tmp_path, 'backend = "cuda"\ndevice = "cpu"', train)) == [(True, said)]


@NEEDS_TORCH
def test_a_base_that_nobody_shares_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = told(tmp_path, 'backend = "cuda"\ndevice = "cpu"', 'launch = "accelerate"\nsharding = "fsdp"')
    assert [ok for ok, _ in of_training(found)] == [False]
    assert any('train.sharding is "fsdp", and one process would train' in each for each in found["missing"])


def test_several_processes_are_torchs(tmp_path: Path) -> None:
    found = told(tmp_path, 'backend = "mlx"', 'launch = "accelerate"\nprocesses = 2')
    assert not found["ok"]
    assert "needs torch" in of_training(found)[0][1]


def test_one_process_needs_no_word(tmp_path: Path) -> None:
    assert of_training(told(tmp_path, 'backend = "mlx"', 'launch = "one"')) == []
