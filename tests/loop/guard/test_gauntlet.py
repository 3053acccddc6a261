"""One question for each policy, put together: any harmful verdict wins."""

from dataclasses import replace

import pytest

from wizloop.loop.guard import gauntlet
from wizloop.loop.guard.inference import Direct, Trace, signals
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.loop.measures.deepconf import Measures
from wizloop.recipes.policies import PolicySet, PolicyText

POLICIES = PolicySet(policies=tuple(PolicyText(id=id, name=id, description=id) for id in ("a", "b")), ask="each")
MEASURES = Measures(3.0, 2.0, 1.0, 1.0)


def trace(request: str | None, p: float = 0.5, completion: str | None = None) -> Trace:
    verdict = None if request is None else {"request": request, **({"completion": completion} if completion else {})}
    return Trace(f"{request} {p}", verdict, {} if request is None else {"request": p}, "stop", MEASURES, 5)  # type: ignore[arg-type]


def test_a_guard_without_policies_has_one_question() -> None:
    plain = Renderer("Judge it.")
    assert gauntlet.renderers(plain) == [(None, plain)]
    every = replace(plain, policies=POLICIES.model_copy(update={"ask": "all"}), shown="all")
    assert gauntlet.renderers(every) == [(None, every)]
    assert [(id, one.shown.splitlines()[1]) for id, one in gauntlet.renderers(replace(plain, policies=POLICIES))] == [
        ("a", "- a: a"),
        ("b", "- b: b"),
    ]


def test_the_largest_probability_of_harm_counts_and_of_a_refusal_the_mean() -> None:
    first, second = Direct({"request": 0.2, "completion": 0.4}, 3), Direct({"request": 0.9, "completion": 0.8}, 1)
    [found] = gauntlet.directly(["a", "b"], [[first], [second]])
    assert found.p == pytest.approx({"request": 0.9, "completion": 0.6})
    assert found.cut == 3
    kept = signals(InputText("hi", "yes"), with_response(found))
    assert (kept["p_policy_request_a"], kept["p_policy_request_b"], kept["p_direct_request"]) == (0.2, 0.9, 0.9)


def with_response(found: Direct) -> Direct:
    return found._replace(p={**found.p, "response": 0.1})


def test_one_answer_stays_as_it_is() -> None:
    only = Direct({"request": 0.2}, 0)
    assert gauntlet.directly([None], [[only]]) == [only]
    assert "p_policy_request_None" not in signals(InputText("hi"), only)
    assert gauntlet.traced([[[trace("harmful")]]]) == [[trace("harmful")]]


@pytest.mark.parametrize(
    ("drawn", "verdict", "p"),
    [
        ([trace("unharmful", 0.1), trace("harmful", 0.8)], "harmful", 0.8),
        ([trace("harmful", 0.6), trace("harmful", 0.9)], "harmful", 0.9),
        ([trace("unharmful", 0.1), trace("unharmful", 0.3)], "unharmful", 0.3),
        ([trace(None), trace("harmful", 0.7)], "harmful", 0.7),
    ],
)
def test_any_harmful_trace_wins(drawn: list[Trace], verdict: str, p: float) -> None:
    [[found]] = gauntlet.traced([[[one]] for one in drawn])
    assert (found.verdict, found.p, found.tokens) == ({"request": verdict}, {"request": p}, 10)


def test_an_unread_answer_is_not_taken_for_unharmful() -> None:
    [[found]] = gauntlet.traced([[[trace("unharmful", 0.1)]], [[trace(None)]]])
    assert found.verdict is None


def test_the_shortest_question_bounds_the_traces() -> None:
    [found] = gauntlet.traced([[[trace("harmful"), trace("harmful")]], [[trace("harmful")]]])
    assert len(found) == 1
