"""What a dry run says of reading the base's hidden states: their size, and the time as measured here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from wizloop.loop.cli import app
from wizloop.store.vector_file import VectorFile

SIZES = "[data_demo]\npool = 500\nseed = 40\ndev = 60\ntest = 100"


def told(folder: Path, rest: str, *options: str) -> str:
    recipe = folder / "mine.toml"
    recipe.write_text(f'name = "mine"\nsource = "demo"\n{SIZES}\n{rest}\n', encoding="utf-8")
    return CliRunner().invoke(app, ["start", "--dry-run", *options, str(recipe), "-w", str(folder / "runs")]).stdout


def planned(folder: Path, rest: str) -> Any:
    return json.loads(told(folder, rest, "--json"))["plan"]["vectors"]


def test_size_and_measured_time_are_told_where_vectors_are_read(tmp_path: Path) -> None:
    alone = "[members]\ncount = 0"
    assert planned(tmp_path, alone) == {"rows": 700, "bytes": 700 * (2 * 128 * 2 + 4), "seconds": None}
    assert "hidden states of at most 700 texts, each read once: 0.4 MB on the disk, time measured" in told(
        tmp_path, alone
    )
    file = VectorFile.create(tmp_path / "runs" / "vectors" / "0123.vectors", 256)
    file.write(range(1, 101), ["aa"] * 100, np.ones((100, 256), np.float16), seconds=20.0)
    assert planned(tmp_path, alone)["seconds"] == 120.0
    assert "about 2 min to go, as fast as so far" in told(tmp_path, alone)


def test_a_base_that_is_not_here_has_an_unknown_size(tmp_path: Path) -> None:
    found = planned(tmp_path, '[members]\ncount = 0\n[guard]\nbase = "nobody/nothing-at-all"')
    assert (found["rows"], found["bytes"]) == (700, None)


def test_nothing_is_said_where_members_disagree(tmp_path: Path) -> None:
    assert planned(tmp_path, "[members]\ncount = 2") is None
    assert "hidden states" not in told(tmp_path, "[members]\ncount = 2")
