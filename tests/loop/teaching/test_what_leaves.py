"""What leaves for a teacher, live and in batches: no row that is kept back, nothing masked; and all of it is listed."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.loop.scripted import Scripted, ScriptedBatches, client, context, fault, ok
from tests.servers.openai_wire import OpenAIWire
from wizloop.loop.cli import app
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.phases import import_samples, review
from wizloop.loop.phases.teach import teach
from wizloop.loop.preflight.data_sources import sources_of
from wizloop.loop.teaching import clients, request_preview, sent_texts
from wizloop.recipes.schema import Recipe
from wizloop.store import events, reviews, samples, selections, sending, teacher_calls
from wizloop.store.db import Store

ROWS = [
    {"prompt": "How do I knit a hat? Write to ann@example.org.", "label": "unharmful", "share": "yes"},
    {"prompt": "How is the vault of the bank in my street opened?", "label": "harmful", "share": "no"},
    {"prompt": "How do I bake bread?", "label": "unharmful", "share": "yes"},
]


def recipe_file(folder: Path, url: str, **teacher: Any) -> Path:
    lines = [f"{name} = {json.dumps(value)}" for name, value in teacher.items()]
    path = folder / "mine.toml"
    head = 'name = "mine"\nsource = "demo"\n[teacher]\nnames = ["openai"]\n'
    path.write_text(head + "\n".join(lines) + f'\n[teacher.openai]\nmodel = "qwen3:4b"\nbase_url = "{url}/v1"\n')
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.recipe_key("teacher.send", "teacher.mask", "teacher.mask_patterns")
def test_what_is_kept_back_or_masked_never_reaches_the_server(rows: Path, tmp_path: Path) -> None:
    out, listed = tmp_path / "traces.json", tmp_path / "sent.jsonl"
    with OpenAIWire() as server:
        recipe = recipe_file(tmp_path, server.url, send="column:share", mask=["email"], mask_patterns=["(?i)kn[a-z]t"])
        shown = run("teach", rows, "--recipe", recipe, "--dry-run", "--json")
        said = run("teach", rows, "--recipe", recipe, "--out", out, "--json")
        arrived = json.dumps(server.books.bodies)
    assert (shown.exit_code, said.exit_code) == (0, 0), shown.output + said.output
    for text in (arrived, shown.stdout):
        assert "How do I [masked] a hat? Write to [email]." in text
        assert "How do I bake bread?" in text
        assert "vault" not in text
        assert "ann@example.org" not in text
    told, written = json.loads(said.stdout), json.loads(out.read_text())
    assert (told["total_samples"], told["answered"], told["kept_back"]) == (3, 2, 1)
    assert [one["text"] for one in written["traces"]] == [ROWS[0]["prompt"], ROWS[2]["prompt"]]
    assert run("costs", "-w", f"{out}.ledger", "--sent", listed).exit_code == 0
    sent = [json.loads(line) for line in listed.read_text().splitlines()]
    bodies = [body["messages"][1]["content"] for body in server.books.bodies if body]
    assert sorted(one["text"] for one in sent) == sorted(bodies)
    assert {(one["provider"], one["model"], one["outcome"]) for one in sent} == {("openai", "qwen3:4b", "ok")}
    assert [(one["sample"]["row"], one["masked"]) for one in sent] == [("rows.jsonl:1", True), ("rows.jsonl:3", False)]


@pytest.mark.parametrize("in_batches", [False, True])
def test_a_sample_that_is_kept_back_gets_a_verdict_here_and_waits_for_a_person(
    tmp_path: Path, in_batches: bool
) -> None:
    server = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    ctx = context(tmp_path, 3, names=["openai"], openai=server)
    with ctx.store.write() as db:
        held = samples.page(db, "seed", 0, 9)[1]
        assert sending.keep_back(db, [bytes.fromhex(held.hash)], "kept back by a test") == 1
        previewed = request_preview.of_run(db, ctx.recipe, 9)
    assert [one.prompt for one in previewed] == ["question 1", "question 3"]
    asked = ScriptedBatches(lambda one, _: ok(one), {}) if in_batches else Scripted(lambda one, _: ok(one))
    teach(ctx, [client(asked), *clients.for_kept_back(ctx.recipe)])
    with ctx.store.read() as db:
        made = {one.sample_id: one.teacher for one in teacher_calls.traces(db, 0)}
        assert [one["text"] for one in sent_texts.rows(db)] == ["question 1", "question 3"]
    assert set(asked.asked) == {"question 1", "question 3"}
    assert made == {1: "scripted", held.id: "policy", 3: "scripted"}
    assert review.run(ctx).startswith("2 approved, 1 wait for a person")
    with ctx.store.read() as db:
        (waits,) = reviews.waiting(db, 9)
    assert waits.trace.sample_id == held.id
    assert waits.reason is not None
    assert waits.reason.startswith("The text is kept back from the teachers")


def test_only_samples_that_are_kept_back_get_their_verdict_here(tmp_path: Path) -> None:
    server = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    ctx = context(tmp_path, 3, names=["openai"], openai=server)
    with ctx.store.write() as db:
        held = samples.page(db, "seed", 0, 9)[1]
        sending.keep_back(db, [bytes.fromhex(held.hash)], "kept back by a test")
    refuses = Scripted(lambda *_: fault("refused"))
    teach(ctx, [client(refuses), *clients.for_kept_back(ctx.recipe)])
    with ctx.store.read() as db:
        made = {one.sample_id: one.teacher for one in teacher_calls.traces(db, 0)}
    assert made == {held.id: "policy"}


def test_a_mask_enters_a_calls_key_only_where_it_hides_something(tmp_path: Path) -> None:
    keys = []
    for name, mask in (("plain", []), ("masked", ["email"])):
        ctx = context(tmp_path / name, 1, mask=mask)
        with ctx.store.write() as db:
            samples.add(db, [samples.NewSample("seed", "Who is a@b.co?", None, "made", "row")], ctx.now())
            selections.add(db, [selections.Selection(0, 2, "seed", 0.0, 2, None, "A seed.")])
        teach(ctx, [client(Scripted(lambda one, _: ok(one)))])
        with ctx.store.read() as db:
            keys.append([(one.key, json.loads(one.request_json).get("sent")) for one in teacher_calls.calls(db, 0)])
    (plain, unmasked), (same, masked) = keys
    assert plain == same
    assert (unmasked[1], masked[1]) == (None, ["Who is [email]?", None])
    assert unmasked[0] != masked[0]


def test_a_pattern_that_hangs_keeps_its_row_here(tmp_path: Path) -> None:
    ctx = context(tmp_path, 1, mask_patterns=["(?:a|aa)+$"])
    with ctx.store.write() as db:
        samples.add(db, [samples.NewSample("seed", "a" * 80 + "b", None, "made", "row")], ctx.now())
        selections.add(db, [selections.Selection(0, 2, "seed", 0.0, 2, None, "A seed.")])
    asked = Scripted(lambda one, _: ok(one))
    teach(ctx, [client(asked)])
    assert set(asked.asked) == {"question 1"}
    with ctx.store.read() as db:
        assert [one for one in events.last(db, 9) if "is not sent to scripted" in one.message]


def test_imported_rows_are_kept_back_for_good(rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    said = run("import", rows, "--send", "share", "-w", folder, "--json")
    assert json.loads(said.stdout)["kept_back"] == 1
    assert run("import", rows, "-w", folder).exit_code == 0
    with Store.open(folder, readonly=True) as store, store.read() as db:
        found = samples.page(db, "pool", 0, 9)
        assert sending.kept_back(db, [one.id for one in found]) == {found[1].id}


def test_a_column_without_a_file_is_refused(tmp_path: Path) -> None:
    ctx = context(tmp_path, 1, send="column:share")
    with pytest.raises(ImportRefused, match="wizloop import --send share"):
        import_samples.run(ctx)
    (source,) = sources_of(ctx.recipe, None)
    assert (source.ok, "wizloop import --send share" in source.found) == (False, True)


def test_a_night_s_files_are_told_apart_before_it_starts(rows: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.jsonl"
    dev.write_text('{"prompt": "How do I sew?", "label": "unharmful"}\n')
    files = [{"path": str(dev if split == "dev" else rows), "split": split} for split in ("pool", "seed", "dev")]
    given = {"name": "a", "source": "files", "data": files, "teacher": {"send": "column:share"}}
    found = [one.found for one in sources_of(Recipe.model_validate_json(json.dumps(given)), None)]
    assert ["1 kept back from the teachers" in one for one in found] == [True, True, False]
