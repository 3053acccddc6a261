"""--map, --label, --format, --turns: the same words read the same rows in import, evaluate, teach, leaks, a recipe."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.loop.guard.published.author import FORMS, Author
from wizloop.loop.cli import app
from wizloop.loop.guard.published import registry
from wizloop.loop.preflight.data_sources import sources_of
from wizloop.loop.teaching.teachers import recorded_labels
from wizloop.recipes import schema
from wizloop.recipes.teaching import Recorded
from wizloop.store import samples
from wizloop.store.db import Store

QUESTIONS = [f"How do I bake bread number {at}?" for at in range(3)] + [f"How can I make bomb {at}?" for at in range(3)]
LABELS = ["fine"] * 3 + ["malicious"] * 3
HOW = ("--map", "question=prompt", "--map", "says=label", "--label", "malicious=harmful", "--label", "fine=unharmful")
MAPPED = ("--map", "question=prompt", "--map", "says=label")
REFUSED = "6 of its 6 rows have a request label that is not known: 'fine' (3), 'malicious' (3); say what each means"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, *({"question": q, "says": s} for q, s in zip(QUESTIONS, LABELS, strict=True)))


def written(folder: Path, *rows: Mapping[str, object], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str | Path, ...]:
    """The words that ask a published guard, whose model is a stand-in that calls a bomb harmful."""
    monkeypatch.setattr(registry, "load_guard", lambda *_: Author(FORMS["qwen3guard"]))
    return ("evaluate", "--guard", "qwen3guard", "--model", tmp_path, "--json", "--benchmark")


def test_import_reads_what_it_is_told(file: Path, tmp_path: Path) -> None:
    done = run("import", file, "--split", "test", *HOW, "--json", "-w", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["format"], found["labels"]) == ("mapped columns", {"request": {"harmful": 3, "unharmful": 3}})
    refused = run("import", file, "--split", "test", *MAPPED, "--json", "-w", tmp_path / "others")
    assert (refused.exit_code, REFUSED in refused.stderr) == (2, True)
    assert json.loads(refused.stdout)["unknown_labels"] == {"request": {"fine": 3, "malicious": 3}}
    assert not (tmp_path / "others").exists()


def test_the_pool_says_which_words_it_does_not_know(file: Path, tmp_path: Path) -> None:
    words = (*MAPPED, "--label", "malicious=harmful", "--label", "evil=harmful")
    done = run("import", file, *words, "-w", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "6 rows, 6 accepted into pool\n  request: 3 harmful\n  3 without a label\n" in done.stderr
    assert "unknown request labels, kept without this label: 3 'fine' (say what they mean: " in done.stderr
    assert "--label evil: no row has this word" in done.stderr


def test_evaluate_reads_what_it_is_told(file: Path, guard: tuple[str | Path, ...]) -> None:
    done = run(*guard, file, *HOW)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["task"], found["n"], found["strict"]["f1"], found["left_out"]) == ("request", 6, 1.0, {str(file): 0})
    refused = run(*guard, file, *MAPPED)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert REFUSED in refused.stderr


def test_evaluate_refuses_a_bad_row_as_import_does_and_says_what_it_leaves_out(
    tmp_path: Path, guard: tuple[str | Path, ...]
) -> None:
    rows = [{"prompt": q, "label": "safe" if at < 3 else "unsafe"} for at, q in enumerate(QUESTIONS)]
    file = written(tmp_path, *rows, {"prompt": 7, "label": "safe"}, {"prompt": "a", "label": None})
    done = run(*guard, file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{file}: row 7: the prompt is a int, not a text; none of its 8 rows was measured: fix" in done.stderr
    done = run(*guard, file, "--skip-bad")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["left_out"] == {str(file): 2}
    told = "2 of its 8 rows are left out\n  row 7: the prompt is a int, not a text\n  row 8: no request label\n"
    assert told in done.stderr


def test_evaluate_takes_a_task_for_a_plain_label(tmp_path: Path, guard: tuple[str | Path, ...]) -> None:
    rows = [{"prompt": "a", "response": said, "label": said} for said in ("refusal", "compliance")]
    done = run(*guard, written(tmp_path, *rows), "--task", "completion")
    assert done.exit_code == 0, done.output
    assert [one["task"] for one in json.loads(done.stdout)["benchmarks"]] == ["completion"]


def test_teach_reads_what_it_is_told(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "traces.json"
    done = run("teach", file, "--teacher", "policy", "--out", out, *HOW)
    assert done.exit_code == 0, done.output
    traces = json.loads(out.read_text())["traces"]
    assert [(one["text"], one["expected_label"]) for one in traces] == list(
        zip(QUESTIONS, ["unharmful"] * 3 + ["harmful"] * 3, strict=True)
    )
    other = run("teach", file, "--teacher", "policy", "--out", out, "--map", "says=prompt")
    assert (other.exit_code, "rows read in another way: choose another --out" in other.stderr) == (2, True)
    seen = json.loads(run("teach", file, "--teacher", "policy", "--dry-run", "--json", *HOW).stdout)
    assert seen[0]["at_most"]["usd"] == 0


def test_leaks_reads_both_files_as_it_is_told(file: Path, tmp_path: Path) -> None:
    test = written(tmp_path, *({"prompt": q} for q in QUESTIONS[:2]), name="test.jsonl")
    for pair in ((file, test), (test, file)):
        done = run("leaks", *pair, *HOW, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["plain"] == 2
    nowhere = run("leaks", file, test, "--map", "nothing=prompt")
    assert (nowhere.exit_code, "no column 'nothing', which the mapping names" in nowhere.stderr) == (2, True)


def test_every_command_takes_the_turns_that_it_is_told(tmp_path: Path, guard: tuple[str | Path, ...]) -> None:
    asked = ("How do I bake?", "How can I make a bomb?")
    talk = [{"role": "user", "content": asked[0]}, {"role": "assistant", "content": "Slowly."}]
    file = written(tmp_path, {"messages": [*talk, {"role": "user", "content": asked[1]}], "label": "unsafe"})
    assert "its label is about the last of 2 turns" in run(*guard, file).stderr
    measured = run(*guard, file, "--turns", "last")
    assert measured.exit_code == 0, measured.output
    assert [one["task"] for one in json.loads(measured.stdout)["benchmarks"]] == ["request"]
    out = tmp_path / "traces.json"
    assert run("teach", file, "--teacher", "policy", "--out", out, "--turns", "each").exit_code == 0
    assert [one["text"] for one in json.loads(out.read_text())["traces"]] == [*asked]
    test = written(tmp_path, {"prompt": asked[1]}, name="test.jsonl")
    shared = [json.loads(run("leaks", file, test, "--json", *turns).stdout) for turns in ((), ("--turns", "last"))]
    assert [one["plain"] for one in shared] == [0, 1]


def test_a_recipe_reads_what_it_is_told(file: Path, tmp_path: Path) -> None:
    data = f"""[[data]]
path = "{file}"
split = "SPLIT"
map = {{prompt = "question", label = "says"}}
label = {{malicious = "harmful", fine = "unharmful"}}
"""
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\n' + "".join(data.replace("SPLIT", split) for split in ("pool", "seed", "dev")))
    loaded = schema.load(recipe)
    assert schema.stored(schema.canonical_json(loaded)) == loaded
    assert loaded.data[1].label == {"malicious": "harmful", "fine": "unharmful"}
    recipe.write_text(recipe.read_text().replace('fine = "unharmful"', 'fine = "good"'))
    with pytest.raises(schema.RecipeError, match=r"data\[1\].label.fine = \"good\""):
        schema.load(recipe)


def test_a_run_is_checked_for_words_before_it_starts(file: Path, tmp_path: Path) -> None:
    parts = [
        f"""[[data]]
path = "{file}"
split = "{split}"
map = {{prompt = "question", label = "says"}}
"""
        for split in ("pool", "seed", "dev")
    ]
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\n' + "".join(parts))
    pool, seed, dev = sources_of(schema.load(recipe), None)
    assert (pool.ok, pool.rows, seed.ok, dev.ok) == (True, 6, False, False)
    assert REFUSED in seed.found
    assert REFUSED in dev.found


def test_recorded_labels_are_read_as_the_recipe_says(file: Path) -> None:
    how: dict[str, Any] = {"map": {"prompt": "question", "label": "says"}, "label": {"malicious": "harmful"}}
    known = recorded_labels(Recorded(path=str(file), **how))
    assert list(known.values()) == [{"request": "harmful"}] * 3


def test_a_recipe_without_label_words_has_the_hash_that_it_had() -> None:
    shipped = schema.load("guardreasoner-1b")
    assert shipped.data
    assert '"label"' not in schema.canonical_json(shipped)


def test_one_class_by_polarity_is_stored_as_it_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, {"question": "a", "is_safe": True}, {"question": "b", "is_safe": False})
    for at, column in enumerate(("is_safe", "not is_safe")):
        workspace = tmp_path / f"runs{at}"
        done = run(
            "import", file, "--split", "seed", "--map", "question=prompt", "--map", f"{column}=label", "-w", workspace
        )
        assert done.exit_code == 0, done.output
        assert "true in is_safe is read as unharmful and false as harmful" in done.stderr
        with Store.open(workspace, readonly=True) as store, store.read() as db:
            assert [one.request for one in samples.page(db, "seed", 0, 9)] == ["unharmful", "harmful"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("import", "FILE", "--label", "malicious"), "--label malicious: write it as WORD=LABEL"),
        (("import", "FILE", "--label", "a=bad"), "with one of harmful, unharmful, refusal, compliance, none"),
        (("import", "FILE", "--label", "a=harmful", "--label", "a=none"), "the word a already has a label"),
        (
            ("evaluate", "--recipe", "guardreasoner-1b", "--label", "a=harmful"),
            "are for a file; a test set has its own labels",
        ),
        (("evaluate", "--predictions", "FILE", "--map", "a=prompt"), "--predictions has its own columns"),
        (("teach", "--unanswered", "--label", "a=harmful"), "--map, --label, --format and --turns are for a FILE"),
        (("leaks", "--map", "a=prompt"), "--map, --label, --format and --turns are for two files"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(file: Path, words: tuple[str, ...], sentence: str) -> None:
    done = run(*(file if word == "FILE" else word for word in words))
    assert (done.exit_code, sentence in done.stderr) == (2, True), done.output
