"""What commands say and write for an exported guard with an operating point and a promised error."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wizloop.backends import artifacts
from wizloop.backends.tiny import build as tiny_guard
from wizloop.loop.api import load_guard
from wizloop.loop.cli import app
from wizloop.loop.guard import guard_file
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.operating_points import share
from wizloop.loop.measures.promised_error import Cut
from wizloop.loop.serving import moderation
from wizloop.recipes import schema

TEXTS = [f"how do I {verb} a {thing} in the {place}?" for verb in "aeiou" for thing in "xyz" for place in "pqr"]
PLAIN = Calibration(thresholds={"request": {"direct": 0.999}})
KNOWN = replace(
    PLAIN,
    operating_point="fpr<=0.02",
    reached={"request": {"direct": {"fpr": share(1, 60), "recall": share(30, 62)}}},
    let_through=0.05,
    cuts={"request": {"direct": Cut(0.0001, 62, 0, 0, 0.0472)}},
)


def exported(folder: Path, known: Calibration) -> Path:
    """A guard of one narrow layer that knows nothing, so that every answer is near one half."""
    fixed = ["Reasoning:\nAnswers:\nRequest: harmful\nRequest: unharmful\nHuman user:\n\nAI assistant:\nNone"]
    with artifacts.writing(folder, {}) as made:
        shape = tiny_guard.Shape(300, 1, 32, 64)
        tiny_guard.build(made, TEXTS, shape=shape, epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)
        guard_file.write(made, schema.load("demo"), Renderer(""), 8, known=known)
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("exports") / "guard", KNOWN)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("exports") / "plain", PLAIN)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    rows = [f"{text},{'harmful' if at % 2 else 'unharmful'}\n" for at, text in enumerate(TEXTS)]
    path.write_text("prompt,label\n" + "".join(rows), encoding="utf-8")
    return path


def called(*words: str | Path) -> Result:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return done


def calibration_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / guard_file.NAME).read_text(encoding="utf-8"))["calibration"]
    return found


def test_an_export_carries_both_and_one_without_them_has_no_key_more(export: Path, plain: Path) -> None:
    known = load_guard(export).calibration
    assert known is not None
    assert known.operating() == KNOWN.operating()
    assert sorted(calibration_of(plain)) == ["cut", "measure", "scales", "source", "thresholds"]
    assert sorted(calibration_of(export).keys() - calibration_of(plain).keys()) == [
        "cuts",
        "let_through",
        "operating_point",
        "reached",
    ]


@pytest.mark.parametrize(
    "fault",
    [
        {"let_through": 1.5},
        {"operating_point": "fpr<=[bold]"},
        {"cuts": {"request": {"direct": {"below": -1, "n": 1, "missing": 0, "misses": 0, "bound": None}}}},
        {"reached": {"request": {"direct": {"fpr": {"k": "1"}}}}},
    ],
)
def test_a_guard_file_with_other_values_is_refused(fault: dict[str, Any], export: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(fault))):
        guard_file.GuardCalibration.model_validate_json(json.dumps(calibration_of(export) | fault))


def test_classify_names_both_and_the_decision_on_each_row(export: Path, texts: Path, tmp_path: Path) -> None:
    done = called("classify", texts, "--model", export)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["decision"] for row in rows} == {"defer"}
    assert {row["verdict"]["request"] for row in rows} == {"unharmful"}
    assert "request: the threshold is set on dev for a false-positive rate of at most 2 %, where it has" in done.stderr
    assert "request: at most 5 % of what is harmful is let through, below a raw probability of 0.0001" in done.stderr
    called("classify", texts, "--model", export, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        assert {row["decision"] for row in csv.DictReader(file)} == {"defer"}


def test_classify_writes_no_decision_without_a_promise(plain: Path, texts: Path, tmp_path: Path) -> None:
    done = called("classify", texts, "--model", plain)
    assert "decision" not in json.loads(done.stdout.splitlines()[0])
    called("classify", texts, "--model", plain, "--out", tmp_path / "out.csv")
    assert "decision" not in (tmp_path / "out.csv").read_text(encoding="utf-8").partition("\n")[0]


def test_evaluate_shows_what_is_deferred_and_how_fast_the_guard_is(export: Path, texts: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    done = called("evaluate", "--model", export, "--benchmark", texts, "--json", "--rows", rows, "-w", tmp_path / "no")
    found = json.loads(done.stdout)
    assert found["promise"]["deferred"]["rate"] == 1.0
    assert (found["promise"]["misses"]["k"], found["promise"]["over"]) == (0, False)
    assert found["operating"]["operating_point"] == "fpr<=0.02"
    assert found["recall_at_fpr"]["0.05"]["value"] is not None
    assert {json.loads(line)["decision"] for line in rows.read_text(encoding="utf-8").splitlines()} == {"defer"}
    speed = found["speed"]
    assert (speed["rows"], speed["latency_rows"]) == (45, 30)
    assert 0 < speed["p50_ms"] <= speed["p95_ms"]
    assert min(speed["rows_per_s"], speed["tokens_per_s"], speed["peak_memory_bytes"]) > 1


def test_evaluate_says_so_in_words(
    export: Path, plain: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = " ".join(called("evaluate", "--model", export, "--benchmark", texts.name, "-w", "no").stdout.split())
    assert "5 % 0.0 % (0.0-14.9) of 22 100.0 % (92.1-100.0) of 45" in said
    assert "at most 5 % of what is harmful is let through" in said
    assert "Speed on " in said
    other = called("evaluate", "--model", plain, "--benchmark", texts.name, "-w", "no").stdout
    assert "promised" not in other
    assert "set on dev for" not in other


def test_recorded_outputs_have_no_speed(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "a", "label": "harmful", "predict": "Request: harmful"}) + "\n")
    found = json.loads(called("evaluate", "--predictions", path, "--task", "request", "--json").stdout)
    assert "speed" not in found
    assert "promise" not in found
    assert found["recall_at_fpr"]["0.01"]["value"] is None


def test_a_served_answer_has_the_decision(export: Path, plain: Path) -> None:
    model = {"name": "guard", "sha256": "0", "calibration": "0"}
    ours, theirs = (
        moderation.answer("1", model, list(load_guard(folder).judge(TEXTS[:1]))) for folder in (export, plain)
    )
    assert ours["results"][0]["wizloop"]["decision"] == "defer"
    assert "decision" not in theirs["results"][0]["wizloop"]
