"""A hundred thousand rows of every kind of trouble, as JSON Lines, JSON, CSV and Parquet: each is accounted for.

Rows in are rows accepted, there already, contradicting or refused with a reason; what was accepted reads back.
"""

import csv
import json
import random
import string
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from wizloop.loop.data import import_file
from wizloop.loop.data.import_file import RowsRefused
from wizloop.loop.data.records import ImportRefused
from wizloop.recipes.sections import Data, Split
from wizloop.store import samples
from wizloop.store.db import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = {"jsonl": 70_000, "json": 10_000, "csv": 15_000, "parquet": 5_000}
PLAIN = string.printable + "é→漢🙂\u202e\u200b\x1b\x07\x7f\x85\u2028ﬁ"
LABELS: tuple[object, ...] = (
    "safe",
    "unsafe",
    "harmful",
    "0",
    "1",
    0,
    1,
    True,
    None,
    "",
    "maybe",
    "unharmfull",
    3.5,
    [],
    {},
)


def text(rng: random.Random) -> str:
    return "".join(rng.choices(PLAIN, k=rng.choice((0, 1, 5, 20, 60))))


def row(rng: random.Random) -> dict[str, object]:
    """One record, whole or with something odd in it."""
    made: dict[str, object] = {"prompt": text(rng), "label": rng.choice(LABELS)}
    odd = rng.randrange(12)
    if odd == 0:
        made["prompt"] = rng.choice((None, 7, [], {}, "\0", "a\0b", "\ud800", " \t ", "=cmd()|'/c calc'!A0"))
    elif odd == 1:
        made["response"] = rng.choice((None, "", "text", 9, "\ud800x", ["a"]))
    elif odd == 2:
        del made[rng.choice(("prompt", "label"))]
    elif odd == 3:
        made["id"] = rng.randrange(50)
    elif odd == 4:
        made[rng.choice(("source", "policy"))] = rng.choice((None, 5, "x", "\ud800", text(rng)))
    return made


def line(rng: random.Random) -> bytes:
    """One line of JSON, or of what somebody takes for it."""
    written = json.dumps(row(rng)).encode()
    return rng.choices(
        (
            lambda: written,
            lambda: written[: rng.randrange(len(written))].replace(b"\n", b""),
            lambda: written.replace(b"e", b"\xff", 1),
            lambda: b'{"prompt": "a", "prompt": "b", "label": 0}',
            lambda: b'{"prompt": "a", "label": ' + rng.choice((b"NaN", b"Infinity", b"9" * 5000, b"1e999")) + b"}",
            lambda: b"[" * rng.choice((3, 3000)),
            lambda: rng.choice((b"null", b"3", b"[]", b'"bare"', b"{}", b"\x00", b"\xef\xbb\xbf{}")),
            lambda: b"\xf0\x28\x8c\x28",
        ),
        weights=(90, 2, 2, 1, 2, 1, 2, 1),
    )[0]()


def write_jsonl(path: Path, rng: random.Random, rows: int) -> int:
    made = [b'{"prompt": "the first", "label": 0}', *(line(rng) for _ in range(rows - 1))]
    path.write_bytes(b"\n".join(made))
    return sum(bool(one.decode(errors="surrogateescape").strip()) for one in made)


def write_json(path: Path, rng: random.Random, rows: int) -> int:
    made: list[object] = [{"prompt": "the first", "label": 0}]
    for _ in range(rows - 1):
        made.append(row(rng) if rng.random() < 0.95 else rng.choice((None, 5, "bare", [1], float("nan"))))
    path.write_text(json.dumps(made, indent=rng.choice((None, 1))))
    return rows


def write_csv(path: Path, rng: random.Random, rows: int) -> int:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "label", "response"))
        writer.writerow(("the first", "0", ""))
        for _ in range(rows - 1):
            made = row(rng)
            cells = [str(made.get(name, "")).replace("\ud800", "\udcff") for name in ("prompt", "label", "response")]
            writer.writerow(cells[: rng.choice((3, 3, 3, 3, 3, 3, 2))])
    return rows


def write_parquet(path: Path, rng: random.Random, rows: int) -> int:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [None if rng.random() < 0.02 else text(rng) + rng.choice(("", "", "", "\0")) for _ in range(rows)]
    labels = [rng.choice(("safe", "harmful", None, "maybe")) for _ in range(rows)]
    texts[0], labels[0] = "the first", "safe"
    parquet.write_table(pyarrow.table({"prompt": texts, "label": labels}), path)
    return rows


WRITERS: dict[str, Callable[[Path, random.Random, int], int]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("kind", list(WRITERS))
@pytest.mark.parametrize("split", ["pool"])
def test_every_row_is_accounted_for_and_every_accepted_one_reads_back(tmp_path: Path, kind: str, split: Split) -> None:
    rng = random.Random(f"fuzz {kind}")
    path = tmp_path / f"rows.{kind}"
    rows = WRITERS[kind](path, rng, ROWS[kind])
    with pytest.raises(RowsRefused, match=str(path)) as refusal:
        import_file.check(Data(path=str(path), split=split), np.random.default_rng(0))
    whole = refusal.value.report
    assert whole.rows == whole.withheld + len(whole.refused) == rows
    assert 0 < len(whole.bad) < len(whole.refused)
    checked = import_file.check(Data(path=str(path), split=split, skip_bad=True), np.random.default_rng(0))
    with Store.create(tmp_path / "runs") as store, checked.spool:
        import_file.write(store, checked, NOW)
        taken, spooled = checked.report, {(row[1], row[2]) for piece in checked.batches() for row in piece}
        assert taken.rows == rows
        assert taken.accepted + taken.duplicates + taken.conflicts + len(taken.refused) == rows
        assert taken.accepted + taken.duplicates + taken.conflicts == whole.withheld
        assert taken.refused == whole.refused
        assert all(refused.reason for refused in taken.refused)
        assert min(taken.accepted, len(taken.refused)) > rows // 20
        with store.read() as db:
            there = {(one.prompt, one.response) for one in samples.page(db, split, 0, rows)}
    assert len(there) == taken.accepted
    assert there == spooled


def test_lines_of_pure_noise_never_crash_the_reader(tmp_path: Path) -> None:
    rng = random.Random(5)
    for kind in ("jsonl", "json", "csv", "parquet", "jsonl.gz"):
        for number in range(100):
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(rng.randbytes(rng.randrange(300)))
            with pytest.raises(ImportRefused, match=str(path)):
                import_file.check(Data(path=str(path), split="pool"), np.random.default_rng(0))
