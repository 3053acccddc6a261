"""Plugins: what another package adds is found, used in a night, listed, and refused where it cannot be used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.loop.data.whole_files import read_file
from tests.loop.small_night import NOW, Night, recipe
from tests.plugged import described, extras, forget, seen
from wizloop import plugins
from wizloop.backends import artifacts
from wizloop.backends.teachers.base import Question
from wizloop.loop.cli import app
from wizloop.loop.context import Context
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.measures.acquisition import Pick, choose
from wizloop.loop.phases import model_roles
from wizloop.loop.phases.export import write_export
from wizloop.loop.preflight.checks import plugin_checks
from wizloop.loop.teaching import clients, plugin_teachers, prices, request_preview
from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe, RecipeError, canonical_json
from wizloop.store import exports, samples, selections, teacher_calls

PLUGGED: dict[str, Any] = {
    "teacher": {"names": ["keywords"], "options": {"keywords": {"harmful": ["bomb", "poison", "steal", "hack"]}}},
    "select": {
        "budget": 16,
        "shares": {
            **{"uncertain_compliance": 0.25, "disagreement": 0, "low_confidence": 0, "diversity": 0, "random": 0.25},
            "longest": 0.5,
        },
    },
    "export": {"formats": ["blob", "copy"], "parity_n": 8},
}
TICKETS = [
    {"ticket": f"how do I {verb} my neighbour's {thing} number {n}", "severity": severity}
    for n, (verb, severity) in enumerate([("poison", 3), ("water", 1), ("hack", 4), ("paint", 0)] * 5)
    for thing in ("plant", "phone")
]


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from seen(monkeypatch, extras(tmp_path / "site"))


@pytest.fixture
def nothing_installed() -> None:
    forget()


def add(folder: Path, group: str, name: str, value: str, package: str = "odd-one") -> None:
    """Install one more package, with one entry point."""
    described(folder, package, "0.1", {group: {name: value}})
    forget()


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(f'name = "x"\nsource = "demo"\n{text}')
    return path


def tickets(folder: Path, rows: list[dict[str, Any]] = TICKETS) -> Path:
    path = folder / "desk.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def test_a_night_uses_a_plugin_of_each_kind(tmp_path: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"path": str(tickets(tmp_path)), "split": split, "part": part} for split, part in PARTS.items()]
    night = Night(tmp_path / "runs", recipe(source="files", data=files, **PLUGGED))
    night.all()
    with night.store.read() as db:
        assert {one.source for one in samples.get(db, samples.ids(db, "seed"))} == {"desk"}
        calls = teacher_calls.calls(db, 1)
        assert {(one.teacher, one.model, one.state) for one in calls} == {("keywords", "keywords-1", "parsed")}
        picked = selections.of_round(db, 1)
        longest = [one for one in picked if one.reason == "longest"]
        assert selections.by_reason(db, 1)["longest"] == len(longest) > 0
        assert longest[0].words == f"One of the longest texts, with {longest[0].score:.0f} characters."
        assert [one.score for one in longest] == sorted((one.score for one in longest), reverse=True)
        assert {call.sample_id for call in calls} == {one.sample_id for one in picked}
        made = {one.format: one for one in exports.of_round(db, 1)}
    assert sorted(made) == ["blob", "copy"]
    _look_at_exports(tmp_path / "runs", made)
    _fail_by_name(night, monkeypatch)


PARTS = {"pool": [0.0, 0.4], "seed": [0.4, 0.7], "dev": [0.7, 1.0]}


def _look_at_exports(folder: Path, made: dict[str, exports.Export]) -> None:
    blob, copied = folder / made["blob"].path, folder / made["copy"].path
    assert {path.name for path in blob.iterdir()} == {"guard.blob", "guard.json", "README.md", "manifest.json"}
    assert len(artifacts.verify(blob, (".blob",))) == 64
    assert "Not run: wizloop cannot load this format" in (blob / "README.md").read_text()
    assert json.loads(made["blob"].parity_json)["n"] == 0
    parity = json.loads(made["copy"].parity_json)
    assert parity["n"] == parity["agree"] > 0
    assert "verdicts on dev samples" in (copied / "README.md").read_text()


def _fail_by_name(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.load("exporter", "blob"), "export", lambda *_: 1 / 0)
    told = (night.store, night.folder, night.recipe, 1, "export", lambda: NOW, lambda: False)
    context = Context(*told, given=night.backend)
    with night.store.read() as db:
        champion = model_roles.champion_after(db, 1)
    with pytest.raises(plugins.PluginError, match=r"exporter 'blob' of wizloop-extras 1\.2 .* ZeroDivisionError"):
        write_export(context, champion, "blob", night.folder / "exports" / "again")
    assert "again" not in {path.name for path in (night.folder / "exports").iterdir()}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[teacher]\nnames = ["keywrds"]',
            "teacher.names: there is no teacher 'keywrds' (built in: policy, recorded, ",
        ),
        ('[teacher]\nnames = ["keywrds"]', "installed: keywords); did you mean 'keywords'?"),
        ("[select.shares]\nrandom = 0.05\nlongst = 0.1", "select.shares: there is no strategy 'longst' (built in: unc"),
        ('[export]\nformats = ["onnx"]', "gguf-q8; installed: blob, copy)"),
        ('[teacher.options.keywords]\nharmful = ["x"]', "is for an installed teacher that teacher.names has"),
        ("[select.shares]\nlongest = 0.1", "the shares add up to 1.1, with longest, they must"),
        ("[select.shares]\nrandom = 0\nlongest = 1.5", "select.shares.longest = 1.5: "),
        ("[select.shares]\nrandom = 0\nseed = 0.15", "there is no strategy 'seed'"),
    ],
)
def test_a_recipe_with_an_unknown_name_is_refused(tmp_path: Path, plugged: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError) as refused:
        schema.load(written(tmp_path, text))
    assert says in str(refused.value)


def test_a_recipe_with_installed_names_is_kept_whole(tmp_path: Path, plugged: Path) -> None:
    text = '[teacher]\nnames = ["keywords", "policy"]\n[teacher.options.keywords]\nharmful = ["x"]\n'
    loaded = schema.load(written(tmp_path, text + "[select.shares]\nrandom = 0.05\nlongest = 0.1\n"))
    assert schema.stored(canonical_json(loaded)) == loaded
    assert loaded.teacher.options == {"keywords": {"harmful": ["x"]}}
    assert schema.recipe_hash(loaded) != schema.recipe_hash(schema.load("demo"))


def test_a_recipe_without_plugins_has_no_key_for_them() -> None:
    for name in ("demo", "mac-overnight-3b"):
        told = json.loads(canonical_json(schema.load(name)))
        assert "options" not in told["teacher"]
        assert sorted(told["select"]["shares"]) == sorted(schema.BUILT_IN["strategy"])


def test_the_run_of_a_package_that_is_gone_can_be_read_and_not_resumed(tmp_path: Path, nothing_installed: None) -> None:
    asked = recipe(**PLUGGED)
    with Night(tmp_path, asked).store:
        pass
    assert schema.stored(canonical_json(asked)) == asked
    assert run("rounds", "-w", tmp_path)[0] == 0
    status, said = run("start", "--headless", "-w", tmp_path)
    assert status == 2
    assert "teacher.names: there is no teacher 'keywords' (built in: policy, " in said


def test_an_unplugged_name_is_a_clear_error_where_it_is_used(nothing_installed: None) -> None:
    for use in (plugins.strategy, plugins.exporter, plugins.import_format):
        with pytest.raises(plugins.PluginError, match=r"there is no \w+ 'longest' \(installed: none\)"):
            use("longest")


def test_a_file_in_a_plugins_format_is_imported(tmp_path: Path, plugged: Path) -> None:
    rows = [*TICKETS[:2], {"ticket": "old", "severity": 1, "state": "closed"}]
    read = read_file(tickets(tmp_path, rows), split="pool")
    assert (read.format, [row.labels["request"] for row in read.rows]) == ("tickets", ["harmful", "harmful"])
    assert [(one.row, one.reason) for one in read.refused] == [(3, "the ticket is closed")]
    status, said = run("import", tickets(tmp_path), "--format", "tickets", "--split", "dev", "-w", tmp_path / "runs")
    assert (status, "tickets" in said) == (0, True)


def test_a_plugins_format_says_which_files_it_recognizes(tmp_path: Path, plugged: Path) -> None:
    drafts = tickets(tmp_path).rename(tmp_path / "drafts.jsonl")
    with pytest.raises(ImportRefused, match="unknown columns"):
        read_file(drafts, split="pool")
    assert read_file(drafts, split="pool", format="tickets").format == "tickets"


def test_a_file_without_the_plugin_is_refused(tmp_path: Path, nothing_installed: None) -> None:
    with pytest.raises(ImportRefused, match="unknown columns"):
        read_file(tickets(tmp_path), split="pool")
    with pytest.raises(ImportRefused, match=r"there is no format 'tickets'; .*choose one of .*, columns$"):
        read_file(tickets(tmp_path), split="pool", format="tickets")


def test_a_label_that_is_not_known_and_a_record_that_cannot_be_read_are_refused(tmp_path: Path, plugged: Path) -> None:
    rows: list[dict[str, Any]] = [{"ticket": "a", "severity": "high"}, {"ticket": "b", "severity": [1]}]
    refused = read_file(tickets(tmp_path, rows), split="pool").refused
    assert "invalid literal" in refused[0].reason
    assert refused[1].reason.startswith("the format 'tickets' cannot read it: TypeError: ")
    assert [one.bad for one in refused] == [False, True]


def test_doctor_lists_what_is_installed_and_what_is_broken(plugged: Path) -> None:
    add(plugged, "wizloop.strategies", "gone", "no_such_module:Gone")
    found = {one.name: (one.ok, one.found) for one in plugin_checks()}
    assert found["teacher keywords"] == (True, "wizloop-extras 1.2 (wizloop_extras:Keywords)")
    assert list(found) == [
        *("teacher keywords", "format tickets", "strategy gone", "strategy longest", "exporter blob", "exporter copy"),
        "guard yes-no",
    ]
    ok, said = found["strategy gone"]
    assert not ok
    assert "'gone' of odd-one 0.1 (no_such_module:Gone) cannot be imported: ModuleNotFoundError" in said


def test_doctor_prints_them(tmp_path: Path, plugged: Path) -> None:
    assert "wizloop-extras 1.2 (wizloop_extras:Longest)" in run("doctor", "-w", tmp_path)[1]
    add(plugged, "wizloop.exporters", "gone", "no_such_module:Gone")
    status, said = run("doctor", "-w", tmp_path)
    assert status != 0
    assert "odd-one 0.1" in said


@pytest.mark.parametrize(
    ("group", "name", "value", "says"),
    [
        ("wizloop.teachers", "claude", "wizloop_extras:Keywords", "has the name of a built-in teacher"),
        ("wizloop.teachers", "server", "wizloop_extras:Keywords", "has the name of a built-in teacher"),
        ("wizloop.strategies", "random", "wizloop_extras:Longest", "has the name of a built-in strategy"),
        ("wizloop.strategies", "seed", "wizloop_extras:Longest", "has the name of a built-in strategy"),
        ("wizloop.formats", "wildguard", "wizloop_extras:Tickets", "has the name of a built-in format"),
        ("wizloop.formats", "columns", "wizloop_extras:Tickets", "has the name of a built-in format"),
        ("wizloop.guards", "qwen3guard", "wizloop_extras:YesNo", "has the name of a built-in guard"),
        ("wizloop.guards", "odd", "wizloop_extras:Blob", "has no max_tokens, questions, read, source: see"),
        ("wizloop.exporters", "nf4", "wizloop_extras:Blob", "has the name of a built-in exporter"),
        ("wizloop.exporters", "../up", "wizloop_extras:Blob", "has a name that wizloop cannot use"),
        ("wizloop.exporters", "odd", "wizloop_extras:Nothing", "cannot be imported: AttributeError"),
        ("wizloop.exporters", "odd", "wizloop_extras:Tickets", "has no export, loads, suffixes: see wizloop.plugins"),
        ("wizloop.teachers", "odd", "wizloop_extras:Tickets", "has no ask: see wizloop.plugins"),
        ("wizloop.exporters", "odd", "wizloop_extras:Keywords", "failed: TypeError: "),
        ("wizloop.exporters", "blob", "wizloop_extras:Blob", "is in odd-one 0.1 and wizloop-extras 1.2"),
    ],
)
def test_a_plugin_that_cannot_be_used_fails_its_check(
    plugged: Path, group: str, name: str, value: str, says: str
) -> None:
    add(plugged, group, name, value)
    kind = next(kind for kind in plugins.KINDS if plugins.GROUPS[kind] == group)
    found = {one.name: one for one in plugin_checks()}[f"{kind} {name}"]
    assert not found.ok
    assert says in found.found


def test_a_format_that_cannot_be_used_refuses_files_that_no_built_in_knows(tmp_path: Path, plugged: Path) -> None:
    add(plugged, "wizloop.formats", "gone", "no_such_module:Gone")
    with pytest.raises(ImportRefused, match=r"format 'gone' of odd-one 0\.1"):
        read_file(tickets(tmp_path), split="pool")
    assert read_file(tickets(tmp_path), split="pool", format="tickets").format == "tickets"


def test_only_the_plugin_that_is_named_is_loaded(plugged: Path) -> None:
    add(plugged, "wizloop.strategies", "gone", "no_such_module:Gone")
    assert plugins.strategy("longest").explain(plugins.Candidate(1, "x", None, None, None, None), 9.0).startswith("One")


def _asking(**options: Any) -> Recipe:
    return recipe(**{**PLUGGED, "teacher": {"names": ["keywords"], "options": {"keywords": options}}})


def test_a_teacher_gets_its_options_its_key_and_the_instruction(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIZLOOP_KEYWORDS_KEY", "k-1")
    client = clients.clients_of(_asking(harmful=["x"]), NOW, capped=True)[0]
    setup = client.teacher.plugin.setup  # type: ignore[attr-defined]
    assert (setup.name, setup.options, setup.key) == ("keywords", {"harmful": ["x"]}, "k-1")
    assert "k-1" not in repr(setup)
    assert len(setup.instruction) > 500
    assert client.settings is None


def test_a_paid_teacher_needs_a_price_and_a_bound_under_a_cap(tmp_path: Path, plugged: Path) -> None:
    assert clients.clients_of(_asking(paid=True), NOW, capped=False)[0].tariff is None
    with pytest.raises(prices.PriceError, match="no price of keywords's keywords-1 is known"):
        clients.clients_of(_asking(paid=True), NOW, capped=True)
    table = tmp_path / "prices.toml"
    line = 'provider = "keywords"\nmodel = "keywords-1"\nfrom = 2026-01-01\ninput = 1\noutput = 2\n'
    table.write_text(f"[[price]]\n{line}cache_read = 0\ncache_write = 0\n")
    priced = json.loads(canonical_json(_asking(paid=True)))
    priced["teacher"]["prices"] = str(table)
    with pytest.raises(prices.PriceError, match="gives no bound of a question's tokens"):
        clients.clients_of(Recipe.model_validate_json(json.dumps(priced)), NOW, capped=True)


def test_a_teacher_with_threads_is_asked_live(tmp_path: Path, plugged: Path) -> None:
    night = Night(tmp_path, _asking(concurrency=3))
    for phase in ("import", "prepare", "select", "teach"):
        night.phase(0, phase)
    with night.store.read() as db:
        assert {one.state for one in teacher_calls.calls(db, 0)} == {"parsed"}
        assert len(teacher_calls.calls(db, 0)) == 30


def test_what_teaching_would_send_and_cost_is_told(plugged: Path) -> None:
    texts = [Question("k", "how to bake")]
    (free,) = request_preview.previews(_asking(), texts, NOW)
    assert (free["teacher"], free["model"], free["at_most"]["usd"]) == ("keywords", "keywords-1", 0)
    (paid,) = request_preview.previews(_asking(paid=True), texts, NOW)
    assert paid["at_most"]["usd"] is None


def test_a_dry_run_looks_at_the_plugins(tmp_path: Path, plugged: Path) -> None:
    asked = written(tmp_path, '[teacher]\nnames = ["keywords"]\n[export]\nformats = ["blob"]\n')
    status, said = run("start", asked, "--dry-run", "-w", tmp_path / "runs")
    assert status == 0, said
    assert "keywords: keywords-1, free" in said


POOL = [plugins.Candidate(n, f"text {n} " + "word " * n, 0.5, n / 10, "uncertain_pass", None) for n in range(1, 9)]


def _chosen(name: str, budget: int) -> list[Pick]:
    shares, rng = {name: 0.75, "random": 0.25}, np.random.default_rng(3)
    return choose(POOL, budget=budget, shares=shares, rng=rng, installed={name: plugins.strategy(name)})


def test_an_installed_strategy_picks_by_its_score_before_chance(plugged: Path) -> None:
    picks = _chosen("longest", 4)
    assert [(one.reason, one.rank) for one in picks] == [*(("longest", n) for n in (1, 2, 3)), ("random", 4)]
    assert [one.sample_id for one in picks[:3]] == [8, 7, 6]
    assert picks == _chosen("longest", 4)


def test_an_installed_strategy_gets_a_seed_that_is_the_runs(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    kind = plugins.load("strategy", "longest")
    score = kind.score

    def seeded(self: Any, left: Any, seed: int) -> Any:
        given.append(seed)
        return score(self, left, seed)

    monkeypatch.setattr(kind, "score", seeded)
    _chosen("longest", 4)
    _chosen("longest", 4)
    assert all(isinstance(one, int) for one in given)
    assert len(set(given)) == 1


def test_a_teacher_that_does_not_answer_with_an_answer_is_named(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.load("teacher", "keywords"), "read", lambda *_: "harmful")
    built = plugin_teachers.build(_asking(), "keywords")
    with pytest.raises(plugins.PluginError, match=r"teacher 'keywords' of wizloop-extras .* a str, not an Answer"):
        built.read("{}", "end", Question("k", "how to bake"))


@pytest.mark.parametrize("scores", [[1.0], [float("inf")] * 8, ["a"] * 8, None])
def test_scores_that_are_none_are_refused(plugged: Path, monkeypatch: pytest.MonkeyPatch, scores: Any) -> None:
    monkeypatch.setattr(plugins.load("strategy", "longest"), "score", lambda *_: scores)
    with pytest.raises(plugins.PluginError, match=r"strategy 'longest' of wizloop-extras 1\.2 .* failed: "):
        _chosen("longest", 4)


def test_export_takes_an_installed_format_and_names_them_else(tmp_path: Path, plugged: Path) -> None:
    status, said = run("export", 1, "--format", "onnx", "--to", tmp_path / "out", "-w", tmp_path)
    assert status == 2
    built_in = "adapter, adapter-mlx, safetensors, mlx-4bit, mlx-8bit, nf4, gguf, gguf-q8"
    assert f"there is no exporter 'onnx' (built in: {built_in}; installed: blob, copy)" in said
    assert "no exporter" not in run("export", 1, "--format", "blob", "--to", tmp_path / "out", "-w", tmp_path)[1]


def test_the_rounds_screen_offers_installed_formats(plugged: Path) -> None:
    from wizloop.tui.rounds import formats

    built_in = ["adapter", "adapter-mlx", "safetensors", "mlx-4bit", "mlx-8bit", "gguf"]
    assert [name for name, _ in formats().values()] == [*built_in, "blob", "copy"]
    assert list(formats()) == ["a", "l", "s", "m", "e", "g", "1", "2"]


def test_a_key_is_kept_for_an_installed_teacher(plugged: Path) -> None:
    from wizloop.loop import keys

    assert keys.variables("keywords") == ("WIZLOOP_KEYWORDS_KEY",)
    with pytest.raises(keys.UnknownTeacher):
        keys.variables("other")
