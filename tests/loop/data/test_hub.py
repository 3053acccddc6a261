"""`wizloop import --hub` on a folder laid out as a dataset of the hub: configs, splits, class names, no network."""

import json
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from wizloop.loop.commands.import_data import import_
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.guard import instructions
from wizloop.recipes.schema import Recipe
from wizloop.store import samples
from wizloop.store.db import Store

CARD = """---
configs:
- config_name: words
  data_files:
  - {split: train, path: words/train.parquet}
  - {split: test, path: words/test.parquet}
- config_name: numbers
  data_files:
  - {split: train, path: numbers/train.parquet}
dataset_info:
- config_name: numbers
  features:
  - {name: prompt, dtype: string}
  - name: label
    dtype:
      class_label:
        names:
          '0': safe
          '1': unsafe
---
A dataset card.
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dataset's folder, where the libraries can reach nothing but it."""
    # The libraries read the environment once, at their import, and a test before this one may have imported them.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "Toxic-Set"
    rows = {
        "words/train": {"prompt": ["a", "b", "b"], "label": ["safe", "unsafe", "unsafe"]},
        "words/test": {"prompt": ["c", "d\x1b[2J"], "label": ["safe", None]},
        "numbers/train": {"prompt": ["e", "f", "g"], "label": [1, 0, -1]},
    }
    for name, columns in rows.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    (folder / "README.md").write_text(CARD)
    return folder


def run(workspace: Path, *words: str) -> Result:
    return CliRunner().invoke(import_, ["-w", str(workspace), *words])


@pytest.mark.parametrize(
    ("config", "split", "counts", "labels"),
    [
        ("words", "train", (3, 2, 1, 0), {"harmful": 2, "unharmful": 1}),
        ("words", "test", (2, 1, 0, 1), {"unharmful": 1}),
        ("numbers", "train", (3, 2, 0, 1), {"harmful": 1, "unharmful": 1}),
    ],
)
def test_each_config_and_split_comes_in_with_its_labels(
    hub: Path, config: str, split: str, counts: tuple[int, ...], labels: dict[str, int]
) -> None:
    workspace = hub.parent / "runs"
    said = run(workspace, "--hub", f"{hub}:{config}", "--hub-split", split, "--split", "seed", "--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["rows"], found["accepted"], found["duplicates"], len(found["refused"])) == counts
    assert all(one["reason"] == "no request label" for one in found["refused"])
    assert found["labels"] == {"request": labels}
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        assert samples.page(db, "seed", 0, 9)[0].row_ref == "Toxic-Set:1"
    again = run(workspace, "--hub", f"{hub}:{config}", "--hub-split", split, "--split", "seed")
    assert "nothing new: every text was already imported" in again.stderr


@pytest.mark.parametrize(
    ("asked", "split", "told"),
    [
        ("{}:nope", "train", "BuilderConfig 'nope' not found"),
        ("{}:words", "nope", "Bad split: nope. Available splits: ['train', 'test']"),
        ("nobody/nothing:x", "train", "Couldn't reach 'nobody/nothing' on the Hub ("),
    ],
)
def test_what_cannot_be_had_is_one_sentence_and_leaves_no_workspace(
    hub: Path, capfd: pytest.CaptureFixture[str], asked: str, split: str, told: str
) -> None:
    said = run(hub.parent / "runs", "--hub", asked.format(hub), "--hub-split", split)
    assert (said.exit_code, said.stdout) == (2, "")
    asking, sentence = said.stderr.splitlines()
    assert asking.startswith("loading ")
    assert told in sentence
    assert sentence.endswith("; check name, config (NAME:CONFIG), split and network")
    assert not (hub.parent / "runs").exists()
    # What a library writes past Python's streams is caught here.
    assert capfd.readouterr() == ("", "")


def test_an_instruction_may_stand_in_a_column_of_a_dataset(hub: Path) -> None:
    data = [{"path": f"{hub}:words", "hub_split": "train", "split": split} for split in ("pool", "seed", "dev")]
    asked = {"name": "mine", "source": "files", "data": data, "guard": {"instruction": "column:prompt"}}
    with pytest.raises(ImportRefused, match=r"row 2: its 'prompt' differs from .*row 1, but a run has one instruction"):
        instructions.read(Recipe.model_validate_json(json.dumps(asked)))
