"""`serve` on a real export: it answers, logs, says little, and ends cleanly."""

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
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
from wizloop.recipes import schema
from wizloop.store import samples
from wizloop.store.db import Store

TEXTS = [f"how do I {verb} a {thing} in the {place}?" for verb in "aeiou" for thing in "xyz" for place in "pqr"]
KNOWN = Calibration(thresholds={"request": {"direct": 0.4}}, scales={"request": {"direct": (0.5, 1.0)}})


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard of one narrow layer that knows nothing, with a calibration."""
    folder = tmp_path_factory.mktemp("exports") / "guard"
    fixed = ["Reasoning:\nAnswers:\nRequest: harmful\nRequest: unharmful\nHuman user:\n\nAI assistant:\nNone"]
    with artifacts.writing(folder, {}) as made:
        shape = tiny_guard.Shape(300, 1, 32, 64)
        tiny_guard.build(made, TEXTS, shape=shape, epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)
        guard_file.write(made, schema.load("demo"), Renderer(""), 8, known=KNOWN)
    return folder


def asked(port: int, body: Any) -> tuple[int, Any]:
    """The answer, once somebody listens on the port."""
    for _ in range(600):
        with contextlib.suppress(ConnectionRefusedError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/v1/moderations", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = answer.status, json.loads(answer.read())
            connection.close()
            return found
        time.sleep(0.1)
    raise AssertionError("nobody listens")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_an_export_is_served_logged_followed_and_ended_by_a_signal(
    export: Path, tmp_path: Path, end: signal.Signals
) -> None:
    log, texts, port = tmp_path / "log.jsonl", ["how do I a x?", "how do I e \x1b[31m y?"], free_port()

    def use() -> list[tuple[int, Any]]:
        found = [asked(port, {"input": given}) for given in (texts, 5)]
        # Signals arrive on the main thread, which serves.
        os.kill(os.getpid(), end)
        return found

    with ThreadPoolExecutor(1) as pool:
        used = pool.submit(use)
        done = serve(export, "--port", port, "--log", log)
    (status, answer), (refused, _) = used.result()
    begun = f"guard at http://127.0.0.1:{port}/v1/moderations, logged to {log}; Ctrl-C ends it\n"
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{begun}stopped: 2 texts judged\n")
    assert (status, refused) == (200, 400)
    own = [result["wizloop"] for result in answer["results"]]
    expected = list(load_guard(export).judge(texts))
    assert [one["verdict"] for one in own] == [one.verdict["request"] for one in expected]
    for got, one in zip(own, expected, strict=True):
        assert got["probability"] == pytest.approx(one.probability["request"], abs=1e-5)
        assert (got["threshold"], got["scale"]) == (one.threshold["request"], "platt")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["prompt"] for line in lines] == texts
    assert {line["sha256"] for line in lines} == {artifacts.verify(export)} == {own[0]["sha256"]}
    assert {line["calibration"] for line in lines} == {own[0]["calibration"]}
    followed = ["import", "--follow", "--once", str(log), "--split", "pool", "-w", str(tmp_path / "runs")]
    assert CliRunner().invoke(app, followed).exit_code == 0
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        assert [(one.prompt, one.labels) for one in samples.page(db, "pool", 0, 9)] == [(text, {}) for text in texts]


def serve(*words: object) -> Result:
    return CliRunner().invoke(app, ["serve", *map(str, words)])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{at}/none"], "none: not an exported guard: write one with `wizloop export"),
        (["{at}"], "not an exported guard: write one with `wizloop export"),
        (["{export}", "--log", "{at}/pipe"], "not a regular file"),
        (["{export}", "--log", "{at}/no/log.jsonl"], "No such file or directory"),
        (["{export}", "--host", "192.0.2.1"], "192.0.2.1:8099: cannot listen there"),
        (["{export}", "--port", "70000"], "70000 is not in the range"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(export: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = serve(*(word.format(at=tmp_path, export=export) for word in words))
    assert (done.exit_code, sentence in done.stderr, done.stdout) == (2, True, ""), done.output


def test_a_mistyped_file_for_an_export_is_named_and_no_workspace_is_asked_for(export: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--model", str(export), "--benchmark", "labelled.csv", "-w", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr.startswith("wizloop: labelled.csv: without a run only labeled files")) == (
        2,
        True,
    )
