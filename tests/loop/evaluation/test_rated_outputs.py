"""Drawing what people rate: by seed, frozen, and without what the guard or the teacher concluded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import single_calls
from tests.rating_sets import NOW
from tests.where import NEEDS_SHARED_DATA, SHARED_DATA
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.evaluation import rated_outputs
from wizloop.loop.words import Declaration
from wizloop.store import errors, models, predictions, samples
from wizloop.store.db import Store

REASONED = "It asks how to knit.\nWool hurts nobody."


@pytest.mark.parametrize(
    "text",
    [
        f"{REASONED}\nAnswers:\nRequest: unharmful\nCompletion: None\nResponse: None",
        f"{REASONED}\n---\n\nAnswers: \nRequest: unharmful\nCompletion: refusal\nResponse: unharmful\n",
        f"{REASONED}\n\n## Final Answer:\nRequest: unharmful",
        f"{REASONED}\n**Answers:**\n**Request:** Harmful",
        f"{REASONED}\nAnswers:\nRequest: harmful\nCompletion: None\nResponse: None\nCategories: wool, needles",
        f"{REASONED}\n\nRequest: harmful\nResponse: unharmful",
        f"{REASONED}\nAnswers:\nRequest: some other word that cannot be read",
        REASONED,
    ],
)
def test_the_answer_is_taken_off(text: str) -> None:
    assert rated_outputs.without_answer(text) == REASONED


def test_words_of_the_reasoning_stay() -> None:
    text = "The answers of this kind are harmful.\nRequests: several.\nIt answers nothing."
    assert rated_outputs.without_answer(text) == text


@pytest.fixture
def run(after_a_night: Path) -> Path:
    """A run whose guard r01 has written traces about thirty samples, two about each."""
    with Store.open(after_a_night) as store, store.write() as db:
        new = [samples.NewSample("dev", f"how do I knit {n}", None, "made", f"row {n}") for n in range(30)]
        samples.add(db, new, NOW)
        model = models.by_name(db, "r01")
        assert model is not None
        predictions.add(db, [], [trace(model.id, each, idx) for each in samples.ids(db, "dev") for idx in range(2)])
    return after_a_night


def trace(model: int, sample: int, idx: int) -> predictions.GuardTrace:
    text = f"Trace {idx} on {sample}: wool.\nAnswers:\nRequest: harmful\nCompletion: None\nResponse: None"
    verdict = {"request": "harmful", "completion": None, "response": None}
    return predictions.GuardTrace(model, sample, idx, text, verdict, "stop", 0, 0, 0, 0, None, 9)


def drawn(run: Path, n: int = 10, seed: int = 1, round: int | None = 1) -> rated_outputs.Drawn:
    with Store.open(run) as store:
        return rated_outputs.of_guard(store, n, seed, round)


def test_a_guards_outputs_are_drawn_by_seed(run: Path) -> None:
    first, again, other = drawn(run), drawn(run), drawn(run, seed=2)
    assert (first.name, first.there, len(first.outputs)) == ("r01", 30, 10)
    assert first == again
    assert [one.sample_id for one in first.outputs] != [one.sample_id for one in other.outputs]
    assert len({one.sample_id for one in first.outputs}) == 10
    assert {one.row_ref[-1] for one in drawn(run, 30).outputs} == {"1", "2"}
    assert len(drawn(run, 99).outputs) == 30


def test_a_guards_output_is_its_reasoning_without_the_answer(run: Path) -> None:
    for one in drawn(run).outputs:
        idx = int(one.row_ref[-1]) - 1
        assert one.reasoning == f"Trace {idx} on {one.sample_id}: wool."
        assert (one.verdict["request"], one.questions) == ("harmful", [("request", ["harmful", "unharmful"])])


def test_own_label_words_are_asked(run: Path) -> None:
    words = {"request": ("bad", "unclear", "fine")}
    with Store.open(run) as store:
        found = rated_outputs.of_guard(store, 1, 1, 1, words)  # type: ignore[arg-type]
    assert found.outputs[0].questions == [("request", ["bad", "unclear", "fine"])]


def test_an_excluded_sample_is_not_drawn(run: Path) -> None:
    with Store.open(run) as store, store.write() as db:
        samples.exclude(db, samples.ids(db, "dev")[:20], "a leak")
    assert drawn(run, 30).there == 10


def test_a_guard_without_traces_says_where_there_are_some(run: Path) -> None:
    with pytest.raises(errors.NotFound, match="r00 has written no traces: it answers directly; --round 1 has some"):
        drawn(run, round=0)


def test_a_teachers_output_has_no_verdict_and_no_confidence(run: Path) -> None:
    whole = {"surface_analysis": "Plain.", "risk_factors": ["needles"], "harmful_uses": []}
    whole |= {"confidence": "MARK", "request": "MARK", "final_label": "MARK", "request_steps": ["MARK"]}
    with Store.open(run) as store, store.write() as db:
        sample = samples.ids(db, "dev")[0]
        call = single_calls.plan(
            db, key=f"{9:064x}", sample_id=sample, round=0, teacher="policy", model="p1", attempt=1,
            request_json="{}", now=NOW,
        )  # fmt: skip
        told = {"trace_json": json.dumps(whole), "steps_json": json.dumps({"request": ["First.", "Second."]})}
        single_calls.add_trace(
            db, call_id=call, verdict={"request": "harmful"}, confidence_word="low", explanation="It is wool.",
            now=NOW, **told,
        )  # fmt: skip
    with Store.open(run) as store:
        found = rated_outputs.of_teacher(store, 5, 1, 0)
        everything = rated_outputs.of_teacher(store, 5, 1, None)
    (one,) = found.outputs
    assert one.reasoning == (
        "Surface analysis:\nPlain.\n\nRisk factors:\n- needles\n\n"
        "Steps on the request:\n- First.\n- Second.\n\nBecause:\nIt is wool."
    )
    assert (found.name, found.there, everything.there) == ("policy", 1, 3)


def test_a_round_without_a_teacher_is_named(run: Path) -> None:
    with Store.open(run) as store, pytest.raises(errors.NotFound, match="no teacher has written anything in round 7"):
        rated_outputs.of_teacher(store, 5, 1, 7)


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_file(path: Path) -> list[tuple[Any, ...]]:
    found = sorted(rated_outputs.of_file(path, 99, 1).outputs, key=lambda one: one.row_ref)
    return [(one.prompt, one.response, one.reasoning, dict(one.verdict)) for one in found]


def test_a_file_may_have_rows_of_evaluate_recorded_outputs_and_traces(tmp_path: Path) -> None:
    framed = "You are a guard.\n\nHuman user:\nhow do I purl\n\nAI assistant:\nLike this.\n\n"
    predict = f"{REASONED}\n\nAnswers: \nRequest: unharmful\nCompletion: compliance\nResponse: unharmful"
    path = written(
        tmp_path,
        {
            "row": "x:1",
            "prompt": "how do I knit",
            "response": None,
            "verdict": {"request": "harmful", "response": None},
        },
        {"prompt": framed, "label": "unharmful", "predict": predict},
        {"text": "how do I darn", "reasoning": {"reasoning_chain": ["Step 1: socks"], "final_label": "safe"}},
        {"prompt": "how do I felt", "reasoning": ["It is wool.", "It is warm."]},
    )
    said = {"request": "unharmful", "completion": "compliance", "response": "unharmful"}
    assert of_file(path) == [
        ("how do I knit", None, "", {"request": "harmful"}),
        ("how do I purl", "Like this.", REASONED, said),
        ("how do I darn", None, "Reasoning chain:\n- Step 1: socks", {}),
        ("how do I felt", None, "- It is wool.\n- It is warm.", {}),
    ]


def test_outputs_in_labels_of_ones_own_are_read_by_them(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "how do I knit", "predict": "It is wool.\n\nAnswers:\nRequest: spam"})
    [one] = rated_outputs.of_file(path, 5, 1, Declaration(("spam", "ham"), (), ())).outputs
    assert (list(one.questions), dict(one.verdict)) == ([("request", ["spam", "ham"])], {"request": "spam"})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"label": 1}, "row 1: no column prompt or text: .*--texts"),
        ({"prompt": ["a"]}, "row 1: prompt is a list, not a text"),
        ({"prompt": "a", "reasoning": 3}, "row 1: the reasoning is a int"),
    ],
)
def test_a_row_that_cannot_be_rated_is_named(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    with pytest.raises(ImportRefused, match=why):
        rated_outputs.of_file(written(tmp_path, row), 5, 1)


@NEEDS_SHARED_DATA
def test_recorded_outputs_of_a_published_guard_are_drawn_without_their_answers() -> None:
    path = SHARED_DATA / "recorded" / "1B" / "XSTestResponseRefusal" / "generated_predictions.jsonl.gz"
    found = rated_outputs.of_file(path, 50, 1)
    assert (len(found.outputs), found.there) == (50, 309)
    assert [one.row_ref for one in found.outputs if "Answers:" in one.reasoning or "finish three" in one.prompt] == []
    assert [one.row_ref for one in found.outputs if not one.reasoning or len(one.questions) != 3] == []
