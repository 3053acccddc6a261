"""The log of a served guard: whole lines, across rotation, a broken line and a full disk."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.loop.serving.served import MODEL, NOW, serving
from wizloop.loop.api import Verdict
from wizloop.loop.serving.answer_log import AnswerLog

VERDICT = Verdict({"request": "harmful"}, {"request": 0.75}, 0.5, "confident_block", None, 0)
UNREAD = Verdict({"request": None}, {}, 0.0, None, None, 0)


def prompts(*files: Path) -> list[str]:
    return [json.loads(line)["prompt"] for file in files for line in file.read_text().splitlines()]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As on a full disk, a write is cut off there and then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_text_is_one_line_for_its_owner_whatever_it_holds(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", MODEL)
    texts = ["two\nlines\r\u2028and\x85more", "\x1b[31mred \U0001f600"]
    log.add(texts, [VERDICT, UNREAD], NOW)
    assert prompts(log.path) == texts
    assert log.path.read_bytes().isascii()
    assert log.path.stat().st_mode & 0o777 == 0o600
    second = json.loads(log.path.read_text().splitlines()[1])
    assert (second["verdict"], second["probability"]) == (None, None)


@pytest.mark.parametrize("removed", [True, False])
def test_a_log_that_was_rotated_goes_on_in_a_new_file(tmp_path: Path, removed: bool) -> None:
    log, old = AnswerLog(tmp_path / "log.jsonl", MODEL), tmp_path / "log.jsonl.1"
    log.add(["one"], [VERDICT], NOW)
    log.path.rename(old)
    if removed:
        old.unlink()
    log.add(["two"], [VERDICT], NOW)
    assert prompts(log.path) == ["two"]
    assert not removed or not old.exists()


def test_a_log_that_was_emptied_goes_on_at_its_beginning(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", MODEL)
    log.add(["one"], [VERDICT], NOW)
    os.truncate(log.path, 0)
    log.add(["two"], [VERDICT], NOW)
    assert prompts(log.path) == ["two"]


def test_a_line_that_a_killed_server_broke_off_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt": "one"}\n{"prompt": "tw')
    AnswerLog(path, MODEL).add(["three"], [VERDICT], NOW)
    first, broken, last = path.read_text().splitlines()
    assert (json.loads(first)["prompt"], broken, json.loads(last)["prompt"]) == ("one", '{"prompt": "tw', "three")


def test_a_full_disk_costs_the_line_that_did_not_fit_and_no_other(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", MODEL)
    log.add(["one"], [VERDICT], NOW)
    with no_file_larger_than(log.path.stat().st_size + 20), pytest.raises(OSError, match="too large"):
        log.add(["two"], [VERDICT], NOW)
    log.add(["three"], [VERDICT], NOW)
    first, _, last = log.path.read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in (first, last)] == ["one", "three"]


def test_texts_are_judged_while_the_log_cannot_be_written_and_that_is_told_once(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", MODEL)
    with serving(log) as served:
        with no_file_larger_than(10):
            assert [served.ask({"input": "how do I knit?"})[0] for _ in range(2)] == [200, 200]
        assert served.ask({"input": "how do I sew?"})[0] == 200
        assert served.ask(None, "GET", "/health")[1]["unlogged"] == 2
        assert served.told == [f"{log.path}: cannot be written, texts are judged without it: File too large"]
    assert "how do I sew?" in log.path.read_text()
    assert "knit" not in log.path.read_text()


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        AnswerLog(tmp_path / "pipe", MODEL)
