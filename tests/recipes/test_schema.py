"""Recipes: the shipped ones load, faults are named, and equal recipes have equal hashes."""

import json
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.where import BENCHMARK_RECIPES, NEEDS_SHARED_DATA, ROOT
from wizloop.recipes.schema import Recipe, RecipeError, canonical_json, load, recipe_hash, stored
from wizloop.recipes.sections import Data, Section
from wizloop.recipes.shipped import shipped

DEMO = 'name = "x"\nsource = "demo"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_turns_by_default_leave_the_hash_of_an_old_recipe() -> None:
    text = Data(path="a.jsonl", split="pool").model_dump_json()
    assert "turns" not in text
    assert Data.model_validate_json(text).turns == "first"
    other = Data(path="a.jsonl", split="pool", turns="each").model_dump_json()
    assert Data.model_validate_json(other).turns == "each"


def test_the_shipped_recipes_are_these_and_load() -> None:
    names = [
        "cuda-overnight-8b",
        "demo",
        "guardreasoner-1b",
        "guardreasoner-3b",
        "guardreasoner-8b",
        "imported",
        "mac-overnight-3b",
        "qwen3-0.6b-deepconf",
        "smollm2-135m",
    ]
    assert list(shipped()) == names
    assert [load(name).name for name in shipped()] == names


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_chooses_by_a_committee_or_runs_deepconf_and_members(name: str) -> None:
    asked = load(name)
    assert asked.select.shares.uncertain_compliance > 0
    assert asked.select.shares.disagreement > 0
    assert asked.select.shares.random > 0
    deepconf = asked.classify.verdict == "traces" and asked.classify.share == 1 and asked.members.count == 2
    assert deepconf == (name == "qwen3-0.6b-deepconf")
    assert deepconf or not (asked.members.count or asked.members.others)


def test_the_demo_needs_no_file_and_no_hub() -> None:
    demo = load("demo")
    assert (demo.source, demo.data, demo.guard.base, demo.teacher.names) == ("demo", (), "tiny", ("policy",))
    assert demo.teacher.recorded is None


def test_acceptance_hides_the_pool_and_keeps_its_parts_apart() -> None:
    recipe = load(BENCHMARK_RECIPES / "acceptance.toml")
    pool, seed = recipe.data[0], recipe.data[1]
    assert (pool.split, pool.sample, pool.hide_labels) == ("pool", 3000, True)
    assert (seed.split, seed.sample, seed.hide_labels) == ("seed", 200, False)
    assert pool.path == seed.path
    assert (pool.part, seed.part) == ((0.0, 0.8), (0.8, 1.0))
    assert (recipe.rounds, recipe.select.budget, recipe.teacher.names) == (4, 200, ("recorded",))
    assert not any("mega_train" in each.path for each in recipe.data)


def disjoint(one: Data, other: Data) -> bool:
    """Return whether no row of one file can be in both: by their halves, or by their parts."""
    if one.part and other.part:
        return one.part[1] <= other.part[0] or other.part[1] <= one.part[0]
    return {one.half, other.half} == {"dev", "test"}


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"part": (0.0, 0.8)}, {"part": (0.8, 1.0)}, True),
        ({"part": (0.8, 1.0)}, {"part": (0.0, 0.8)}, True),
        ({"part": (0.0, 0.8)}, {"part": (0.7, 1.0)}, False),
        ({"part": (0.0, 1.0)}, {"part": (0.4, 0.5)}, False),
        ({"part": (0.0, 0.5)}, {"half": "test"}, False),
        ({"part": (0.0, 0.5)}, {}, False),
        ({"half": "dev"}, {"half": "test"}, True),
        ({"half": "dev"}, {"half": "dev"}, False),
        ({"half": "dev"}, {}, False),
        ({}, {}, False),
    ],
)
def test_parts_and_halves_are_known_to_be_disjoint(one: dict[str, Any], other: dict[str, Any], apart: bool) -> None:
    assert disjoint(Data(path="a", split="pool", **one), Data(path="a", split="dev", **other)) == apart


RECIPES = {**shipped(), **{path.stem: path for path in BENCHMARK_RECIPES.glob("*.toml")}}


def test_the_benchmarks_have_recipes() -> None:
    assert {"acceptance", "real", "toxicchat"} <= set(RECIPES)


@pytest.mark.parametrize("name", [name for name, path in sorted(RECIPES.items()) if load(path).data])
def test_what_one_file_gives_to_two_splits_is_disjoint(name: str) -> None:
    shared = [
        (one, other)
        for one, other in combinations(load(RECIPES[name]).data, 2)
        if (one.path, one.hub_split) == (other.path, other.hub_split) and one.split != other.split
    ]
    assert shared
    assert [(one, other) for one, other in shared if not disjoint(one, other)] == []


@NEEDS_SHARED_DATA
@pytest.mark.parametrize("name", ["acceptance", "real", "toxicchat"])
def test_the_files_that_a_benchmark_recipe_names_are_there(name: str) -> None:
    assert [each.path for each in load(RECIPES[name]).data if not (ROOT / each.path).is_file()] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('nam = "x"', "unknown key nam; did you mean name?"),
        (DEMO + "[clasify]\nbatch = 3", "unknown key clasify; did you mean classify?"),
        (DEMO + "[classify]\nbach = 3", "unknown key classify.bach; did you mean classify.batch?"),
        (DEMO + "[guard.tiny]\nlayer = 3", "unknown key guard.tiny.layer; did you mean guard.tiny.layers?"),
        (DEMO + "[worker]\nplateau_delta = 3", "unknown key worker.plateau_delta; did you mean stop.plateau_delta?"),
        (DEMO + "[worker]\nzzzzzz = 3", "unknown key worker.zzzzzz; known here: max_deaths, heartbeat_s"),
        ('name = "x"\n[[data]]\npth = "a"\nsplit = "pool"', "unknown key data[1].pth; did you mean data.path?"),
        ('source = "demo"', "the key name is missing"),
        (DEMO + '[classify]\nbatch = "64"', 'classify.batch = "64": '),
        (DEMO + "[classify]\nbatch = true", "classify.batch = true: "),
        (DEMO + "[classify]\nbatch = 0", "classify.batch = 0: "),
        (DEMO + "[train]\nlr = nan", "train.lr = NaN: "),
        (DEMO + "[classify]\nleast = 9", "classify: least (9) must not be above most (4)"),
        (DEMO + 'until = "7:00"', 'until = "7:00": '),
        (DEMO + '[guard]\nreasoning = "essay"', 'guard.reasoning = "essay": '),
        (DEMO + "[select.shares]\nrandom = 1.0", "the shares add up to 1.85"),
        (DEMO + '[teacher]\nnames = ["recorded"]', "teacher.recorded go together"),
        (DEMO + '[teacher]\nnames = ["policy", "policy"]', "named twice"),
        (DEMO + '[[data]]\npath = "a"\nsplit = "pool"', "leave out [[data]]"),
        ('name = "x"\n[[data]]\npath = "a"\nsplit = "pool"', "no [[data]] has the split 'seed'"),
        (DEMO + 'seed = "', "not TOML"),
        (DEMO + f"seed = {'9' * 5000}", "not TOML: Exceeds the limit"),
        (DEMO + f"seed = {2**63}", f"seed = {2**63}: "),
        (DEMO + "rounds = 1001", "rounds = 1001: "),
        (DEMO + "budget_usd = 1e300", "budget_usd = 1e+300: "),
        (DEMO + "[data_demo]\npool = 100_001", "data_demo.pool = 100001: "),
        (DEMO + f"a = {'[' * 250}{']' * 250}", "not a recipe: its lists or tables are nested too deeply"),
        (DEMO + f"a = {'[' * 3000}{']' * 3000}", "not a recipe: its lists or tables are nested too deeply"),
    ],
)
def test_a_fault_names_the_file_and_the_key(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecipeError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ('half = "dev"\npart = [0.0, 0.5]', "give one"),
        ("part = [0.5, 0.5]", "part must rise"),
        ("limit = 3\nsample = 3", "give one"),
        ('benchmark = "dev"', "is the name of a split"),
        ('benchmark = " Pool "', "is the name of a split"),
        ('benchmark = ""', "benchmark = .*at least 1 character"),
    ],
)
def test_filters_that_disagree_are_refused(tmp_path: Path, filters: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(written(tmp_path, f'name = "x"\n[[data]]\npath = "a"\nsplit = "pool"\n{filters}'))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('[train]\nsharding = "fsdp"', 'set launch to "accelerate" and'),
        ('[train]\nlaunch = "accelerate"\nprocesses = 1\nsharding = "fsdp"', "processes to 0, or to 2 or more"),
        ('[train]\nlaunch = "accelerate"\nsharding = "deepspeed"', "Input should be 'none' or 'fsdp'"),
        (
            '[train]\nlaunch = "accelerate"\nsharding = "fsdp"\n[guard]\nquantise = "4bit"',
            r"cannot divide weights that guard\.quantise packs",
        ),
    ],
)
def test_a_base_that_cannot_be_divided_is_refused(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(written(tmp_path, DEMO + more))


def test_a_name_that_is_no_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'demo'"):
        load("demmo")
    with pytest.raises(RecipeError, match="no such file"):
        load(tmp_path / "none.toml")


def test_written_defaults_change_neither_json_nor_hash(tmp_path: Path) -> None:
    short = load(written(tmp_path, DEMO))
    long = load(written(tmp_path, DEMO + "rounds = 4\n[dpo]\nk = 4\nbeta = 0.01\n[guard.tiny]\nwidth = 128"))
    assert recipe_hash(short) == recipe_hash(long)
    assert recipe_hash(short) != recipe_hash(load(written(tmp_path, DEMO + "rounds = 5")))
    assert len(recipe_hash(short)) == 64


def test_the_canonical_json_is_the_whole_recipe() -> None:
    recipe = load(BENCHMARK_RECIPES / "toxicchat.toml")
    assert Recipe.model_validate_json(canonical_json(recipe)) == recipe
    assert json.loads(canonical_json(recipe))["dpo"]["sft_weight"] == 2.0


def test_every_setting_says_what_it_is() -> None:
    sections: list[type[Section]] = [Recipe, *Section.__subclasses__()]
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description and not isinstance(field.default, Section) and name not in ("data",)
    ]
    assert undocumented == []


def test_a_stored_recipe_keeps_the_defaults_of_its_time() -> None:
    table = json.loads(canonical_json(load("demo")))
    assert stored(json.dumps(table)).train.least_steps == 150
    table["train"]["least_steps"] = 0
    assert stored(json.dumps(table)).train.least_steps == 0
    del table["train"]["least_steps"], table["train"]["warmup"], table["train"]["method"]
    old = stored(json.dumps(table)).train
    assert (old.least_steps, old.warmup, old.method) == (150, 0.0, "lora")


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ('base = "tiny"', "DoRA needs a pretrained base"),
        ('base = "some/model"\nengine = "vllm"\n[guard.server]\nbase_url = "http://x/v1"', "reads no DoRA"),
    ],
)
def test_dora_is_refused_where_it_cannot_be_trained_or_read(tmp_path: Path, guard: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nsource = "demo"\n[guard]\n{guard}\n[train]\nmethod = "dora"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('[guard]\nbase = "some/model"\nquantise = "4bit"', "guard.quantise rounds"),
        ('[guard]\nengine = "vllm"\n[guard.server]\nbase_url = "http://x/v1"', "reads adapters only"),
        ('[export]\nformats = ["safetensors", "adapter-mlx"]', "export.formats has adapter-mlx"),
        ('[export]\nformats = ["from-a-plugin"]', "export.formats has from-a-plugin"),
        ("", ""),
    ],
)
def test_all_weights_are_refused_where_they_cannot_be_trained_or_read(tmp_path: Path, changed: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nsource = "demo"\n[train]\nmethod = "full"\n{changed}\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=said) if said else nullcontext():
        load(path)


def test_all_weights_are_trained_in_one_process_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\nsource = "demo"\n[train]\nmethod = "full"\nlaunch = "accelerate"\n'
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="trains in one process only"):
        load(path)
