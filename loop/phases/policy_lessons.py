"""Vary the policies that training prompts show, and label each example by those that it shows.

As Llama Guard was trained (arXiv:2312.06674): policies that a text does not violate are dropped at random
and the order changes; now and then all that it violates are dropped, and the example is then taught as unharmful. So a
guard must read the policies. What is drawn follows from the seed, the round and the sample. Policies that the recipe
leaves out are never shown, and a text that violates only these is not trained on: any label would teach the guard
something about what it is then measured on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from wizloop.loop.context import seed_of
from wizloop.loop.guard import shown_policies
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.words import LABELS, Task
from wizloop.recipes.policies import PolicySet, PolicyText, by_word, folded
from wizloop.recipes.schema import Recipe
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace

DROPPED = 0.25
"""Share of the texts with known violated policies whose prompt shows none of these. Not tuned."""
ONLY_LEFT_OUT = "it violates only policies that guard.policies_left_out names"
UNKNOWN = "which policy it violates is not known, and guard.policies_ask asks about each alone"
_JUDGED: tuple[Task, ...] = ("request", "response")
"""Tasks whose label follows from the policies; a refusal is one whatever they say."""
_REASON = "No policy that is shown covers this"
_STEP = "None of the policies that are shown covers this."


class NotTaught(ValueError):
    """A sample is not trained on; the message is the reason."""


class Shown(NamedTuple):
    """How one sample stands in training."""

    asked: Renderer
    """Shows every policy of training, or the one that is asked about: the question in which pairs are mined."""
    varied: Renderer
    """Shows what was drawn."""
    follows: bool
    """Whether none of the policies that the text violates is drawn, so that its example is unharmful."""
    hidden_when_asked: frozenset[str] = frozenset()
    """Categories that are policies which `asked` does not show."""
    hidden: frozenset[str] = frozenset()
    """Categories that are policies which `varied` does not show."""


def drawn(
    recipe: Recipe,
    round: int,
    renderer: Renderer,
    sample: Sample,
    trace: TeacherTrace | None = None,
    labeled: Sequence[str] | None = None,
) -> Shown:
    """Return how a round's training asks about a sample, whose violated policies its labels or its trace name.

    `labeled` are its known categories. It follows from seed, round and sample alone. Raises NotTaught.
    """
    policies = renderer.policies
    violated = () if policies is None else violated_by(policies, sample.policy, trace, labeled)
    rng = np.random.default_rng(seed_of(recipe.seed, round, "train", "policies", sample.id))
    found = shown(renderer, sample.labels if trace is None else trace.verdict, violated, rng)
    if isinstance(found, str):
        raise NotTaught(found)
    return found


def shown(
    renderer: Renderer, verdict: Mapping[str, str | None], violated: Sequence[str], rng: np.random.Generator
) -> Shown | str:
    """Return how a sample is asked in training, or the reason why it is not trained on.

    `violated` are the ids of the policies that its text is known to violate.
    """
    policies = renderer.policies
    if policies is None:
        return Shown(renderer, renderer, follows=False)
    harmful = _harmful(verdict)
    known = tuple(one for one in policies.trained if harmful and one.id in violated)
    if harmful and violated and not known:
        return ONLY_LEFT_OUT
    if policies.ask == "each":
        return UNKNOWN if harmful and not known else _one(renderer, policies, known, rng)
    drawn = list(policies.trained)
    if policies.vary and not (harmful and not known):
        drawn = _some(drawn, known, rng)
    follows = bool(known) and not any(one in known for one in drawn)
    return _shown(renderer, policies.trained, _worded(policies, drawn, rng), follows=follows)


def violated_by(
    policies: PolicySet, policy: str | None, trace: TeacherTrace | None = None, labeled: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the policies that a text violates: of its categories, or of its policy, or what its trace names first."""
    if known := shown_policies.ids_in(labeled, policy, policies):
        return known
    if trace is None:
        return ()
    written = json.loads(trace.trace_json)
    listed = [str(one) for key in ("policies", "categories") for one in written.get(key) or ()]
    steps = [str(one) for each in json.loads(trace.steps_json).values() for one in each or ()]
    places = (listed, [trace.explanation], map(str, written.get("harmful_uses") or ()), steps)
    return next(filter(None, (shown_policies.named_in(texts, policies) for texts in places)), ())


def following(trace: TeacherTrace) -> TeacherTrace:
    """Return a trace as it is where no policy that is shown covers the text: unharmful, for that reason."""
    verdict = {task: _unharmful(task, label) for task, label in trace.verdict.items()}
    steps = json.loads(trace.steps_json)
    steps |= {task: [_STEP] for task in _JUDGED if steps.get(task)}
    act = verdict.get("completion")
    ending = "" if act is None else f"; the assistant {'refuses' if act == LABELS['completion'][0] else 'complies'}"
    return replace(trace, verdict=verdict, explanation=f"{_REASON}{ending}.", steps_json=json.dumps(steps))


def _harmful(verdict: Mapping[str, str | None]) -> bool:
    return any(verdict.get(task) == LABELS[task][0] for task in _JUDGED)


def _unharmful(task: str, label: str | None) -> str | None:
    return LABELS[task][-1] if task in _JUDGED and label is not None else label


def _some(trained: Sequence[PolicyText], violated: Sequence[PolicyText], rng: np.random.Generator) -> list[PolicyText]:
    """Drop a random number of the policies that are not violated, and sometimes all that are; keep at least one."""
    others = [one for one in trained if one not in violated]
    kept = [others[at] for at in sorted(rng.permutation(len(others))[: rng.integers(len(others) + 1)])]
    drop = bool(violated) and bool(others) and rng.random() < DROPPED
    drawn = kept if drop else [one for one in trained if one in violated or one in kept]
    return drawn or [others[rng.integers(len(others))]]


def _one(renderer: Renderer, policies: PolicySet, violated: Sequence[PolicyText], rng: np.random.Generator) -> Shown:
    """Ask about one policy: of a harmful text as often a violated one as another, so that both verdicts are learned."""
    others = [one for one in policies.trained if one not in violated]
    asked = violated[0] if violated else others[rng.integers(len(others))]
    drawn = asked
    if violated and others and rng.random() < 0.5:
        drawn = others[rng.integers(len(others))]
    follows = bool(violated) and drawn not in violated
    return _shown(renderer, [asked], _worded(policies, [drawn], rng), follows=follows)


def _shown(renderer: Renderer, asked: Sequence[PolicyText], drawn: Sequence[PolicyText], *, follows: bool) -> Shown:
    return Shown(
        _showing(renderer, asked),
        _showing(renderer, drawn),
        follows,
        _hidden(renderer, asked),
        _hidden(renderer, drawn),
    )


def _hidden(renderer: Renderer, shown: Iterable[PolicyText]) -> frozenset[str]:
    """Return the categories that are policies of the guard, and none of these."""
    ids = {} if renderer.policies is None else by_word(renderer.policies.policies)
    there = {one.id for one in shown}
    return frozenset(name for name in renderer.categories if ids.get(folded(name)) not in (None, *there))


def _worded(policies: PolicySet, drawn: Sequence[PolicyText], rng: np.random.Generator) -> list[PolicyText]:
    """Return policies in a random order and wording, if they vary."""
    if not policies.vary:
        return list(drawn)
    return [shown_policies.worded(drawn[at], int(rng.integers(1 << 31))) for at in rng.permutation(len(drawn))]


def _showing(renderer: Renderer, shown: Sequence[PolicyText]) -> Renderer:
    """Return a renderer that asks one question, which shows these policies."""
    length = "full" if renderer.policies is None else renderer.policies.text
    return replace(renderer, policies=None, shown=shown_policies.text_of(shown, length))
