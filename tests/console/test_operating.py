"""Operating points, promised errors and speed in words; nothing is said of what was not asked for or measured."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wizloop.console.operating import cell_words, cells, measured, missing, recalls, rows_needed, sentences, speed
from wizloop.console.tables import rounds_notes
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.promised_error import Cut
from wizloop.loop.measures.promised_error import rows_needed as needed
from wizloop.loop.words import Task
from wizloop.store import browsing, models, predictions, samples
from wizloop.store.browsing import SampleFilter
from wizloop.store.db import Store
from wizloop.store.evaluations import Evaluation
from wizloop.store.overview import RoundSummary
from wizloop.store.paging import Page
from wizloop.store.predictions import Prediction
from wizloop.store.steps import Round
from wizloop.tui.comparison import in_brief

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def of(k: int, n: int) -> dict[str, Any]:
    return {"k": k, "n": n, "rate": k / n if n else None, "low": 0.01 if n else None, "high": 0.2 if n else None}


def cut(missing: int = 0) -> dict[str, Any]:
    bound = None if missing else 0.0472
    return {"below": 0.0312, "n": 62 - missing, "missing": missing, "misses": 0, "bound": bound}


READ = {
    "source": {"request": "traces"},
    "operating_point": "fpr<=0.01",
    "reached": {"request": {"direct": {}, "traces": {"fpr": of(1, 100), "recall": of(30, 60)}}},
    "let_through": 0.05,
    "cuts": {"request": {"direct": {}, "traces": cut()}},
}


def test_what_dev_reaches_is_told_of_the_source_of_the_verdicts() -> None:
    assert sentences(READ) == [
        "request: the threshold is set on dev for a false-positive rate of at most 1 %, where it has a false-positive "
        "rate of 1.0 % (1.0 to 20.0) on 100 rows and a recall of 50.0 % (1.0 to 20.0) on 60 rows.",
        "request: at most 5 % of what is harmful is let through, below a raw probability of 0.0312: 0 of 62 harmful "
        "dev prompts, upper 95 % bound 4.72 %.",
    ]
    assert missing(READ) == []


def test_a_recall_is_asked_for_in_words() -> None:
    assert "for a recall of at least 95 %, where" in sentences(READ | {"operating_point": "recall>=0.95"})[0]


def summary(number: int, evaluated: dict[str, Any], figures: dict[str, Any]) -> RoundSummary:
    round = Round(number, None, None, None, None, None, {"evaluate": evaluated}, NOW, None)
    measured = [Evaluation(1, number, "dev", "request", 30, 0, json.dumps({"f1": 0.5, **figures}))]
    return RoundSummary(round, measured, {}, 0, 0, [])


def test_the_last_measured_round_says_so_below_the_table_and_each_round_on_its_screen() -> None:
    found = [summary(number, READ, {"promise": promised(2, 20, over=False)}) for number in (0, 1)]
    said = [note for note in rounds_notes(found) if note.startswith("round 1, ")]
    assert len(said) == 3
    assert said[2].startswith("round 1, dev request: let through silently 10.0 %")
    assert not [note for note in rounds_notes(found) if note.startswith("round 0, request")]
    assert "at most 5 % of what is harmful is let through" in in_brief(found[0]).plain
    plain = summary(0, {}, {})
    assert "Operating point" not in in_brief(plain).plain
    assert not [note for note in rounds_notes([plain]) if note.startswith("round 0, ")]


KNOWN = Calibration(
    {"response": "traces"},
    {"request": {"direct": 0.6}, "response": {"direct": 0.3, "traces": 0.7}},
    let_through=0.05,
    cuts={"request": {"direct": Cut(0.2, 60, 0, 0, 0.05)}, "response": {"traces": Cut(0.5, 60, 0, 0, 0.05)}},
)
LINEAR = Calibration(
    {"request": "linear"},
    {"request": {"direct": 0.6, "linear": 0.4}},
    let_through=0.05,
    cuts={"request": {"direct": Cut(0.5, 60, 0, 0, 0.05), "linear": Cut(0.2, 60, 0, 0, 0.05)}},
)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.2, 0.29, 0.3, 0.5, 0.6, 0.7, None])
@pytest.mark.parametrize(
    "names", [("direct_request",), ("direct_request", "direct_response"), ("direct_response", "traces_response")]
)
def test_a_cell_says_deferred_where_the_loop_defers(p: float | None, names: tuple[str, ...]) -> None:
    signals = {f"p_{name}": p for name in names}
    task: Task = "response" if "direct_response" in names else "request"
    expected = "confident pass, deferred" if KNOWN.decision(signals, task) == "defer" else "confident pass"
    assert cell_words("confident_pass", KNOWN.to_json(), signals) == expected
    assert cell_words("confident_pass", Calibration().to_json(), signals) == "confident pass"


@pytest.mark.parametrize(("calibration", "deferred"), [(KNOWN, 13), (LINEAR, 18)], ids=["traces", "linear"])
def test_the_filter_finds_what_is_deferred(tmp_path: Path, calibration: Calibration, deferred: int) -> None:
    cases = [
        {f"p_{name}": p for name in names}
        for names in (
            ("direct_request",),
            ("direct_request", "direct_response"),
            ("direct_response", "traces_response"),
            *((("linear_request",),) if calibration is LINEAR else ()),
        )
        for p in (0.0, 0.19, 0.2, 0.29, 0.3, 0.5, 0.6, 0.7, None)
    ]
    with Store.create(tmp_path / "runs") as store, store.write() as db:
        samples.add(db, [samples.NewSample("pool", f"text {at}", None, "mine", "1") for at, _ in enumerate(cases)], NOW)
        about: dict[str, Any] = {"role": "challenger", "round": 0, "parent_id": None, "sha256": "ab", "meta_json": "{}"}
        model, other = (models.add(db, name=name, path=name, now=NOW, **about) for name in ("r00", "r01"))
        models.set_calibration(db, model, calibration.to_json())
        made = [Prediction(model, at, 0, {}, {}, 0.5, None, one, 0, False, 0) for at, one in enumerate(cases, start=1)]
        predictions.add(db, made)
        found = {
            word: [one.id for one in browsing.sample_lines(db, SampleFilter(deferred=word), model, Page(99))]
            for word in ("yes", "no")
        }
        assert browsing.sample_lines(db, SampleFilter(deferred="yes"), other, Page(99)) == []
    known = calibration.to_json()
    said = [at for at, one in enumerate(cases, start=1) if cell_words(None, known, one).endswith("deferred")]
    assert len(said) == deferred
    assert found == {"yes": said, "no": [one.sample_id for one in made if one.sample_id not in said]}


def test_categories_with_enough_rows_are_told_and_the_others_counted() -> None:
    often, rare = ({"n": 70, "missing": 0, "misses": 1, "bound": 0.066}, {"n": 3, "missing": 56, "misses": None})
    found = promised(2, 20, over=False) | {"by_group": {"arson": often, "a": rare, "b": rare}}
    said = list(measured({"dev request": {"promise": found}}))[1:]
    assert said == [
        "dev request, arson: let through silently 1 of 70 harmful, upper 95 % bound 6.6 %.",
        "dev request: 2 categories have fewer than the 59 harmful rows that can show 5 %.",
    ]
    assert list(measured({"dev request": {"promise": found | {"by_group": {}, "too_few": 1}}}))[1:] == [
        "dev request: 1 category has fewer than the 59 harmful rows that can show 5 %."
    ]


@pytest.mark.parametrize("promise", [0.01, 0.05, 0.3])
def test_the_rows_that_a_promise_takes_are_those_of_the_loop(promise: float) -> None:
    assert rows_needed(promise) == needed(promise)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.45, 0.7])
def test_a_cell_says_deferred_where_the_linear_head_defers(p: float) -> None:
    for signals in ({"p_direct_request": 0.55, "p_linear_request": p}, {"p_direct_request": p}):
        expected = LINEAR.decision(signals, "request") == "defer"
        assert cell_words("confident_pass", LINEAR.to_json(), signals).endswith("deferred") == expected


def test_a_model_without_a_calibration_has_its_cell_alone() -> None:
    assert cell_words("uncertain_pass", None, {}) == "uncertain compliance"
    assert cell_words(None, None, {}) == "no cell"


def test_one_class_alone_and_too_few_rows_are_told() -> None:
    read = READ | {
        "reached": {"request": {"traces": {"fpr": of(1, 100), "recall": of(0, 0)}}},
        "cuts": {"request": {"traces": cut(missing=3)}},
    }
    one, other = sentences(read)
    assert "takes rows of both labels" in one
    assert "takes 62 harmful dev prompts, and 3 are missing; what is not blocked is deferred." in other
    assert missing(read) == [other]


@pytest.mark.parametrize("read", [{}, {"source": {"request": "direct"}, "thresholds": {}}])
def test_what_was_not_asked_for_is_not_told(read: dict[str, Any]) -> None:
    assert sentences(read) == missing(read) == []


def promised(k: int, n: int, *, over: bool) -> dict[str, Any]:
    return {"promise": 0.05, "misses": of(k, n), "deferred": of(3, 30), "over": over}


@pytest.mark.parametrize(
    ("found", "let_through"),
    [
        (promised(2, 20, over=False), "10.0 % (1.0-20.0) of 20"),
        (promised(9, 20, over=True), "45.0 % (1.0-20.0) of 20, over"),
        (promised(0, 0, over=False), "-"),
    ],
)
def test_the_cells_say_where_a_promise_is_broken(found: dict[str, Any], let_through: str) -> None:
    assert cells(found) == ("5 %", let_through, "10.0 % (1.0-20.0) of 30")


def test_only_sets_under_a_promise_are_told() -> None:
    said = list(measured({"dev request": {"promise": promised(2, 20, over=False)}, "dev completion": {"f1": 0.5}}))
    assert said == [
        "dev request: let through silently 10.0 % (1.0-20.0) of 20 harmful, promised at most 5 %; deferred 10.0 % "
        "(1.0-20.0) of 30."
    ]


def test_recall_is_told_at_the_rates_that_were_measured() -> None:
    at = {"0.01": {"value": None, "low": None, "high": None}, "0.05": {"value": 0.7, "low": 0.6, "high": 0.8}}
    assert recalls({"recall_at_fpr": at}) == "at 5 % 70.0 % (60-80)"
    assert recalls({"f1": 0.5}) == ""


def test_speed_leaves_out_what_was_not_measured() -> None:
    assert speed({}) == ""
    assert speed({"on": "a server", "rows_per_s": 2.5, "tokens_per_s": None}) == "Speed on a server: 2.5 rows a second."
    whole = {"on": "Metal", "latency_rows": 30, "p50_ms": 12.4, "p95_ms": 20.0, "peak_gpu_bytes": 3e9}
    assert speed(whole) == (
        "Speed on Metal: latency p50 12 ms and p95 20 ms (30 rows asked one by one), on the GPU 3,000 MB."
    )
