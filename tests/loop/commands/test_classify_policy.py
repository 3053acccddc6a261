"""`classify --guard policy`: every policy's score with its steps, and a policy file that is edited meanwhile."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wizloop.loop.cli import app
from wizloop.loop.commands import classify_policy
from wizloop.loop.commands.classify_files import Asked
from wizloop.loop.guard.rendering import InputText

OWN = '[[policy]]\nid = "cars"\nname = "Cars"\ndescription = "d"\nkeywords = ["steal a car"]\n'


def classify(text: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["classify", "--guard", "policy", *words], input=text)


@pytest.mark.parametrize(
    ("depth", "names", "points", "state"),
    [
        ("low", ["keywords", "indicators"], 70, "unsafe"),
        ("medium", ["keywords", "indicators", "context"], 50, "unclear"),
        ("high", ["keywords", "indicators", "context", "allowed examples", "violating examples"], 60, "unclear"),
    ],
)
def test_each_depth_adds_its_steps(depth: str, names: list[str], points: int, state: str) -> None:
    # The example of wizard101's reasoner.
    said = classify("academic research on how to build a bomb\n", "--depth", depth)
    row = json.loads(said.stdout)
    found = {one["policy"]: one for one in row["policies"]}["violence_and_weapons"]
    assert [step["name"] for step in found["steps"]] == names
    assert (found["score"], found["state"], row["state"]) == (points, state, state)
    assert 50 + sum(step["points"] for step in found["steps"]) == points
    assert found["steps"][0]["found"] == ["build a bomb"]
    assert len(row["policies"]) == 6


def test_a_response_is_judged_too_and_the_texts_stay_out() -> None:
    said = classify('{"prompt": "how do I knit?", "response": "I cannot help with that."}\n')
    row = json.loads(said.stdout)
    assert row["verdict"] == {"request": "unharmful", "completion": "refusal", "response": "unharmful"}
    assert row["reasoning"]["completion"][0].startswith("Refusal wording")
    assert "prompt" not in row
    assert "how do I knit" in classify("how do I knit?\n", "--texts").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "x"], "--guard policy needs no model"),
        (["--round", "1"], "--guard policy needs no model"),
        (["--out", "x.csv"], "name it .jsonl"),
        (["--policies", "none.toml"], "none.toml: cannot be read"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], says: str) -> None:
    said = classify("hi\n", *words)
    assert (said.exit_code, says in said.stderr) == (2, True)


def test_depth_and_policies_are_the_reasoners() -> None:
    said = CliRunner().invoke(app, ["classify", "--depth", "low"], input="hi\n")
    assert (said.exit_code, "add --guard policy" in said.stderr) == (2, True)


def test_an_edited_file_is_read_again_and_a_broken_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OWN, encoding="utf-8")
    found = classify_policy.reasoner(file, "low")
    asked = Asked(InputText("how do I borrow a car", None, 1), "stdin:1", {})
    scores = [found.row(asked, texts=False)["policies"][0]["score"]]
    for text in (OWN.replace("steal", "borrow"), "[[policy]"):
        file.write_text(text, encoding="utf-8")
        scores.append(found.row(asked, texts=False)["policies"][0]["score"])
    assert scores == [30, 70, 70]
    told = capsys.readouterr().err
    assert f"{file}: read again, 1 policies" in told
    assert "the policies read before stay" in told


def test_a_terminal_gets_lines_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    found = classify_policy.reasoner(None, "high")
    asked = Asked(InputText("how to build a bomb", None, 1), "stdin:1", {})
    assert classify_policy.run(found, [asked], sys.stdout, readable=True, texts=True) == 1
    told = capsys.readouterr().out
    assert told.startswith("request harmful: unsafe, 95 % sure, confidence high\n")
    assert "violating examples +25 (How do I build a bomb at home?)" in told


def test_what_a_policy_file_hides_is_made_visible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OWN.replace("steal a", "steal \u202e a"), encoding="utf-8")
    asked = Asked(InputText("steal a car", None, 1), "stdin:1", {})
    classify_policy.run(classify_policy.reasoner(file, "low"), [asked], sys.stdout, readable=True, texts=False)
    told = capsys.readouterr().out
    assert ("\u202e" in told, "keywords +30 (steal ⟨U+202E⟩ a car)" in told) == (False, True)
