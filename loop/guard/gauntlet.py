"""Ask a guard about each policy in a question of its own, and put the answers together: any harmful verdict wins.

P(harmful) is the maximum over the policies. At any threshold that is the same as "one policy is at or above it", and it
does not grow with the number of policies, as a noisy-or of answers that are not independent would. Whether the answer
is a refusal is no policy's matter: its probability is the mean. Without policies, or with all of them in one question,
there is one answer, and nothing is put together.
"""

from collections.abc import Sequence
from dataclasses import replace

from wizloop.loop.guard import shown_policies
from wizloop.loop.guard.inference import Direct, Trace
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.words import LABELS, Task

_MEANT: tuple[Task, ...] = ("completion",)
"""Tasks that policies say nothing about."""


def renderers(renderer: Renderer) -> list[tuple[str | None, Renderer]]:
    """Return each question about a sample: the policy's id, None for a question about all, and its renderer."""
    policies = renderer.policies
    if policies is None or policies.ask == "all":
        return [(None, renderer)]
    ids = [one.id for one in policies.policies]
    texts = shown_policies.questions(policies)
    return [(id, replace(renderer, shown=text)) for id, text in zip(ids, texts, strict=True)]


def directly(ids: Sequence[str | None], asked: Sequence[Sequence[Direct]]) -> list[Direct]:
    """Put the direct answers of every question together, sample by sample."""
    if ids == [None]:
        return list(asked[0])
    return [_together(ids, answers) for answers in zip(*asked, strict=True)]


def traced(asked: Sequence[Sequence[Sequence[Trace]]]) -> list[list[Trace]]:
    """Put the traces of every question together: the first of each question, the second of each, and so on.

    A trace that stands for all is the most harmful one, with the tokens of all. Where a question has fewer traces, the
    others' later ones are left out.
    """
    if len(asked) == 1:
        return [list(traces) for traces in asked[0]]
    return [[_worst(drawn) for drawn in zip(*questions, strict=False)] for questions in zip(*asked, strict=True)]


def _together(ids: Sequence[str | None], answers: Sequence[Direct]) -> Direct:
    p = {task: _pooled(task, [answer.p[task] for answer in answers]) for task in answers[0].p}
    by_policy = {str(id): answer.p for id, answer in zip(ids, answers, strict=True)}
    return Direct(p, max(answer.cut for answer in answers), by_policy)


def _pooled(task: str, values: Sequence[float]) -> float:
    return sum(values) / len(values) if task in _MEANT else max(values)


def _worst(drawn: Sequence[Trace]) -> Trace:
    """Return the traces of all questions as one: the most harmful that could be read, with the verdicts of all.

    Where none is harmful and one is unparsed, so is the whole: that one could have been harmful.
    """
    tokens = sum(trace.tokens for trace in drawn)
    read = [trace for trace in drawn if trace.verdict is not None]
    top = max(read, key=_harm, default=None)
    if top is None or (len(read) < len(drawn) and not _harm(top)[0]):
        return replace(next(trace for trace in drawn if trace.verdict is None), tokens=tokens)
    p = {task: _pooled(task, [trace.p[task] for trace in read if task in trace.p]) for task in top.p}
    verdict = {task: _any_harmful(task, label, read) for task, label in (top.verdict or {}).items()}
    return replace(top, verdict=verdict, p=p, tokens=tokens)


def _any_harmful(task: Task, label: str | None, read: Sequence[Trace]) -> str | None:
    harmful = task not in _MEANT and any((trace.verdict or {}).get(task) == LABELS[task][0] for trace in read)
    return LABELS[task][0] if harmful else label


def _harm(trace: Trace) -> tuple[int, float]:
    """Return how harmful a read trace is: the tasks that it calls harmful, then its largest P(harmful)."""
    judged = [task for task in LABELS if task in trace.p and task not in _MEANT]
    harmful = sum((trace.verdict or {}).get(task) == LABELS[task][0] for task in judged)
    return harmful, max((trace.p[task] for task in judged), default=0.0)
