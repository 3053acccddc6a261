"""A log is read as it grows: each whole line once, across half lines, truncation, rotation and a new start."""

import json
import os
from pathlib import Path

import pytest

from wizloop.loop.data import growing_file
from wizloop.loop.data.growing_file import MOST_LINES, Part, Place, read_part
from wizloop.loop.data.records import ImportRefused


def add(path: Path, *prompts: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("".join(json.dumps({"prompt": prompt}) + end for prompt in prompts))


def prompts(part: Part) -> list[str]:
    return [json.loads(line)["prompt"] for line in part.lines.splitlines() if line]


def read_all(path: Path, place: Place | None) -> tuple[list[str], Place | None, str]:
    """All that there is after a place, where it ends, and what was told."""
    found, told = [], ""
    while True:
        part = read_part(path, place)
        place = part.place
        found += prompts(part)
        told += part.told
        if not part.more:
            return found, place, told


@pytest.fixture
def log(tmp_path: Path) -> Path:
    add(tmp_path / "log.jsonl", "one", "two")
    return tmp_path / "log.jsonl"


def test_what_was_read_is_not_read_again_and_what_is_new_is(log: Path) -> None:
    first = read_part(log, None)
    assert (prompts(first), first.first, first.more) == (["one", "two"], 1, False)
    assert read_part(log, first.place) == Part(b"", 3, first.place, more=False)
    add(log, "three")
    second = read_part(log, first.place)
    assert (prompts(second), second.first) == (["three"], 3)


def test_a_half_line_waits_for_its_rest(log: Path) -> None:
    _, place, _ = read_all(log, None)
    add(log, "thr", end="")
    os.truncate(log, log.stat().st_size - 2)
    assert read_part(log, place)[:3] == (b"", 3, place)
    with log.open("a") as file:
        file.write('ee"}\n')
    assert prompts(read_part(log, place)) == ["three"]


def test_an_object_without_a_line_end_is_whole_and_keeps_the_numbers(log: Path) -> None:
    _, place, _ = read_all(log, None)
    add(log, "three", end="")
    third = read_part(log, place)
    assert (prompts(third), third.first) == (["three"], 3)
    with log.open("a") as file:
        file.write("\n")
    add(log, "four")
    rest = read_part(log, third.place)
    assert (rest.lines, rest.first) == (b'\n{"prompt": "four"}\n', 3)


def test_a_long_file_comes_in_parts(log: Path) -> None:
    add(log, *map(str, range(600)))
    part = read_part(log, None)
    assert (len(prompts(part)), part.more) == (MOST_LINES, True)
    found, place, _ = read_all(log, None)
    assert (len(found), place.lines if place else None) == (602, 602)


@pytest.mark.parametrize("new", [["x"], ["one", "two", "three"], ["another", "and a line that is longer than before"]])
def test_a_file_that_was_emptied_or_written_anew_is_read_from_its_beginning(log: Path, new: list[str]) -> None:
    """As copytruncate does it; the file may be as long as before by the next look."""
    _, place, _ = read_all(log, None)
    kept = log.stat().st_ino
    os.truncate(log, 0)
    add(log, *new)
    assert log.stat().st_ino == kept
    found, _, told = read_all(log, place)
    again = new[:2] == ["one", "two"]
    assert found == (new[2:] if again else new)
    assert bool(told) is not again


@pytest.mark.parametrize("name", ["log.jsonl.1", "log.jsonl-20260504"])
def test_the_end_of_a_rotated_file_is_read_before_the_new_one(log: Path, name: str) -> None:
    _, place, _ = read_all(log, None)
    add(log, "three")
    log.rename(log.with_name(name))
    # Nothing has taken its place yet: its writer may still have it open.
    found, place, told = read_all(log, place)
    assert (found, told) == (["three"], "")
    add(log.with_name(name), "four")
    add(log, "five")
    found, place, told = read_all(log, place)
    assert (found, told) == (["four", "five"], "")
    assert place is not None
    assert place.inode == log.stat().st_ino


def test_files_that_came_and_went_in_between_are_read_in_their_order(log: Path) -> None:
    _, place, _ = read_all(log, None)
    first, second = log.with_name("log.jsonl.2"), log.with_name("log.jsonl.1")
    add(log, "three")
    log.rename(first)
    add(log, "four")
    log.rename(second)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    add(log, "five")
    assert read_all(log, place)[0] == ["three", "four", "five"]


def test_a_file_whose_earlier_one_is_gone_is_read_and_the_gap_is_told(log: Path) -> None:
    _, place, _ = read_all(log, None)
    add(log.with_name("new"), "three")
    log.with_name("new").replace(log)
    found, _, told = read_all(log, place)
    assert found == ["three"]
    assert "rows at its end may be missing" in told


def test_another_file_beside_it_is_not_taken_for_a_rotated_one(log: Path) -> None:
    _, place, _ = read_all(log, None)
    for name in ("log.jsonl.gz", "log.jsonl.bak", "log-errors.jsonl", "xlog.jsonl.1"):
        add(log.with_name(name), "not of this log")
    add(log, "three")
    assert read_all(log, place)[0] == ["three"]
    log.rename(log.with_name("log.jsonl.1"))
    add(log, "four")
    assert read_all(log, place)[0] == ["three", "four"]


def test_a_file_that_is_not_there_yet_is_read_once_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_part(path, None) == Part(b"", 1, None, more=False)
    add(path, "one")
    assert prompts(read_part(path, None)) == ["one"]


def test_a_line_without_end_is_cut_and_does_not_hide_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "_LONGEST", 1000)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"x" * 2500)
    assert read_part(path, None).lines == b""
    with path.open("ab") as file:
        file.write(b"y\n")
    add(path, "one")
    part = read_part(path, None)
    assert part.lines == b"x" * 1000 + b'\n{"prompt": "one"}\n'
    assert part.place is not None
    assert (part.place.offset, part.place.lines) == (path.stat().st_size, 2)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log.jsonl"
    {"pipe": os.mkfifo, "folder": os.mkdir}[kind](path)
    with pytest.raises(ImportRefused, match="cannot be"):
        read_part(path, None)
