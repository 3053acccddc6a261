"""The benchmarks of nights, on the shortest night that goes through their code.

overhead.py runs it, parts.py goes on with it, and acceptance.py and features.py read it. What is not gone through are
the nights that acceptance.py would begin: it begins them as parts.py goes on with one, and their recipes are checked.
"""

import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.benchmarks.running import module, objects, printed
from tests.shortest import SHORTEST
from wizloop.recipes import schema

SHORT = (
    """
rounds = 1
[data_demo]
pool = 60
seed = 24
dev = 24
test = 24
[guard]
max_trace_tokens = 16
[guard.tiny]
vocab = 600
layers = 1
width = 32
mlp = 32
epochs = 0
[select]
budget = 12
[export]
every_round = false
formats = ["adapter"]
parity_n = 0
"""
    + SHORTEST
)


@dataclass(frozen=True)
class Kept:
    """The night that overhead.py ran."""

    folder: Path
    printed: str


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("nights")
    recipe, table = folder / "short.toml", module("nights.py").changed("demo", tomllib.loads(SHORT))
    recipe.write_text(tomli_w.dumps(table), encoding="utf-8")
    return Kept(folder, printed("overhead.py", str(recipe), "--times", "1", "--keep", str(folder)))


def copied(kept: Kept, folder: Path, *names: str) -> list[str]:
    """So many workspaces of the same night, and the words that name them."""
    for name in names:
        shutil.copytree(kept.folder / "runs", folder / name)
    return ["--keep", str(folder)]


def table(text: str) -> list[list[str]]:
    """The cells of the Markdown rows, without the line under the head."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if not row[0].startswith("---")]


def test_overhead_counts_what_the_worker_asks_of_the_store(kept: Kept) -> None:
    (found,) = objects(kept.printed)
    times = {"wall_s", "supervisor_cpu_s", "store_s", "overhead_percent", "help_s", "status_s"}
    assert set(found) == times | {"transactions", "peak_mb"}
    assert min(found.values()) > 0
    # What a worker wrote down of itself: one that the hook is not in counts nothing.
    assert found["transactions"] >= 100


def test_parts_goes_on_with_a_night_and_tells_its_rounds(kept: Kept, tmp_path: Path) -> None:
    changes = tmp_path / "short.toml"
    changes.write_text(SHORT, encoding="utf-8")
    words = copied(kept, tmp_path, "7-as-shipped")
    head, row = table(printed("parts.py", "--part", "as shipped", "--changes", str(changes), *words))
    assert head == ["seed", "the demo", "round 0", "round 1"]
    assert row[:2] == ["7", "as shipped"]
    assert len(row) == len(head)
    assert all(re.fullmatch(r"(\d+\.\d|-) \((\d+\.\d|-)\)(, held)?", cell) for cell in row[2:])


def test_parts_reads_a_night_of_each_kind_again(kept: Kept, tmp_path: Path) -> None:
    names = ("as shipped", "every sample chosen at random", "without HS-DPO", "training goes on from the champion")
    words = copied(kept, tmp_path, *(f"7-{name.replace(' ', '-')}" for name in names))
    rows = table(printed("parts.py", *words, "--read"))[1:]
    assert [row[1] for row in rows] == list(names)
    assert len({tuple(row[2:]) for row in rows}) == 1


def test_parts_compares_seed_by_seed(kept: Kept, tmp_path: Path) -> None:
    parts = ("as-shipped", "without-HS-DPO")
    words = copied(kept, tmp_path, *(f"{seed}-{part}" for seed in (7, 8) for part in parts))
    asked = [word for part in ("as shipped", "without HS-DPO") for word in ("--part", part)]
    text = printed("parts.py", *asked, "--seeds", "7", "8", "--read", *words)
    told = [line.strip() for line in text.splitlines() if line.startswith("    as shipped minus it, last round")]
    # The same nights: no task is better, and one without a figure has none.
    assert len(told) == 2
    for line in told:
        assert re.search(r": (\+0\.0 \(\+0\.0 to \+0\.0\)|\+?nan \(\+?nan to \+?nan\)), better in 0 of 2$", line)
    assert "better in 0 of 2" in told[0]


def test_a_night_that_ends_badly_says_why(kept: Kept, tmp_path: Path) -> None:
    words = copied(kept, tmp_path, "7-as-shipped")
    with pytest.raises(SystemExit, match=r"7-as-shipped ended with 2:(?s:.)*recipe"):
        printed("parts.py", "--part", "as shipped", *words)


def test_acceptance_tells_both_nights_round_by_round(kept: Kept, tmp_path: Path) -> None:
    text = printed("acceptance.py", "acceptance", *copied(kept, tmp_path, "chosen", "random"), "--read")
    one, other = text.split("### Selection: random (read again)")
    assert "### Selection: chosen (read again)" in one
    head, *rows = table(one)
    assert rows == table(other)[1:]
    assert head == ["round", "labels", "guard", "dev", "demo", "all test", "AUROC test", "ECE test", "gate"]
    guards = ["wizloop", "TF-IDF + LR", "wizloop", "TF-IDF + LR", "always harmful"]
    assert [(row[0], row[2]) for row in rows] == list(zip(["0", "", "1", "", ""], guards, strict=True))
    # The demo's test set has one source, so that it is all of test.
    assert all(row[4] == row[5] for row in rows)
    assert int(rows[2][1]) > int(rows[0][1]) > 0
    stories = [line for line in other.splitlines() if line.startswith("- Round")]
    assert stories[0].startswith("- Round 0: chosen 24 seed. Dev cells: ")
    chosen = re.findall(r"(\d+) [a-z ]+[,.]", stories[1].partition(" Dev cells")[0])
    assert sum(map(int, chosen)) == 12
    cells = re.findall(r"(\d+) \((\d+) right\)", stories[1])
    assert sum(int(n) for n, _ in cells) == 24
    assert all(int(right) <= int(n) for n, right in cells)


def test_toxicchat_compares_selections_over_the_seeds(kept: Kept, tmp_path: Path) -> None:
    words = copied(kept, tmp_path, "chosen-3", "random-3", "chosen-4", "random-4")
    words.append("--read")
    text = printed("acceptance.py", "toxicchat", "--seeds", "3", "4", *words)
    head, *rows = table(text)
    assert [row[:2] for row in rows] == [["3", "chosen"], ["3", "random"], ["4", "chosen"], ["4", "random"]]
    assert len({tuple(row[2:]) for row in rows}) == 1
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row[2:])
    # The same night four times: every difference is nothing.
    gains = [line for line in text.splitlines() if "chosen minus random" in line]
    same = "chosen minus random +0.000 (95 % interval +0.000 to +0.000)"
    assert gains == [f"{name}: {same}" for name in head[2:]]
    assert "one seed: no interval" in printed("acceptance.py", "toxicchat", "--seeds", "3", *words)


def test_features_tells_what_a_linear_model_knows(kept: Kept) -> None:
    text = printed("features.py", str(kept.folder / "runs"))
    labels, prompts = map(int, re.findall(r"(\d+) labels, (\d+) test prompts", text)[0])
    assert 0 < labels <= 36
    assert prompts == 24
    head, *rows = table(text)
    assert {len(row) for row in rows} == {len(head)}
    assert len(head) > 1
    assert [row[0] for row in rows[:2]] == [
        "words of the whole prompt",
        "tokens of a vocabulary of 4,096, the first 64",
    ]
    assert len(rows) == 7
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row[1:])


def test_the_recipes_that_the_nights_are_run_on_are_whole(tmp_path: Path) -> None:
    nights, acceptance, parts = module("nights.py"), module("acceptance.py"), module("parts.py")
    wanted: list[tuple[Any, ...]] = [("demo", part) for part in parts.PARTS.values()]
    for shares in acceptance.SELECTIONS.values():
        wanted += [("acceptance", shares), ("toxicchat", acceptance.SHORT, shares)]
    for number, (name, *changes) in enumerate(wanted):
        path = tmp_path / f"{number}.toml"
        path.write_text(tomli_w.dumps(nights.changed(name, *changes)), encoding="utf-8")
        assert schema.load(path).name == name
    last = schema.load(tmp_path / "7.toml")
    assert (last.rounds, last.select.budget, last.select.shares.random) == (4, 60, 1.0)


def test_reading_again_wants_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        printed("parts.py", "--read")
    assert "--keep DIR" in capsys.readouterr().err
