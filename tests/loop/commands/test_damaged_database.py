"""A database with flipped bits, cut off, or under too long a path: a sentence and a status, never a traceback."""

import random
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from wizloop.loop.cli import app
from wizloop.store.sqlite import DB_NAME

READERS = (
    ["status", "--json"],
    ["rounds", "--json"],
    ["costs", "--json"],
    ["review", "--list"],
    ["teach", "--unanswered"],
    ["pause"],
    ["upgrade"],
)


def ended(workspace: Path, words: list[str]) -> tuple[int, str]:
    """Return the exit status and stderr of a command, which may not end with an exception."""
    done = CliRunner().invoke(app, [*words, "-w", str(workspace)])
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exc_info)
    return done.exit_code, done.stderr


def flipped(workspace: Path, to: Path, seed: int) -> Path:
    """Copy a workspace and flip 40 bits of its database, one in three inside a text."""
    shutil.copytree(workspace, to)
    rng, path = random.Random(seed), to / DB_NAME
    found = bytearray(path.read_bytes())
    texts = [at for at, byte in enumerate(found) if 32 <= byte < 127]
    for number in range(40):
        at = rng.choice(texts) if number % 3 == 0 else rng.randrange(100, len(found))
        found[at] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(found))
    return to


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(n, marks=pytest.mark.long) for n in range(6, 60))])
def test_flipped_bits_are_a_sentence_for_every_command(after_a_night: Path, tmp_path: Path, seed: int) -> None:
    damaged = flipped(after_a_night, tmp_path / "damaged", seed)
    for words in READERS:
        status, said = ended(damaged, words)
        assert status in (0, 1, 2)
        assert bool(said) >= bool(status)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run SET created_at", "'2026-05-04T03:02:71.000000Z'"),
        ("run SET created_at", "CAST(x'32303236ff' AS TEXT)"),
        ("rounds SET record", "'{\"cells\": {'"),
        ("evaluations SET metrics_json", "'{\"f1\": 0.'"),
    ],
)
def test_a_value_that_was_never_written_is_named(after_a_night: Path, column: str, value: str) -> None:
    from wizloop.store import sqlite

    raw = sqlite.connect(after_a_night / DB_NAME, "rw", sqlite.driver())
    raw.execute(f"UPDATE {column} = {value}")
    raw.close()
    status, said = ended(after_a_night, ["rounds", "--json"])
    assert (status, said.endswith("restore a backup\n")) == (2, True)


def test_a_text_that_became_a_blob_is_named(tmp_path: Path) -> None:
    from wizloop.store import sqlite

    file, runs = tmp_path / "pool.jsonl", tmp_path / "runs"
    file.write_text('{"prompt": "how do I knit"}\n', encoding="utf-8")
    assert ended(runs, ["import", str(file), "--split", "pool"])[0] == 0
    raw = sqlite.connect(runs / DB_NAME, "rw", sqlite.driver())
    raw.execute("PRAGMA ignore_check_constraints = ON")
    raw.execute("UPDATE samples SET prompt = CAST(prompt AS BLOB)")
    raw.close()
    status, said = ended(runs, ["doctor"])
    assert (status, said.endswith("restore a backup\n")) == (2, True)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_database_that_was_cut_off_is_a_sentence(after_a_night: Path, size: int) -> None:
    path = after_a_night / DB_NAME
    path.write_bytes(path.read_bytes()[:size])
    assert ended(after_a_night, ["status"])[0] == 2


@pytest.mark.parametrize("words", [*READERS, ["start", "--headless"], ["doctor"]])
def test_too_long_a_path_is_refused_by_its_length(tmp_path: Path, words: list[str]) -> None:
    long = tmp_path.joinpath(*["deep" * 20] * 7)
    status, said = ended(long, words)
    assert status in (1, 2) if words == ["doctor"] else status == 2
    assert words == ["doctor"] or "takes at most 489 bytes" in said


def test_too_long_a_name_is_bad_input(tmp_path: Path) -> None:
    assert ended(tmp_path / ("x" * 300), ["status"]) == (
        2,
        f"wizloop: {tmp_path / ('x' * 300) / DB_NAME}: File name too long\n",
    )
