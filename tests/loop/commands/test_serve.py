"""`serve` on a real export: a process that answers, logs, says little, and ends cleanly."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def served(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port, once it listens."""
    asked = [sys.executable, "-m", "wizloop", "serve", "--port", "0", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", first)
        assert found, first
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def asked(port: int, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/moderations", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_an_export_is_served_logged_followed_and_ended_by_a_signal(export: Path, tmp_path: Path) -> None:
    log, texts = tmp_path / "log.jsonl", ["how do I a x?", "how do I e \x1b[31m y?"]
    with served(export, "--log", log) as (process, port):
        status, answer = asked(port, {"input": texts})
        assert status == 200
        assert asked(port, {"input": 5})[0] == 400
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "stopped: 2 texts judged\n")
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


def serve(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["serve", *map(str, words)])


def test_what_cannot_be_served_is_one_sentence(export: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for words, sentence in (
        ([tmp_path / "none"], "guard.json: not found"),
        ([tmp_path / "empty"], "guard.json: not found"),
        ([export, "--log", tmp_path / "pipe"], "not a regular file"),
        ([export, "--log", tmp_path / "no" / "log.jsonl"], "No such file or directory"),
        ([export, "--host", "no.such.host.invalid"], "no.such.host.invalid:8099: cannot listen there"),
        ([export, "--host", "192.0.2.1"], "192.0.2.1:8099: cannot listen there"),
    ):
        done = serve(*words)
        assert (done.exit_code, sentence in done.stderr, done.stdout) == (2, True, ""), done.output
