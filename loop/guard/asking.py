"""Asks a guard about samples, both ways: at once (one forward pass a task) and by sampled traces that vote.

It turns answers into named numbers, the signals. Which of them is believed is decided in `calibration`.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from wizloop.backends.guard_types import Monitor, Sampled, Sampling
from wizloop.loop.guard import grammar
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.rendering import Renderer, Text, choice, main_task, tasks_of
from wizloop.loop.measures import deepconf
from wizloop.loop.measures.uncertainty import disagreement
from wizloop.loop.words import LABELS, TASKS, Task

Signals = dict[str, float | None]


class Direct(NamedTuple):
    """What a guard answers at once: P(positive) of each task that applies, and how many tokens it did not see."""

    p: dict[Task, float]
    cut: int


@dataclass(frozen=True)
class Trace:
    """One sampled trace as it was read. `verdict` holds the tasks that apply; None: unparsed."""

    text: str
    verdict: dict[Task, str | None] | None
    p: dict[Task, float]
    """P(positive) at the verdict's own token."""
    stop: str
    measures: deepconf.Measures
    tokens: int


class TraceSampling(NamedTuple):
    """How traces are drawn from a guard."""

    least: int
    most: int
    temperature: float
    top_p: float
    max_tokens: int
    window: int
    """DeepConf's group, in tokens."""
    consensus: float | None = None
    """The share of the vote at which sampling stops; None always draws `most`."""
    cut_below: float | None = None
    """The group confidence below which a trace is cut while it is written; None cuts nothing."""


def ask_direct(
    guard: Guard, renderer: Renderer, samples: Sequence[Text], *, max_tokens: int, rows: int = 128
) -> list[Direct]:
    """One answer per sample: the request first, then, where there is a response, each task given those before it."""
    encoded = [guard.encode(renderer.direct_prompt(sample), max_tokens=max_tokens) for sample in samples]
    answers = [Direct({}, one.cut) for one in encoded]
    decided: list[dict[Task, str | None]] = [{} for _ in samples]
    for task in TASKS:
        asked = [at for at, sample in enumerate(samples) if task in tasks_of(sample)]
        if not asked:
            continue
        if task != "request":
            prompts = [renderer.direct_prompt(samples[at], decided[at]) for at in asked]
            encoded = [guard.encode(prompt, max_tokens=max_tokens) for prompt in prompts]
        for at, row in zip(asked, guard.score(encoded, choice(task), rows=rows), strict=True):
            answers[at].p[task] = float(row[0])
            decided[at][task] = LABELS[task][0 if row[0] >= row[1] else 1]
    return answers


def ask_traces(
    guard: Guard,
    renderer: Renderer,
    samples: Sequence[Text],
    how: TraceSampling,
    *,
    max_tokens: int,
    seed: int,
    rows: int = 128,
) -> list[list[Trace]]:
    """The traces of each sample, in the order in which they were drawn."""
    encoded = [guard.encode(renderer.trace_prompt(sample), max_tokens=max_tokens) for sample in samples]
    sampling = Sampling(
        least=how.least,
        most=how.most,
        temperature=how.temperature,
        top_p=how.top_p,
        max_tokens=how.max_tokens,
        seed=seed,
        watch={task: choice(task) for task in TASKS},
        more=_more(samples, how),
        monitor=_monitor(how),
        rows=rows,
    )
    drawn = guard.sample(encoded, sampling)
    return [[read(one, sample, how.window) for one in traces] for sample, traces in zip(samples, drawn, strict=True)]


def read(sampled: Sampled, sample: Text, window: int) -> Trace:
    """Read one sampled trace: its verdicts, the probability of each at its own token, DeepConf's measures."""
    parsed = None if sampled.stop == "cut" else grammar.parse(sampled.text)
    measures = deepconf.measures(sampled.confidences, window=window, tail=window)
    if parsed is None:
        return Trace(sampled.text, None, {}, sampled.stop, measures, sampled.tokens)
    spans = grammar.verdict_spans(sampled.text) or {}
    verdict = {task: parsed.verdict[task] for task in tasks_of(sample)}
    p = {task: _at(sampled, task, spans[task][0]) for task, label in verdict.items() if label is not None}
    return Trace(sampled.text, verdict, p, sampled.stop, measures, sampled.tokens)


def signals(
    sample: Text,
    direct: Direct,
    traces: Sequence[Trace] = (),
    members: Sequence[Mapping[str, float]] = (),
) -> Signals:
    """Every number that is known of one sample; `members` are their P(positive) by task.

    `p_direct_TASK`, `p_traces_TASK` (mean over the parsed traces), `votes_TASK` (the winner's share, weighted by the
    lowest tenth of the groups), `members_mean_TASK` and `members_disagreement_TASK` (the guard itself is one of them),
    `deepconf_*` (mean over the traces), `n_traces`, `parsed` (of the traces that were not cut), `tokens`.
    """
    found: Signals = {}
    for task in tasks_of(sample):
        found[f"p_direct_{task}"] = direct.p[task]
        together = [direct.p[task], *(member[task] for member in members)]
        if members:
            found[f"members_mean_{task}"] = sum(together) / len(together)
            found[f"members_disagreement_{task}"] = disagreement(together)
        if traces:
            found |= _voted(task, traces)
    if traces:
        found |= _of_traces(traces)
    return found


def _voted(task: Task, traces: Sequence[Trace]) -> Signals:
    answers = [None if trace.verdict is None else trace.verdict.get(task) for trace in traces]
    votes = deepconf.weighted_votes(answers, [trace.measures.bottom for trace in traces])
    ps = [trace.p[task] for trace in traces if task in trace.p]
    read_any = bool(ps)
    return {
        f"p_traces_{task}": sum(ps) / len(ps) if read_any else None,
        f"votes_{task}": votes.share if read_any else None,
    }


def _of_traces(traces: Sequence[Trace]) -> Signals:
    whole = [trace for trace in traces if trace.stop != "cut"]
    named: Signals = {
        f"deepconf_{name}": _mean([getattr(trace.measures, name) for trace in traces])
        for name in ("mean", "tail", "lowest", "bottom")
    }
    parsed = _mean([float(trace.verdict is not None) for trace in whole]) if whole else None
    return {
        **named,
        "n_traces": float(len(traces)),
        "parsed": parsed,
        "tokens": _mean([float(trace.tokens) for trace in traces]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _at(sampled: Sampled, task: Task, character: int) -> float:
    """P(positive) that was watched at the token in which a character stands."""
    return sampled.watched[task][bisect_right(sampled.starts, character) - 1][0]


def _more(samples: Sequence[Text], how: TraceSampling) -> Callable[[int, Sequence[Sampled]], bool] | None:
    """Whether a sample needs another trace (DeepConf's adaptive sampling); None where all are drawn at once."""
    consensus = how.consensus
    if consensus is None or how.least == how.most:
        return None

    def more(index: int, drawn: Sequence[Sampled]) -> bool:
        task = main_task(samples[index])
        traces = [read(one, samples[index], how.window) for one in drawn]
        answers = [None if trace.verdict is None else trace.verdict.get(task) for trace in traces]
        votes = deepconf.weighted_votes(answers, [trace.measures.bottom for trace in traces])
        return deepconf.keep_sampling(votes, len(drawn), least=how.least, most=how.most, consensus=consensus)

    return more


def _monitor(how: TraceSampling) -> Callable[[], Monitor] | None:
    threshold: Any = how.cut_below
    if threshold is None:
        return None
    return lambda: deepconf.OnlineGroup(how.window, threshold)
