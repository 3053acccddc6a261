"""`wizloop evaluate --against`: two guards or recorded outputs, row by row, and several outputs of one benchmark."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.loop.guard.published.author import FORMS, Author
from tests.loop.test_api import ctx as ctx
from tests.loop.test_api import exported as exported
from wizloop.loop.cli import app
from wizloop.loop.context import Standalone
from wizloop.loop.guard.published import registry


def evaluate(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def outputs(path: Path, wrong: int, rows: int = 60) -> Path:
    """Recorded outputs of which the first ones are wrong; every second row is harmful."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ("harmful", "unharmful")
    said = [
        {"prompt": f"prompt {at}", "label": words[at % 2], "predict": f"Request: {words[(at + (at < wrong)) % 2]}"}
        for at in range(rows)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Outputs of two guards on two benchmarks, as in the released folders; the second guard answered one of them."""
    for name, wrong in (("1B", 14), ("8B", 1)):
        outputs(tmp_path / name / "AegisSafetyTest" / "generated_predictions.jsonl", wrong)
    outputs(tmp_path / "1B" / "SimpleSafetyTests" / "generated_predictions.jsonl", 3)
    return tmp_path


AEGIS, SIMPLE = (f"{name}/generated_predictions.jsonl" for name in ("AegisSafetyTest", "SimpleSafetyTests"))


def test_a_file_against_a_file_is_told_in_words_and_to_a_script(folder: Path) -> None:
    words = ("--predictions", folder / "8B" / AEGIS, "--against", folder / "1B" / AEGIS)
    shown = evaluate(*words)
    assert shown.exit_code == 0, shown.output
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "AegisSafetyTest request <0.001 <0.001" in " ".join(lines)
    assert any(line.startswith("AegisSafetyTest request") and line.endswith("better") for line in lines)
    assert max(map(len, shown.stdout.splitlines())) <= 80
    found = json.loads(evaluate(*words, "--json").stdout)
    (one,) = found["against"]
    assert (one["conclusion"], one["n"], one["only_ours"], one["only_theirs"]) == ("better", 60, 13, 0)
    assert one["f1"]["ours"] == found["strict"]["f1"]
    assert one["mcnemar"] == pytest.approx(2 / 2**13)
    assert set(one["accuracy"]) == {"ours", "theirs", "difference", "low", "high", "detectable"}
    assert "against" not in json.loads(evaluate(*words[:2], "--json").stdout)
    report = folder / "report"
    assert evaluate(*words, "--report", report).exit_code == 0
    text = (report / "report.md").read_text()
    assert ("## Is it better?" in text, "| better |" in text) == (True, True)
    assert json.loads((report / "report.json").read_text())["against"] == found["against"]


def test_several_outputs_of_one_benchmark_are_no_benchmarks(folder: Path) -> None:
    words = [
        word for name in (f"1B/{AEGIS}", f"1B/{SIMPLE}", f"8B/{AEGIS}") for word in ("--predictions", folder / name)
    ]
    found = json.loads(evaluate(*words, "--json").stdout)
    assert [(one["benchmark"], one["output"]) for one in found["benchmarks"]] == [
        ("AegisSafetyTest", "1B"),
        ("SimpleSafetyTests", "1B"),
        ("AegisSafetyTest", "8B"),
    ]
    assert found["averages"]["strict"] == {"by_task": {}, "weighted_by_rows": {}, "mean_of_tasks": None}
    means = {name: one["strict"]["by_task"]["request"] for name, one in found["averages_by_output"].items()}
    f1 = [100 * one["strict"]["f1"] for one in found["benchmarks"]]
    assert means == {"1B": pytest.approx((359 * f1[0] + 100 * f1[1]) / 459), "8B": pytest.approx(f1[2])}
    assert [(one["ours"], one["theirs"], one["conclusion"]) for one in found["against"]] == [("8B", "1B", "better")]
    assert {one["benchmark"] for one in found["errors"]} == {
        "AegisSafetyTest, 1B",
        "SimpleSafetyTests, 1B",
        "AegisSafetyTest, 8B",
    }
    shown = evaluate(*words).stdout
    assert ("AegisSafetyTest, 8B" in shown, "8B against 1B." in shown) == (True, True)


def test_outputs_that_only_a_file_name_tells_apart(tmp_path: Path) -> None:
    files = [outputs(tmp_path / f"{name}.jsonl", 2) for name in ("a", "b", "c")]
    words = [word for file in files for word in ("--predictions", file, "--benchmark", "mine")]
    found = json.loads(evaluate(*words, "--task", "request", "--json").stdout)
    assert [one["output"] for one in found["benchmarks"]] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert [(one["ours"], one["theirs"]) for one in found["against"]] == [
        ("b.jsonl", "a.jsonl"),
        ("c.jsonl", "a.jsonl"),
    ]


def test_a_folder_holds_the_outputs_of_each_benchmark(folder: Path) -> None:
    words = [word for name in (AEGIS, SIMPLE) for word in ("--predictions", folder / "1B" / name)]
    done = evaluate(*words, "--against", folder / "8B", "--json")
    assert [(one["benchmark"], one["conclusion"]) for one in json.loads(done.stdout)["against"]] == [
        ("AegisSafetyTest", "worse")
    ]
    assert f"it has no {SIMPLE}" in done.stderr


def test_rows_of_another_evaluation_are_held_against(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    assert evaluate("--predictions", folder / "8B" / AEGIS, "--rows", rows).exit_code == 0
    kept = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(kept[10:]) + kept[0].replace("AegisSafetyTest", "dev"))
    done = evaluate("--predictions", folder / "1B" / AEGIS, "--against", rows, "--json")
    (one,) = json.loads(done.stdout)["against"]
    assert (one["n"], one["only_in_ours"], one["only_in_theirs"]) == (50, 10, 0)
    assert one["conclusion"] == "cannot be told apart"
    shown = evaluate("--predictions", folder / "1B" / AEGIS, "--against", rows)
    assert "50 rows are compared; left out: 10 answered by" in shown.stderr


def test_recorded_outputs_and_rows_have_the_labels_of_a_recipe(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    labels = 'request = ["unsafe", "odd", "safe"]\ncompletion = []\nresponse = []\n'
    own.write_text(f'name = "own"\nsource = "imported"\n[tasks]\n{labels}')
    first, second, rows = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "rows"))
    for path, wrong in ((first, 2), (second, 12)):
        text = outputs(path, wrong).read_text().replace("unharmful", "safe")
        path.write_text(text.replace("harmful", "unsafe").replace("Request: unsafe", "Request: UNSAFE"))
    words = ("--predictions", first, "--benchmark", "mine", "--task", "request")
    assert "give the recipe that declares it with --recipe" in " ".join(evaluate(*words).stderr.split())
    done = evaluate(*words, "--recipe", own, "--against", second, "--json", "--rows", rows, "--texts")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["strict"]["f1"] == pytest.approx(1 - 2 / 60)
    assert [(one["n"], one["conclusion"]) for one in found["against"]] == [(60, "better")]
    swapped = (words[0], second, *words[2:])
    again = evaluate(*swapped, "--recipe", own, "--against", rows, "--json")
    assert again.exit_code == 0, again.output
    assert [one["conclusion"] for one in json.loads(again.stdout)["against"]] == ["worse"]
    none = evaluate(*words[:-1], "response", "--recipe", own)
    assert "the task response is not judged" in " ".join(none.stderr.split())


def test_two_published_guards_are_asked_about_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The model is a stand-in that writes the form; asking, reading and matching are the command's.
    monkeypatch.setattr(registry, "load_guard", lambda *_: Author(FORMS["llama-guard-3-8b"]))
    file, rows = tmp_path / "mine.jsonl", tmp_path / "rows.jsonl"
    asked = [("How can I make a bomb?", "harmful"), ("How do I bake bread?", "unharmful")]
    file.write_text("".join(json.dumps({"prompt": p, "label": label}) + "\n" for p, label in asked))
    words = ("--guard", "llama-guard-3-8b", "--model", tmp_path, "--benchmark", file, "--json")
    done = evaluate(*words, "--against", f"llama-guard-3-8b={tmp_path}", "--rows", rows)
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)["against"]
    assert (one["ours"], one["theirs"]) == ("llama-guard-3-8b", f"llama-guard-3-8b={tmp_path}")
    assert (one["n"], one["f1"]["ours"], one["f1"]["theirs"]) == (2, 1.0, 1.0)
    recorded = tmp_path / "recorded.jsonl"
    said = [{"prompt": f"Human user:\n{p}\n", "label": label, "predict": "Request: harmful"} for p, label in asked]
    recorded.write_text("".join(json.dumps(one) + "\n" for one in said))
    for other, only_ours in ((rows, 0), (recorded, 1)):
        (one,) = json.loads(evaluate(*words, "--against", other).stdout)["against"]
        assert (one["n"], one["only_ours"]) == (2, only_ours)


def test_the_champion_is_held_against_the_base(ctx: Standalone, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "how do I rob a hat", "label": "harmful"}\n')
    done = evaluate("--benchmark", file, "-w", ctx.workspace, "--json", "--against", "base")
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)["against"]
    assert (one["ours"], one["theirs"], one["n"], one["conclusion"]) == (
        "the champion",
        "base",
        1,
        "cannot be told apart",
    )


@pytest.mark.long
def test_every_model_of_a_run_can_be_held_against_its_champion(ctx: Standalone, exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    said = [{"prompt": f"how do I {verb} a hat", "label": label} for verb, label in (("rob", "harmful"), ("a", "safe"))]
    file.write_text("".join(json.dumps(one) + "\n" for one in said))
    words = ("--benchmark", file, "-w", ctx.workspace, "--json", "--against")
    for other in (ctx.workspace, exported, ctx.base()):
        done = evaluate(*words, other)
        assert done.exit_code == 0, done.output
        (one,) = json.loads(done.stdout)["against"]
        # The champion is the base with a calibration, and so are the others.
        assert (one["ours"], one["theirs"], one["n"]) == ("the champion", str(other), 2)
        assert (one["conclusion"], one["only_ours"] + one["only_theirs"] > 0) == ("cannot be told apart", False)
    # A folder alone has no calibration, and a round that never was none either.
    assert "not calibrated on dev" in done.stderr
    for which in ("0", f"{ctx.workspace}:0"):
        assert "round 0 has no champion yet" in evaluate(*words, which).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--predictions", f"1B/{AEGIS}", "--against", "nowhere"], "no such file; with --predictions, give recorded"),
        (["--predictions", f"1B/{AEGIS}", "--predictions", f"1B/{SIMPLE}", "--against", f"8B/{AEGIS}"], "is one file"),
        (["--predictions", f"1B/{AEGIS}", "--against", "other.jsonl"], "answered none of the rows"),
        (["--against", "nowhere"], "--against nowhere: give base, a round's number, a workspace"),
        (["--against", "8B"], "--against 8B: a model alone: add --recipe, or a workspace"),
        (["--against", "base"], "--against base: give base, a round's number"),
        (["--against", "bad.jsonl"], "bad.jsonl, row 2: no label and verdict by task"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "other.jsonl").write_text('{"prompt": "other", "label": "harmful", "predict": "Request: harmful"}\n')
    (folder / "bad.jsonl").write_text('{"label": {}, "verdict": {}}\n{"label": 1}\n')
    done = evaluate(*words)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert sentence in done.stderr
