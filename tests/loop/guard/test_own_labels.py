"""Labels of one's own: what a guard is asked, and how its answers are read, on an embedded guard with three classes."""

import pytest

from wizloop.backends.guard_types import BackendError, Sampled
from wizloop.backends.tiny import build as tiny_guard
from wizloop.loop.evaluation.verdict_parser import parse_verdicts
from wizloop.loop.guard import grammar
from wizloop.loop.guard.backend import Guard, choose_backend
from wizloop.loop.guard.inference import ask_direct, parse_trace, signals
from wizloop.loop.guard.readers import STRICT, TOLERANT
from wizloop.loop.guard.rendering import InputText, Renderer, choice
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.phases.prepare import fixed_texts
from wizloop.loop.words import DEFAULT, Declaration

THREE = Declaration(request=("harmful", "controversial", "unharmful"), completion=(), response=())
SPAM = Declaration(request=("spam", "ham"), completion=(), response=("Not OK", "OK"))
ALONE, PAIR = InputText("Win a prize"), InputText("Win a prize", "You won.")


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    folder = tmp_path_factory.mktemp("tiny") / "guard"
    folder.mkdir()
    shape, texts = tiny_guard.Shape(300, 1, 16, 32), [f"how do I {a} a {b}?" for a in "aeiou" for b in "pqrstu"]
    fixed = fixed_texts(["A reason."], "", declared=THREE)
    tiny_guard.build(folder, texts, shape=shape, epochs=0, seed=1, progress=lambda *_: None, fixed_texts=fixed)
    return choose_backend("mlx", "cpu").load(str(folder), None, quantise=False)


def test_an_answer_has_the_declared_tasks_only() -> None:
    assert grammar.answer_block({"request": "spam"}, SPAM) == "Answers:\nRequest: spam\nResponse: None"
    assert grammar.render("Why.", {"request": "controversial"}, THREE) == "Why.\nAnswers:\nRequest: controversial"
    with pytest.raises(ValueError, match="use spam or ham"):
        grammar.answer_block({"request": "harmful"}, SPAM)


@pytest.mark.parametrize(
    ("text", "declared", "verdict"),
    [
        ("Why.\nAnswers:\nRequest: controversial", THREE, {"request": "controversial"}),
        ("Why.\nAnswers:\nRequest: spam\nResponse: Not OK", SPAM, {"request": "spam", "response": "Not OK"}),
        ("Why.\nAnswers:\nRequest: spam\nCompletion: refusal\nResponse: OK", SPAM, None),
        ("Why.\nAnswers:\nRequest: unharmful\nCompletion: None\nResponse: None", THREE, None),
    ],
)
def test_the_strict_reader_takes_these_words(text: str, declared: Declaration, verdict: dict[str, str] | None) -> None:
    found = STRICT.read(text, PAIR, declared)
    assert (None if found is None else found.verdict) == verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("## Answer\n- **Request**: SPAM.\n- **Response**: not ok", {"request": "spam", "response": "Not OK"}),
        ('{"request": "ham", "response": "OK"}', {"request": "ham", "response": "OK"}),
        ("Request: harmful\nResponse: OK", None),
        ("It says Request: ham\nAnswers:\nRequest: spam\nResponse: OK", None),
    ],
)
def test_the_tolerant_reader_takes_them_in_any_spelling(text: str, verdict: dict[str, str] | None) -> None:
    found = TOLERANT.read(text, PAIR, SPAM)
    assert (None if found is None else found.verdict) == verdict


def test_recorded_outputs_are_read_by_these_words() -> None:
    text = "Answers:\nRequest: Controversial"
    assert (parse_verdicts(text, THREE), parse_verdicts(text)) == ({"request": "controversial"}, {})


def test_a_label_may_begin_with_another() -> None:
    declared = Declaration(request=("safe-ish", "safe"), completion=(), response=())
    for word in declared.request:
        found = TOLERANT.read(f"Request: {word}", ALONE, declared)
        assert found is not None
        assert found.verdict == {"request": word}


def test_other_labels_are_another_rendering() -> None:
    hashes = {Renderer("x", declared=each).hash for each in (DEFAULT, THREE, SPAM)}
    assert len(hashes) == 3
    assert Renderer("x").hash == Renderer("x", declared=Declaration()).hash


def test_a_pair_is_decided_by_its_request_where_no_response_is_judged() -> None:
    assert [each.main_task(PAIR) for each in (THREE, SPAM, DEFAULT)] == ["request", "response", "response"]
    assert [each.tasks_of(PAIR) for each in (THREE, SPAM)] == [("request",), ("request", "response")]


def test_a_direct_answer_has_the_probability_of_each_of_three_labels(guard: Guard) -> None:
    [found] = ask_direct(guard, Renderer("", declared=THREE), [PAIR], max_tokens=256)
    assert list(found.p) == ["request", "request:controversial", "request:unharmful"]
    assert sum(found.p.values()) == pytest.approx(1)
    named = signals(PAIR, found, (), (), THREE)
    word = Calibration(thresholds={"request": {"direct": 0.99}}, declared=THREE).verdict(named, "request")
    assert found.p[f"request:{word}"] == max(p for name, p in found.p.items() if name != "request")


def test_a_traced_answer_is_read_with_the_probability_of_each_label() -> None:
    text = "Why.\nAnswers:\nRequest: controversial"
    watched: dict[str, list[tuple[float, ...]]] = {"request": [(1, 0, 0), (0.2, 0.7, 0.1)]}
    drawn = Sampled(text, "stop", [0, text.index(" controversial")], [1.0, 1.0], watched)
    found = parse_trace(drawn, ALONE, 4, declared=THREE)
    assert found.verdict == {"request": "controversial"}
    assert found.p == {"request": 0.2, "request:controversial": 0.7, "request:unharmful": 0.1}


def test_labels_that_no_token_tells_apart_are_refused(guard: Guard) -> None:
    declared = Declaration(request=("controversial", "controversial too"), completion=(), response=())
    with pytest.raises(BackendError, match="cannot be told apart"):
        guard.score((), choice("request", declared))
