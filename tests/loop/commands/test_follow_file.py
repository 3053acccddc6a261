"""`import --follow`: what a log holds comes into the pool once, whatever becomes of the log and of the command."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wizloop.loop.cli import app
from wizloop.store import samples
from wizloop.store.db import Store

SERVED = {"time": "2026-05-04T03:02:01.000+00:00", "verdict": "harmful", "probability": 0.9, "model": "g"}
SERVED |= {"sha256": "ab", "calibration": "cd"}


def add(path: Path, *rows: Any) -> None:
    with path.open("ab") as file:
        file.write(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))


def follow(path: Path, *words: str) -> Result:
    given = ["import", "--follow", str(path), "--split", "pool", "-w", str(path.parent / "runs"), *words]
    return CliRunner().invoke(app, given)


def once(path: Path, *words: str) -> dict[str, int]:
    done = follow(path, "--once", "--json", *words)
    assert done.exit_code == 0, done.output
    found: dict[str, int] = json.loads(done.stdout)
    return found


def pool(path: Path) -> list[samples.Sample]:
    with Store.open(path.parent / "runs", readonly=True) as store, store.read() as db:
        return samples.page(db, "pool", 0, 1000)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    add(tmp_path / "log.jsonl", {"prompt": "how do I knit?", **SERVED}, {"prompt": "how do I sew?", **SERVED})
    return tmp_path / "log.jsonl"


def test_what_a_served_guard_logged_joins_the_pool_without_its_own_verdict_as_a_label(log: Path) -> None:
    assert once(log) == {"rows": 2, "accepted": 2, "duplicates": 0, "conflicts": 0, "refused": 0}
    assert [(one.prompt, one.labels, one.row_ref) for one in pool(log)] == [
        ("how do I knit?", {}, "log.jsonl:1"),
        ("how do I sew?", {}, "log.jsonl:2"),
    ]


def test_it_resumes_where_it_stopped(log: Path) -> None:
    once(log)
    assert once(log)["rows"] == 0
    add(log, {"prompt": "how do I hem?", **SERVED}, {"prompt": "how do I knit?", **SERVED})
    assert once(log) == {"rows": 2, "accepted": 1, "duplicates": 1, "conflicts": 0, "refused": 0}
    assert [one.row_ref for one in pool(log)][-1] == "log.jsonl:3"


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[1]", b"not JSON", b'{"inode": "x", "offset": {}}'])
def test_rows_come_in_once_although_the_place_is_lost(log: Path, damaged: bytes) -> None:
    once(log)
    (kept,) = (log.parent / "runs" / "followed").iterdir()
    kept.write_bytes(damaged)
    assert once(log) == {"rows": 2, "accepted": 0, "duplicates": 2, "conflicts": 0, "refused": 0}


def test_bad_rows_are_told_and_hold_up_none(log: Path) -> None:
    bad = [b"not JSON\n", {"x": 1}, {"prompt": "a\0b"}, b'{"prompt": "\\ud800"}\n', b"\xff\n", {"prompt": ""}, b"[]\n"]
    for row in bad:
        add(log, row)
    add(log, {"prompt": "how do I hem?", **SERVED})
    done = follow(log, "--once")
    assert done.exit_code == 0, done.output
    assert "10 new rows, 3 accepted into pool" in done.stderr
    assert [line.partition(": row ")[2][:2] for line in done.stderr.splitlines()[:-1]] == [
        f"{n}:" for n in range(3, 10)
    ]


def test_every_part_is_read_as_the_files_first_row_shows(tmp_path: Path) -> None:
    """A line that alone would be another format is a bad row of this one, on every later call too."""
    log = tmp_path / "log.jsonl"
    add(log, {"text": "how do I knit?", "label": "safe"}, {"text": "how do I rob a bank?", "label": "unsafe"})
    assert once(log)["accepted"] == 2
    add(log, {"instruction": "how do I sew?", "input": "", "output": "so"})
    assert once(log) == {"rows": 1, "accepted": 0, "duplicates": 0, "conflicts": 0, "refused": 1}
    add(log, {"text": "how do I hem?", "label": "safe"}, {"text": "how do I knit?", "label": "unsafe"})
    assert once(log) == {"rows": 2, "accepted": 1, "duplicates": 0, "conflicts": 1, "refused": 0}
    assert [one.request for one in pool(log)] == ["unharmful", "harmful", "unharmful"]


def test_columns_are_mapped_and_labels_hidden_as_in_any_import(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    add(log, {"question": "how do I knit?", "state": "fine"})
    mapped = ("--map", "question=prompt", "--map", "state=label", "--label", "fine=unharmful")
    assert once(log, *mapped)["accepted"] == 1
    add(log, {"question": "how do I sew?", "state": "fine"})
    assert once(log, *mapped, "--hide-labels")["accepted"] == 1
    assert [one.request for one in pool(log)] == ["unharmful", None]


def test_unknown_columns_are_refused_and_read_once_they_are_mapped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    add(log, {"question": "how do I knit?"})
    done = follow(log, "--once")
    assert (done.exit_code, "map the one with the prompt: --map COLUMN=prompt" in done.stderr) == (2, True)
    assert once(log, "--map", "question=prompt")["accepted"] == 1


def test_a_row_that_is_in_dev_is_kept_out_of_training(log: Path) -> None:
    held = log.parent / "dev.jsonl"
    add(held, {"prompt": "HOW do I knit", "label": "safe"})
    CliRunner().invoke(app, ["import", str(held), "--split", "dev", "-w", str(log.parent / "runs")])
    assert once(log)["accepted"] == 2
    assert [one.prompt for one in pool(log)] == ["how do I sew?"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "dev"], "--follow adds to the pool"),
        (["--limit", "3"], "leave out --hub, --limit"),
        (["--dry-run"], "--follow takes neither --traces nor --dry-run"),
        (["--traces"], "--follow takes neither --traces nor --dry-run"),
    ],
)
def test_what_has_no_meaning_for_a_file_without_an_end_is_refused(log: Path, words: list[str], sentence: str) -> None:
    done = follow(log, *words)
    assert (done.exit_code, sentence in done.stderr) == (2, True)
    assert not (log.parent / "runs").exists()


@pytest.mark.parametrize("name", ["no.jsonl", "rows.csv", "log.jsonl.gz"])
def test_a_file_that_cannot_be_followed_is_refused(tmp_path: Path, name: str) -> None:
    done = follow(tmp_path / name, "--once")
    assert (done.exit_code, str(tmp_path / name) in done.stderr) == (2, True)


def test_once_without_follow_is_refused(log: Path) -> None:
    done = CliRunner().invoke(app, ["import", str(log), "--once"])
    assert (done.exit_code, "--once needs --follow" in done.stderr) == (2, True)


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("it does not come")


def test_rows_come_in_as_they_are_written_until_a_signal_ends_it(tmp_path: Path) -> None:
    log, workspace = tmp_path / "log.jsonl", tmp_path / "runs"
    Store.create(workspace).close()
    words = [sys.executable, "-m", "wizloop", "import", "--follow", str(log), "-w", str(workspace), "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        add(log, {"prompt": "how do I knit?"}, b'{"prompt": "how do')
        until(lambda: len(pool(log)) == 1)
        add(log, b' I sew?"}\n')
        until(lambda: len(pool(log)) == 2)
        log.rename(log.with_name("log.jsonl.1"))
        add(log, {"prompt": "how do I hem?"})
        until(lambda: len(pool(log)) == 3)
    finally:
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["accepted"]) == (0, 3), err
    assert err == f"{log}: following it into the pool of {workspace}; Ctrl-C ends it\n"
