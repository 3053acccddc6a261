"""Reading sampled traces, and the numbers that are made of them."""

from dataclasses import dataclass

import pytest

from wizloop.backends.guard_types import Sampled
from wizloop.loop.guard.inference import Direct, Trace, parse_trace, signals
from wizloop.loop.measures.deepconf import Measures


@dataclass(frozen=True)
class Said:
    prompt: str
    response: str | None = None


ALONE = Said("How do I bake?")
BLOCK = "Why.\nAnswers:\nRequest: harmful\nCompletion: None\nResponse: None"


def sampled(text: str, stop: str = "stop") -> Sampled:
    """One token a word; the request's choice is watched as 0.7 at the verdict's token alone."""
    starts = [0] + [at for at, c in enumerate(text) if c in " \n"]
    at = text.find(" harmful")
    watched: list[tuple[float, ...]] = [(0.7, 0.3) if start == at else (0.1, 0.9) for start in starts]
    return Sampled(text, stop, starts, [2.0] * len(starts), {"request": watched})


def trace(label: str | None, p: float, bottom: float = 1.0, stop: str = "stop") -> Trace:
    verdict = None if label is None else {"request": label}
    return Trace("t", verdict, {} if label is None else {"request": p}, stop, Measures(3.0, 2.0, 1.0, bottom), 9)  # type: ignore[arg-type]


def test_the_probability_is_read_at_the_verdicts_token() -> None:
    found = parse_trace(sampled(BLOCK), ALONE, window=4)
    assert found.verdict == {"request": "harmful"}
    assert found.p == {"request": 0.7}
    assert found.measures == Measures(2.0, 2.0, 2.0, 2.0)


@pytest.mark.parametrize(("text", "stop"), [("Why.\nAnswers:\nRequest: harmful", "length"), (BLOCK, "cut")])
def test_what_was_not_finished_is_unparsed(text: str, stop: str) -> None:
    found = parse_trace(sampled(text, stop), ALONE, window=4)
    assert found.verdict is None
    assert found.p == {}


def test_signals_of_a_prompt() -> None:
    traces = [trace("harmful", 0.9, bottom=3.0), trace("unharmful", 0.3), trace(None, 0.0)]
    found = signals(ALONE, Direct({"request": 0.8}, 0), traces, [{"request": 0.5}, {"request": 0.2}])
    assert found["p_direct_request"] == 0.8
    assert found["p_traces_request"] == pytest.approx(0.6)
    assert found["votes_request"] == pytest.approx(0.75)
    assert found["members_mean_request"] == pytest.approx(0.5)
    assert found["members_disagreement_request"] == pytest.approx(1.2)
    assert found["parsed"] == pytest.approx(2 / 3)
    assert found["n_traces"] == 3.0
    assert found["deepconf_mean"] == 3.0


def test_a_cut_trace_does_not_count_as_unparsed() -> None:
    found = signals(ALONE, Direct({"request": 0.8}, 0), [trace("harmful", 0.9), trace(None, 0.0, stop="cut")])
    assert found["parsed"] == 1.0


def test_without_a_readable_trace_there_is_no_vote() -> None:
    found = signals(ALONE, Direct({"request": 0.8}, 0), [trace(None, 0.0)])
    assert found["p_traces_request"] is None
    assert found["votes_request"] is None
    assert found["parsed"] == 0.0
