"""Every command that prints imported text, on a real terminal: the raw bytes hold nothing that could drive it.

Text, labels, columns, policies, file names and a teacher's words are hostile; what rich and click write themselves
(colours, bold) is all that may stand between.
"""

import json
import os
import pty
import re
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from tests import single_calls
from wizloop.backends import artifacts
from wizloop.backends.tiny import build as tiny_guard
from wizloop.loop.cli import app
from wizloop.loop.context import standalone
from wizloop.loop.measures.calibration import Calibration
from wizloop.recipes import schema
from wizloop.store import call_writes, control, models, reviews, samples, selections, steps
from wizloop.store.db import Connection, Store

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
EVIL = (
    "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\x1b]8;;http://x\x1b\\ [bold red]no[/nope] [link=http://x]\u202eback\u200b\ufeff"
)
FORGED = f"first\n0 refused\r\nlater {EVIL}"
STYLE = re.compile(rb"\x1b\[[0-9;]*m")
"""Colours and bold, which our own tables write."""
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with hostile samples, a trace that waits and a tiny guard; beside it hostile files."""
    folder = tmp_path_factory.mktemp("hostile")
    recipe = schema.load("demo")
    with Store.create(folder / "runs") as store:
        ctx = standalone(store, folder / "runs", recipe, "classify", NOW)
        texts = [f"how do I {verb} a {thing}?" for verb in "aeiou" for thing in "pqrxyz"]
        fixed = [ctx.renderer.instruction, "Reasoning:\nAnswers:\nRequest: harmful\nRequest: unharmful"]
        with artifacts.writing(Path(ctx.base()), {}) as base:
            shape = tiny_guard.Shape(300, 1, 16, 32)
            tiny_guard.build(base, texts, shape=shape, epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)
        with store.write() as db:
            _fill(db, recipe)
    _files(folder)
    return folder


def _fill(db: Connection, recipe: Any) -> None:
    asked = {"name": "demo", "recipe_json": schema.canonical_json(recipe), "recipe_hash": "ab", "seed": 1}
    control.create_run(db, **asked, cap_micro=None, until=None, rounds_wanted=1, now=NOW)  # type: ignore[arg-type]
    about = {"role": "base", "parent_id": None, "sha256": "", "meta_json": "{}"}
    guard = models.add(db, name="base", path="models/base", round=0, now=NOW, **about)  # type: ignore[arg-type]
    # Sure of everything: each label that it is against is listed.
    models.set_calibration(db, guard, Calibration(own="margin_direct", own_cut=0.0).to_json())
    control.set_champion(db, guard)
    harm = [("harmful", "unharmful")[at % 2] for at in range(40)]
    dev = [samples.NewSample("dev", f"{at} {FORGED}", EVIL, EVIL, FORGED, harm[at], policy=EVIL) for at in range(40)]
    samples.add(db, [*dev, samples.NewSample("pool", EVIL, EVIL, EVIL, EVIL)], NOW)
    steps.begin_round(db, 1, guard, NOW)
    selections.add(db, [selections.Selection(1, 41, "random", 0.5, 1, 0.1, EVIL)])
    planned = {"sample_id": 41, "round": 1, "teacher": "policy", "model": EVIL, "attempt": 1}
    call = single_calls.plan(db, key="0" * 64, request_json="{}", now=NOW, **planned)  # type: ignore[arg-type]
    single_calls.reserve(db, call, 1)
    call_writes.mark_sent(db, [call], NOW)
    nothing = {"usage_json": None, "request_id": None, "stop_reason": None}
    single_calls.receive(db, call, raw="{}", cost_micro=1, now=NOW, **nothing)
    single_calls.finish(db, call, "parsed", "ok")
    said = {"trace_json": "{}", "explanation": FORGED, "steps_json": "{}", "confidence_word": "low"}
    trace = single_calls.add_trace(db, call_id=call, verdict={"request": "harmful"}, now=NOW, **said)
    reviews.review(db, trace_id=trace, decision="wait", by="rule:doubtful", reason=EVIL, now=NOW, decision_id="r")


def _files(folder: Path) -> None:
    columns: list[dict[str, Any]] = [{"prompt": f"1 {FORGED}", "label": "safe"}, {"prompt": "x", "label": FORGED}]
    columns += [{"prompt": "y", "label": EVIL}, {"prompt": "z", EVIL: EVIL}, {"prompt": [EVIL], "label": "safe"}]
    columns += [{"id": FORGED, "prompt": text, "label": "safe"} for text in "ab"]
    asked = [{"prompt": f"Judge this.\n\nHuman user:\n{n} {EVIL}\n\nAI assistant:\nNone\n\n"} for n in range(3)]
    answers = [{**one, "label": "harmful", "predict": f"{EVIL}\nRequest: harmful\n", "a": EVIL} for one in asked]
    traces = [{"id": n, "text": f"{n} {FORGED}", "expected_label": "harmful"} for n in range(3)]
    said = {
        word: [{**one, "predicted_label": word, "confidence": "high"} for one in traces] for word in ("safe", "unsafe")
    }
    for name, rows in {f"rows{EVIL}.jsonl".replace("/", "_"): columns, "answers.jsonl": answers}.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for word, of_word in said.items():
        (folder / f"{word}.json").write_text(json.dumps({"traces": of_word}))
    (folder / "shapes.json").write_text(json.dumps([{EVIL: 1, FORGED: 2}]))
    (folder / "texts.txt").write_text(json.dumps({"prompt": EVIL}) + f"\n{EVIL}\n".replace("\x9b", ""))


def written(*commands: list[str]) -> bytes:
    """What the commands write to a terminal that is their stdout and their stderr, the exit status after each."""
    master, slave = pty.openpty()
    found: list[bytes] = []

    def drain() -> None:
        # Linux ends the reading with an error when the other side is closed, macOS with nothing.
        with suppress(OSError):
            while piece := os.read(master, 1 << 16):
                found.append(piece)

    reader = Thread(target=drain)
    reader.start()
    with open(slave, "w", buffering=1) as terminal, redirect_stdout(terminal), redirect_stderr(terminal):  # noqa: PTH123
        for words in commands:
            status = app.main(words, prog_name="wizloop", standalone_mode=False)
            print("##### ended with", status or 0, flush=True)
    reader.join(60)
    os.close(master)
    return b"".join(found)


def test_no_command_hands_imported_text_to_the_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    (rows,) = (one.name for one in folder.glob("rows*"))
    found = written(
        ["import", rows, "--split", "seed", "--dry-run"],
        ["import", rows, "--split", "seed"],
        ["import", rows, "--format", EVIL],
        ["import", rows, "--map", f"{EVIL}=prompt"],
        ["import", "shapes.json"],
        ["leaks"],
        ["leaks", rows, rows],
        ["evaluate", "--predictions", "answers.jsonl", "--benchmark", EVIL, "--task", "request", "--group", "a"],
        ["audit", "--untaught"],
        ["traces", "compare", "safe.json", "unsafe.json"],
        ["review", "--list"],
        ["review", "--import", rows],
        ["data", "errors", "--texts"],
        ["classify", "texts.txt"],
        ["classify", rows, "--texts"],
    )
    # The terminal's own driver writes each end of a line as two characters.
    left = STYLE.sub(b"", found).replace(b"\r\n", b"\n").decode()
    assert "Traceback" not in left, left
    assert sorted({left[max(one.start() - 20, 0) : one.start() + 20] for one in FORBIDDEN.finditer(left)}) == []
    assert left.count("##### ended with") == 15
    for shown in ("[bold red]no[/nope]", "␛]52;c;aGk=␇", "⟨U+202E⟩back"):
        assert left.count(shown) > 5


def test_a_list_of_suspect_labels_holds_texts_only_if_asked(folder: Path, tmp_path: Path) -> None:
    asked = ["audit", "--untaught", "-w", str(folder / "runs")]
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["suspects"]
    assert [one for one in found if {"prompt", "response"} & one.keys()] == []
    assert found[0]["row_ref"] == FORGED
    assert CliRunner().invoke(app, [*asked, "--texts", "--out", str(tmp_path / "whole.jsonl")]).exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert {one["response"] for one in rows} == {EVIL}
