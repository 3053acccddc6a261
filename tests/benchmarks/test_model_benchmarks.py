"""The benchmarks of guards and their training, on few prompts and small models.

Not gone through are speed.py's wide model and, of torch_dpo.py, a process for each side, which tells of memory.
"""

import json
import random
import re
from pathlib import Path

import pytest

from tests.benchmarks.running import module, objects, printed
from tests.where import BENCHMARK_RECIPES, NEEDS_SHARED_DATA, ROOT
from wizloop.backends.tiny.build import Shape, build
from wizloop.recipes import schema
from wizloop.recipes.demo_text import demo_samples

# The peers may warn of what they like.
pytestmark = pytest.mark.filterwarnings("default")
TINY = ("vocab=600", "layers=1", "width=32", "mlp=32", "epochs=0")


def test_speed_runs_every_contender_on_the_same_tokens() -> None:
    words = ("--model", "tiny", "--prompts", "8", "--tokens", "2", "--repeats", "1")
    about, read, trained = objects(printed("speed.py", *words))
    assert (about["model"], about["prompts"]) == ("tiny", 8)
    assert about["instruction_tokens"] > 100
    found = read["classify"]
    batches = {f"batch_generate {rows}" for rows in (32, 64, 128, 256)}
    assert set(found["traces_per_s"]) == {"loop", "ours", "label alone", "matrix products"} | batches
    assert found["tokens_per_trace"] == {"ours": 2.0, "batch_generate": 2.0}
    assert found["batch_generate_best"] in batches
    assert set(found) > {"ours_vs_loop", "ours_vs_batch_generate", "label_vs_loop", "label_vs_floor"}
    assert set(trained["dpo"]["steps_per_s"]) == {"mlx-lm-lora", "ours"}
    assert "ours_vs_mlx_lm_lora" in trained["dpo"]


def test_learning_trains_on_each_number_of_labels() -> None:
    sizes = ("--labels", "20", "40", "--test", "40", "--members", "2", "--rounds")
    text = printed("learning.py", "demo", *sizes, "--set", "epochs=1", "--tiny", *TINY)
    base, changes, *lines = text.splitlines()
    assert base.startswith("1680 texts, base built in ")
    assert changes == "set: epochs=1"
    told = r"F1 [01]\.\d{3} best [01]\.\d{3} AUC [01]\.\d{3} AP [01]\.\d{3}"
    knows = r"knows: margin [01]\.\d{3}, their mean [01]\.\d{3}, spread [01]\.\d{3}"
    assert len(lines) == 4
    for count, ours, linear in zip(("20", "40"), lines[::2], lines[1::2], strict=True):
        assert re.fullmatch(rf"   {count} labels, seed 1: {told} \d+ s \| members {told} \| {knows}", ours)
        assert re.fullmatch(rf" {{13}}TF-IDF: {told}", linear)


@NEEDS_SHARED_DATA
@pytest.mark.parametrize(("name", "pool", "measured"), [("acceptance", 3000, 1030), ("toxicchat", 1497, 1997)])
def test_learning_reads_real_rows(name: str, pool: int, measured: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    to_choose, held = module("learning.py").rows_of(schema.load(BENCHMARK_RECIPES / f"{name}.toml"), random.Random(5))
    assert (len(to_choose), len(held)) == (pool, measured)
    assert {row.harmful for row in held} == {True, False}


@NEEDS_SHARED_DATA
def test_torch_speed_gives_the_labels_that_generate_gives() -> None:
    words = ("--prompts", "4", "--tokens", "3", "--layers", "1", "--processor-time")
    parts = objects(printed("torch_speed.py", *words))
    assert [next(iter(part)) for part in parts] == ["model", "tokens", "label", "traces", "triage", "night"]
    found = {name: told for part in parts for name, told in part.items()}
    assert (found["model"]["prompts"], found["model"]["clock"]) == (4, "process_time")
    assert (found["tokens"]["trace"], len(found["tokens"]["read_by_the_loop"])) == (3, 4)
    for name in ("label", "traces"):
        assert found[name]["same_labels"] == {"generate_1": 1.0, "generate_16": 1.0}
    assert found["triage"]["same_labels"] == 1.0
    assert 0 <= found["triage"]["as_if_all_traced"] <= 1
    assert all(set(found[name]) > {"ms_per_prompt", "generate_1", "generate_16"} for name in ("triage", "night"))


@pytest.mark.long
@NEEDS_SHARED_DATA
def test_torch_dpo_takes_as_many_steps_as_its_peer() -> None:
    small = ("--pairs", "4", "--batch", "2", "--layers", "1", "--longest", "2500")
    (found,) = objects(printed("torch_dpo.py", *small, "--repeats", "1", "--here"))
    assert found["pairs"] == 4
    assert found["ours"]["steps"] == found["trl"]["steps"] == 2
    assert found["ours"]["reference_s"] > found["trl"]["reference_s"] == 0
    assert set(found["ours"]) == {"reference_s", "steps", "step_s"}
    assert {"step_ratio", "step_ratio_with_the_reference_pass"} < set(found)
    assert "peak_ratio" not in found


@NEEDS_SHARED_DATA
def test_torch_dpo_wants_a_step_to_count(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        printed("torch_dpo.py", "--pairs", "8", "--here")
    assert "8 pairs at 8 a step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("library", "batches"), [("mlx", ["1", "2"]), pytest.param("torch", ["1"], marks=pytest.mark.long)]
)
def test_memory_is_measured_beside_the_dry_runs_estimate(tmp_path: Path, library: str, batches: list[str]) -> None:
    texts = [sample.prompt for sample in demo_samples(random.Random(1), pool=200, seed=0, dev=0, test=0)]
    build(tmp_path, texts, shape=Shape(600, 1, 32, 32), epochs=0, seed=1, progress=lambda *_: None)
    lengths = ("--shared", "4", "--prompt", "5", "--trace", "6", "--rank", "2", "--steps", "1")
    results = tmp_path / "results.jsonl"
    words = ("--base", str(tmp_path), "--library", library, "--batch", *batches, *lengths, "--results", str(results))
    said = printed("memory.py", *words)
    head, _, *lines = (line.strip("| ").split(" | ") for line in said.splitlines())
    assert head == ["library", "method", "batch", "measured GB", "estimated GB", "seconds a step"]
    assert [line[:3] for line in lines] == [[library, "lora", batch] for batch in batches]
    assert all(0 < float(value) < 10 for line in lines for value in line[3:5])
    assert all(float(line[5]) >= 0 for line in lines)
    found = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [(one["batch"], one["processor_s"] > 0) for one in found] == [(int(batch), True) for batch in batches]
    assert printed("memory.py", *words) == said


def test_speed_wants_a_step_of_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        printed("speed.py", "--prompts", "7")
    assert "8 or more" in capsys.readouterr().err
