"""`import` and `leaks` from the command line: one transaction, dry runs, bad files, hostile text, a night at work."""

import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from wizloop.loop.commands import import_data
from wizloop.loop.commands.import_data import import_, leaks
from wizloop.loop.controller import lock
from wizloop.loop.data import import_file
from wizloop.recipes.sections import Data
from wizloop.store import samples
from wizloop.store.db import Store

GOOD = {"prompt": "how do I knit", "label": "safe"}
HOSTILE = "kill \x1b]52;c;aGk=\x07 \x9b31m [bold red]a process[/nope] \u202eback \u200b"


def run(*words: str | Path, workspace: Path) -> Result:
    return CliRunner().invoke(import_, [*map(str, words), "-w", str(workspace)])


def lines(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    return path


def counts(workspace: Path) -> dict[str, int]:
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        return samples.counts(db)


def test_the_format_and_every_row_are_told(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", GOOD, {**GOOD, "label": None}, {**GOOD, "label": "unsafe"}, GOOD)
    said = run(file, "--split", "seed", workspace=tmp_path / "runs")
    assert (said.exit_code, said.stdout) == (0, "")
    assert f"{file}: format columns\n4 rows, 1 accepted into seed\n" in said.stderr
    assert (
        "  request: 1 harmful, 2 unharmful (duplicates included)\n1 duplicates, 1 conflicting labels\n1 refused\n"
        in said.stderr
    )
    assert "  row 2: no request label\n" in said.stderr


def test_columns_that_are_not_read_are_told_and_named_in_the_refusal(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", {"prompt": "how do I knit", "verdict": "x"})
    told = "ignored columns: verdict"
    assert f"format columns; {told}\n" in run(file, workspace=tmp_path / "runs").stderr
    refused = run(file, "--split", "dev", workspace=tmp_path / "runs")
    assert refused.exit_code == 2
    assert f"no label, and a sample of dev needs one (a file of columns: {told})" in refused.stderr


@pytest.mark.parametrize(("split", "status"), [("dev", 2), ("test", 2), ("seed", 0), ("pool", 0)])
def test_labels_are_hidden_where_nothing_is_measured_by_them(tmp_path: Path, split: str, status: int) -> None:
    said = run(lines(tmp_path / "a.jsonl", GOOD), "--split", split, "--hide-labels", workspace=tmp_path / "runs")
    assert said.exit_code == status
    assert (f"the labels of {split} cannot be hidden: it is measured by them" in said.stderr) == (status == 2)
    assert (tmp_path / "runs").exists() == (status == 0)


def test_the_same_file_twice_adds_nothing_and_says_so(tmp_path: Path) -> None:
    file, workspace = lines(tmp_path / "a.jsonl", GOOD, {"prompt": "b", "label": "unsafe"}), tmp_path / "runs"
    first = json.loads(run(file, "--json", workspace=workspace).stdout)
    again = run(file, workspace=workspace)
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert "nothing new: every text was already imported" in again.stderr
    assert counts(workspace)["pool"] == 2


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    file, workspace = lines(tmp_path / "a.jsonl", GOOD, GOOD), tmp_path / "runs"
    dry = json.loads(run(file, "--dry-run", "--json", workspace=workspace).stdout)
    assert not workspace.exists()
    wet = json.loads(run(file, "--json", workspace=workspace).stdout)
    assert {**wet, "dry_run": True} == dry
    assert (dry["accepted"], dry["duplicates"]) == (1, 1)
    more = lines(tmp_path / "b.jsonl", GOOD, {"prompt": "", "label": None}, {"prompt": "newer", "label": "safe"})
    dry = json.loads(run(more, "--dry-run", "--json", workspace=workspace).stdout)
    assert (dry["accepted"], dry["duplicates"], dry["refused"][0]["row"]) == (1, 1, 2)
    assert counts(workspace)["pool"] == 1


BAD_ROWS = [
    pytest.param(b'{"prompt": "caf\xe9", "label": "safe"}\n', "not UTF-8", id="bad UTF-8"),
    pytest.param({"prompt": "a\0b", "label": "safe"}, "NUL", id="NUL"),
    pytest.param({"prompt": "x" * 10_000_000, "label": "safe"}, "10,000,000 bytes, more than", id="10 MB"),
    pytest.param({"question": "what", "label": "safe"}, "no column 'prompt'", id="mixed schemas"),
    pytest.param(b'{"prompt": "a", "label": "safe"\n', "not JSON", id="a line that breaks off"),
    pytest.param(b'{"prompt": "a", "prompt": "b", "label": "safe"}\n', "occurs twice", id="a key twice"),
    pytest.param(b'{"prompt": "\\ud800", "label": "safe"}\n', "lone surrogate", id="a lone surrogate"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_ROWS)
def test_a_bad_row_refuses_the_whole_file_and_leaves_no_trace_unless_it_is_to_be_skipped(
    tmp_path: Path, bad: Any, reason: str
) -> None:
    file, workspace = lines(tmp_path / "a.jsonl", GOOD, bad, {**GOOD, "prompt": " "}), tmp_path / "runs"
    said = run(file, "--json", workspace=workspace)
    assert said.exit_code == 2
    assert f"{file}: row 2: " in said.stderr
    assert reason in said.stderr
    assert "; none of its 3 rows was imported: fix the file, or skip its bad rows" in said.stderr
    assert not workspace.exists()
    refused = json.loads(said.stdout)
    assert [(one["row"], one["bad"]) for one in refused["refused"]] == [(2, True), (3, False)]
    assert (refused["rows"], refused["accepted"], refused["withheld"]) == (3, 0, 1)
    said = run(file, "--skip-bad", "--json", workspace=workspace)
    taken = json.loads(said.stdout)
    assert said.exit_code == 0, said.stderr
    assert (taken["accepted"], taken["withheld"], taken["refused"]) == (1, 0, refused["refused"])
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        assert [one.prompt for one in samples.page(db, "pool", 0, 9)] == ["how do I knit"]


def test_bad_rows_are_named_up_to_ten_and_a_workspace_that_is_there_stays_as_it_was(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    assert run(lines(tmp_path / "a.jsonl", GOOD), workspace=workspace).exit_code == 0
    bad = [{"prompt": "a\0", "label": "safe"}] * 12
    file = lines(tmp_path / "b.jsonl", {**GOOD, "prompt": "new"}, {**GOOD, "prompt": ""}, *bad)
    for words in ([], ["--dry-run"], ["--limit", "2"]):
        said = run(file, *words, workspace=workspace)
        assert said.exit_code == 2
        listed = [line for line in said.stderr.splitlines() if line.startswith("  ")]
        assert listed[:2] == [f"  row {row}: the prompt holds a NUL character" for row in (3, 4)]
        assert listed[9:] == ["  row 12: the prompt holds a NUL character", "  and 2 more"]
        assert "row 3: the prompt holds a NUL character, and bad rows after it: 11; none of its" in said.stderr
        assert counts(workspace)["pool"] == 1
    # What lies behind the last row that is asked for is not looked at.
    assert run(file, "--limit", "1", workspace=workspace).exit_code == 0
    said = run(file, "--skip-bad", workspace=workspace)
    assert (said.exit_code, counts(workspace)["pool"]) == (0, 2)
    assert "13 refused, 12 of them bad rows\n  row 2: the prompt is empty" in said.stderr


@pytest.mark.parametrize("ids", [(7, 7, 8), (None, None, None), ("", "", ""), (None, 3, None)])
def test_an_id_that_is_shared_or_missing_refuses_nothing(tmp_path: Path, ids: tuple[object, ...]) -> None:
    rows = [{"id": one, "prompt": text} for one, text in zip(ids, ("one", "eins", "one"), strict=True)]
    file = lines(tmp_path / "a.jsonl", *rows)
    found = json.loads(run(file, "--json", workspace=tmp_path / "runs").stdout)
    assert (found["accepted"], found["duplicates"], found["refused"]) == (2, 1, [])


def test_the_turns_of_a_conversation_are_taken_as_asked(tmp_path: Path) -> None:
    said = ["how do I knit", "With yarn.", "and purl", "Backwards."]
    talk = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
    file = lines(tmp_path / "a.jsonl", {"messages": talk, "label": "safe"})
    told = run(file, "--turns", "each", workspace=tmp_path / "runs")
    assert "label is about the last turn (about the request: --map label=request_label)" in told.stderr
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        found = [(one.prompt, one.response, one.response_label, one.row_ref) for one in samples.page(db, "pool", 0, 9)]
    assert found == [(*said[:2], None, "a.jsonl:1.1"), (*said[2:], "unharmful", "a.jsonl:1.2")]
    refused = run(file, "--split", "dev", workspace=tmp_path / "runs")
    assert refused.exit_code == 2
    assert "its label is about the last of 2 turns, and the first was taken" in refused.stderr
    assert run(file, "--split", "dev", "--turns", "last", workspace=tmp_path / "runs").exit_code == 0


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_file_may_have_a_name_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a"]}), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("prompt\na\n")
    lines(tmp_path / "rows.jsonl", {"prompt": "a"})
    odd = tmp_path / os.fsdecode(b"caf\xe9-" + name.encode())
    try:
        (tmp_path / name).rename(odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    said = run(odd, workspace=tmp_path / "runs")
    assert said.exit_code == 0, said.stderr
    assert "caf\u27e8U+DCE9\u27e9" in said.stderr
    with Store.open(tmp_path / "runs", readonly=True) as store, store.read() as db:
        (row,) = samples.page(db, "pool", 0, 9)
    assert (row.source, row.row_ref) == (f"caf\\xe9-{name}", f"caf\\xe9-{name}:1")


def zipped(path: Path) -> Path:
    path.write_bytes(gzip.compress(b"".join(b'{"prompt": "row %d"}\n' % number for number in range(20_000)))[:-900])
    return path


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        pytest.param(
            lambda at: zipped(at / "a.jsonl.gz"), "the gzip data are damaged or truncated there", id="a truncated gzip"
        ),
        pytest.param(lambda at: lines(at / "a.jsonl"), "it has no rows", id="an empty file"),
        pytest.param(lambda at: lines(at / "a.json"), "it has no rows", id="an empty list's file"),
        pytest.param(lambda at: at, "it is a folder", id="a folder"),
        pytest.param(lambda at: at / "none.csv", "no such file", id="no file"),
        pytest.param(
            lambda at: lines(at / "a.jsonl", {"x": 1}), "unknown columns (x), none of them prompt", id="columns"
        ),
        pytest.param(lambda at: lines(at / "a.jsonl", b"{", b"\xff\xff"), "no row can be read", id="no row"),
        pytest.param(lambda at: lines(at / "a.jsonl", {"text": 5}), "no row can be used for pool", id="no text"),
        pytest.param(lambda at: lines(at / "a.parquet", b"PAR1 no"), "cannot be read as Parquet", id="no Parquet"),
        pytest.param(lambda at: lines(at / "a.csv", b'prompt\n"a\n'), "not CSV near line", id="an open quote"),
    ],
)
def test_a_bad_file_makes_no_workspace_and_changes_none(tmp_path: Path, made: Any, sentence: str) -> None:
    file, workspace = made(tmp_path), tmp_path / "runs"
    said = run(file, workspace=workspace)
    assert (said.exit_code, said.stdout) == (2, "")
    assert sentence in said.stderr
    assert str(file) in said.stderr
    assert not workspace.exists()
    run(lines(tmp_path / "good.jsonl", GOOD), workspace=workspace)
    assert run(file, workspace=workspace).exit_code == 2
    assert counts(workspace)["pool"] == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    assert "it is not a regular file" in run(tmp_path / "a.jsonl", workspace=tmp_path / "runs").stderr


def test_hostile_text_is_kept_to_the_letter_and_shown_harmless(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    assert run(lines(tmp_path / "t.jsonl", {**GOOD, "prompt": HOSTILE}), "--split", "test", workspace=workspace)
    said = run(
        lines(tmp_path / "p.jsonl", {**GOOD, "prompt": HOSTILE.upper()}, {"prompt": "b", "label": HOSTILE}),
        workspace=workspace,
    )
    listed = CliRunner().invoke(leaks, ["-w", str(workspace)])
    for shown in (said.stderr, listed.stdout, listed.stderr):
        assert not set(shown) & set("\x1b\x07\x9b\u202e\u200b")
    assert "⟨U+202E⟩" in listed.stdout
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        assert samples.page(db, "test", 0, 9)[0].prompt == HOSTILE


def test_what_an_import_leaks_is_kept_out_and_listed(tmp_path: Path) -> None:
    words = "please tell me in plain words how the old lighthouse keeper mended his broken lamp before the storm"
    pool = [{"prompt": text, "label": "safe"} for text in (words.upper() + "!", words + " came", "nothing like it")]
    workspace = tmp_path / "runs"
    assert run(lines(tmp_path / "pool.jsonl", *pool), workspace=workspace).exit_code == 0
    said = run(lines(tmp_path / "test.jsonl", {**GOOD, "prompt": words}), "--split", "test", workspace=workspace)
    assert "2 rows are excluded from training because they are in dev or test" in said.stderr
    found = json.loads(CliRunner().invoke(leaks, ["--json", "-w", str(workspace)]).stdout)["leaks"]
    held = {"sample": 4, "split": "test", "row": "test.jsonl:1"}
    assert [(one["row"], one["kind"], one["similarity"], one["held_out"]) for one in found] == [
        ("pool.jsonl:1", "exact", 1.0, held),
        ("pool.jsonl:2", "near", 0.9412, held),
    ]
    assert counts(workspace) == {"pool": 1, "seed": 0, "dev": 0, "test": 1}
    # The other way round: what measures is there first.
    said = run(lines(tmp_path / "seed.jsonl", {**GOOD, "prompt": words + "??"}), "--split", "seed", workspace=workspace)
    assert "1 rows are excluded" in said.stderr


def test_a_long_import_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_data, "_PROGRESS_ROWS", 2000)
    workspace = tmp_path / "runs"
    pool = lines(tmp_path / "pool.jsonl", *({"prompt": f"text {n}"} for n in range(4500)))
    assert run(lines(tmp_path / "test.jsonl", GOOD), "--split", "test", workspace=workspace).exit_code == 0
    said = run(pool, workspace=workspace)
    assert [line for line in said.stderr.splitlines() if " rows " in line][:7] == [
        "2,000 rows read",
        "4,000 rows read",
        "2,000 rows written",
        "4,000 rows written",
        "4,500 rows written, now indexed and committed",
        "2,000 rows compared with dev and test",
        "4,000 rows compared with dev and test",
    ]


def test_leaks_of_an_import_that_was_killed_before_it_looked_for_them_are_found_by_the_next(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    test = lines(tmp_path / "test.jsonl", {**GOOD, "prompt": "How do I?"})
    pool = lines(tmp_path / "pool.jsonl", {"prompt": "how do i"}, {"prompt": "nothing like it"})
    assert run(test, "--split", "test", workspace=workspace).exit_code == 0
    checked = import_file.check(Data(path=str(pool), split="pool"), np.random.default_rng(0))
    with checked.spool, Store.open(workspace) as store:
        import_file.write(store, checked, datetime(2026, 1, 1, tzinfo=UTC))
    assert counts(workspace)["pool"] == 2
    said = json.loads(run(pool, "--json", workspace=workspace).stdout)
    assert (said["accepted"], said["duplicates"], said["leaks"]) == (0, 2, 1)
    assert counts(workspace)["pool"] == 1


@pytest.mark.parametrize("first", ["pool", "test"])
def test_one_text_in_both_is_measured_and_not_trained_on_whichever_came_first(tmp_path: Path, first: str) -> None:
    workspace = tmp_path / "runs"
    files = {
        "pool": lines(tmp_path / "pool.jsonl", {"prompt": "same"}, {"prompt": "only in the pool"}),
        "test": lines(tmp_path / "test.jsonl", {"prompt": "same", "label": "unsafe"}, {"prompt": "b", "label": "safe"}),
    }
    for split in (first, "test" if first == "pool" else "pool"):
        assert run(files[split], "--split", split, workspace=workspace).exit_code == 0
    assert counts(workspace) == {"pool": 1, "seed": 0, "dev": 0, "test": 2}
    with Store.open(workspace, readonly=True) as store, store.read() as db:
        assert samples.label_counts(db) == {"test": {"request": {"harmful": 1, "unharmful": 1}}}
        measured = samples.page(db, "test", 0, 9)
    (same,) = (one for one in measured if one.prompt == "same")
    assert (same.row_ref, same.source, same.request) == ("test.jsonl:1", "test.jsonl", "harmful")
    (leak,) = json.loads(CliRunner().invoke(leaks, ["--json", "-w", str(workspace)]).stdout)["leaks"]
    assert leak == {
        "split": "pool",
        "source": "pool.jsonl",
        "row": "pool.jsonl:1",
        "sample": None,
        "prompt": "same",
        "kind": "exact",
        "similarity": 1.0,
        "held_out": {"sample": same.id, "split": "test", "row": "test.jsonl:1"},
    }
    # Again, in either order, nothing changes.
    for split, file in files.items():
        assert json.loads(run(file, "--split", split, "--json", workspace=workspace).stdout)["leaks"] == 0
    assert counts(workspace) == {"pool": 1, "seed": 0, "dev": 0, "test": 2}


def test_two_files_are_compared(tmp_path: Path) -> None:
    one = lines(tmp_path / "a.jsonl", {"prompt": "A  b"}, {"prompt": "a, b"}, {"prompt": "c"})
    other = lines(tmp_path / "b.jsonl", {"prompt": "a b"}, {"prompt": "d"})
    found = json.loads(CliRunner().invoke(leaks, [str(one), str(other), "--json"]).stdout)
    assert (found["plain"], found["words"], found["near"]) == (1, 1, 0)
    assert found["train"] == {
        "format": "columns",
        "rows": 3,
        "refused": 0,
        "plain": 3,
        "words": 2,
        "conflicts": 0,
    }
    assert "in both: 1 prompts" in CliRunner().invoke(leaks, [str(one), str(other)]).stdout
    assert CliRunner().invoke(leaks, [str(one)]).exit_code == 2


def test_a_night_at_work_is_not_held_up(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    Store.create(workspace).close()
    many = lines(tmp_path / "a.jsonl", *({"prompt": f"row {number}"} for number in range(1001)))
    with lock.held(workspace, datetime.now(UTC)):
        refused = run(many, workspace=workspace)
        assert refused.exit_code == 2
        assert "a run is active in" in refused.stderr
        assert counts(workspace)["pool"] == 0
        assert run(many, "--limit", "1000", workspace=workspace).exit_code == 0
    assert run(many, workspace=workspace).exit_code == 0
    assert counts(workspace)["pool"] == 1001


def test_one_labelled_file_fills_three_splits_that_share_nothing(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", *({"prompt": f"question {n}", "label": "safe"} for n in range(300)))
    for split, *part in (("seed", "0", "0.2"), ("dev", "0.2", "0.5"), ("test", "0.5", "1")):
        assert run(file, "--split", split, "--part", *part, workspace=tmp_path / "runs").exit_code == 0
    found = counts(tmp_path / "runs")
    assert sum(found.values()) == 300
    assert 40 <= found["seed"] <= 80 <= found["dev"] <= 110 <= found["test"]


@pytest.mark.parametrize(
    "mapped", [("question=prompt", "bad=label"), ("prompt=question", "label=bad"), ("question=prompt", "label=bad")]
)
def test_a_mapping_is_understood_both_ways(tmp_path: Path, mapped: tuple[str, str]) -> None:
    file = lines(tmp_path / "a.jsonl", {"question": "a", "bad": 1})
    words = [word for pair in mapped for word in ("--map", pair)]
    found = json.loads(run(file, *words, "--json", workspace=tmp_path / "runs").stdout)
    assert (found["labels"], found["format"]) == ({"request": {"harmful": 1}}, "mapped columns")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--map", "prompt"], "--map prompt: write it as COLUMN=FIELD"),
        (["--map", "a=prompt", "--map", "b=prompt"], "the field prompt already has a column"),
        (["--hub", "x/y"], "give a FILE, or --hub NAME"),
        (["--split", "train"], "'train' is not one of 'pool', 'seed', 'dev', 'test'"),
        (["--part", "0.5", "0.2"], "part must rise, for example [0.0, 0.8]"),
        (["--part", "0", "2"], "--part.1: Input should be less than or equal to 1"),
        (["--benchmark", "seed"], "benchmark = 'seed' is the name of a split"),
        (["--format", "nope"], "there is no format 'nope'; choose one of "),
        (["--format", "toxichat"], "there is no format 'toxichat'; did you mean 'toxicchat'? If not, choose one of "),
    ],
)
def test_what_makes_no_sense_is_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    said = run(lines(tmp_path / "a.jsonl", GOOD), *words, workspace=tmp_path / "runs")
    assert said.exit_code == 2
    assert sentence in said.stderr
