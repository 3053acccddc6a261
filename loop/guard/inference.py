"""Guard inference: direct answers (one forward pass per task), sampled traces, and the signals computed from both.

`calibration` decides which signals to use.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from wizloop.backends.guard_types import Sampled, Sampling
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.readers import STRICT, Reader
from wizloop.loop.guard.rendering import Renderer, Text, choice
from wizloop.loop.measures import deepconf
from wizloop.loop.measures.uncertainty import disagreement
from wizloop.loop.words import DEFAULT, Declaration, Task, share_of

Signals = dict[str, float | None]


class Direct(NamedTuple):
    """A direct answer: P(positive) of each task that applies, and the number of prompt tokens cut."""

    p: dict[str, float]
    """With it, under `share_of(task, label)`, P of each further label of a task with more than two."""
    cut: int
    by_policy: Mapping[str, Mapping[str, float]] = {}
    """P(positive) by policy, where each policy is asked about in a question of its own."""


@dataclass(frozen=True)
class Trace:
    """One parsed trace. `verdict` holds the tasks that apply; None: unparsed."""

    text: str
    verdict: dict[Task, str | None] | None
    p: dict[str, float]
    """P(positive) at the verdict's token, and of further labels as in Direct; 1 or 0 where the verdict is spelled
    otherwise than it is watched."""
    stop: str
    measures: deepconf.Measures
    tokens: int


class TraceSampling(NamedTuple):
    """Settings for sampling traces from a guard."""

    least: int
    most: int
    temperature: float
    top_p: float
    max_tokens: int
    window: int
    """DeepConf's group, in tokens."""
    consensus: float | None = None
    """Vote share at which sampling stops; None always draws `most`."""
    cut_below: float | None = None
    """Group confidence below which a trace is cut while it is written; None cuts nothing."""


def ask_direct(
    guard: Guard, renderer: Renderer, samples: Sequence[Text], *, max_tokens: int, rows: int = 128
) -> list[Direct]:
    """Return one direct answer per sample: the request first, then each further task given the verdicts before it."""
    encoded = [guard.encode(renderer.direct_prompt(sample), max_tokens=max_tokens) for sample in samples]
    declared = renderer.declared
    answers = [Direct({}, one.cut) for one in encoded]
    decided: list[dict[Task, str | None]] = [{} for _ in samples]
    for task in declared.tasks:
        positions = [at for at, sample in enumerate(samples) if task in declared.tasks_of(sample)]
        if not positions:
            continue
        if task != "request":
            prompts = [renderer.direct_prompt(samples[at], decided[at]) for at in positions]
            encoded = [guard.encode(prompt, max_tokens=max_tokens) for prompt in prompts]
        for at, row in zip(positions, guard.score(encoded, choice(task, declared), rows=rows), strict=True):
            answers[at].p.update(_by_label(task, row, declared))
            decided[at][task] = declared[task][int(np.argmax(row))]
    return answers


def _by_label(task: Task, row: Sequence[float], declared: Declaration) -> dict[str, float]:
    """Return P(positive) of a task and, if it has more than two labels, P of each of the others."""
    further = dict(zip(declared.classes(task)[1:], row[1:], strict=False))
    return {task: float(row[0]), **{share_of(task, label): float(p) for label, p in further.items()}}


def ask_traces(
    guard: Guard,
    renderer: Renderer,
    samples: Sequence[Text],
    how: TraceSampling,
    *,
    max_tokens: int,
    seed: int,
    reader: Reader = STRICT,
    rows: int = 128,
) -> list[list[Trace]]:
    """Return the traces of each sample, in the order drawn."""
    encoded = [guard.encode(renderer.trace_prompt(sample), max_tokens=max_tokens) for sample in samples]
    sampling = Sampling(
        least=how.least,
        most=how.most,
        temperature=how.temperature,
        top_p=how.top_p,
        max_tokens=how.max_tokens,
        seed=seed,
        watch={task: choice(task, renderer.declared) for task in renderer.declared.tasks},
        more=_more(samples, how, reader, renderer.declared),
        monitor=None if how.cut_below is None else partial(deepconf.OnlineGroup, how.window, how.cut_below),
        rows=rows,
    )
    drawn = guard.sample(encoded, sampling)
    return [
        [parse_trace(one, sample, how.window, reader, renderer.declared) for one in traces]
        for sample, traces in zip(samples, drawn, strict=True)
    ]


def parse_trace(
    sampled: Sampled, sample: Text, window: int, reader: Reader = STRICT, declared: Declaration = DEFAULT
) -> Trace:
    """Parse one sampled trace: verdicts, the probability of each at its token, and DeepConf's measures."""
    reading = None if sampled.stop == "cut" else reader.read(sampled.text, sample, declared)
    measures = deepconf.measures(sampled.confidences, window=window, tail=window)
    if reading is None:
        return Trace(sampled.text, None, {}, sampled.stop, measures, sampled.tokens)
    p: dict[str, float] = {}
    for task, label in reading.verdict.items():
        if label is not None:
            spelled = [float(label == word) for word in declared[task]]
            start = reading.starts.get(task)
            p |= _by_label(task, spelled if start is None else _at(sampled, task, start), declared)
    return Trace(sampled.text, reading.verdict, p, sampled.stop, measures, sampled.tokens)


def signals(
    sample: Text,
    direct: Direct,
    traces: Sequence[Trace] = (),
    members: Sequence[Mapping[str, float]] = (),
    declared: Declaration = DEFAULT,
) -> Signals:
    """Compute the signals of one sample; `members` are the members' P(positive) by task.

    `p_direct_TASK`, `p_traces_TASK` (mean over the parsed traces; with `:LABEL` that of a further label),
    `votes_TASK` (the winner's share, weighted by the lowest tenth of the groups), `members_mean_TASK` and
    `members_disagreement_TASK` (the guard counts as a member), `deepconf_*` (mean over the traces), `n_traces`,
    `parsed` (share of the traces that were not cut), `tokens` (mean); `p_policy_TASK_ID` of a policy that was asked
    about alone.
    """
    found: Signals = {
        f"p_policy_{task}_{policy}": p for policy, answer in direct.by_policy.items() for task, p in answer.items()
    }
    for task in declared.tasks_of(sample):
        names = [task, *(share_of(task, label) for label in declared.classes(task)[1:])]
        # A guard whose verdicts are all the linear head's is not asked.
        found |= {f"p_direct_{name}": direct.p[name] for name in names if name in direct.p}
        # A member that is asked by traces has no probability where none of them could be read.
        own = [direct.p[task]] if task in direct.p else []
        together = [*own, *(member[task] for member in members if task in member)]
        if len(together) > 1:
            found[f"members_mean_{task}"] = sum(together) / len(together)
            found[f"members_disagreement_{task}"] = disagreement(together)
        if traces:
            found |= _voted(task, names, traces)
    if traces:
        found |= _of_traces(traces)
    return found


def _voted(task: Task, names: Sequence[str], traces: Sequence[Trace]) -> Signals:
    read = [trace.p for trace in traces if task in trace.p]
    means: Signals = {f"p_traces_{name}": _mean([p[name] for p in read]) if read else None for name in names}
    return {**means, f"votes_{task}": _votes(task, traces).share if read else None}


def _votes(task: Task, traces: Sequence[Trace]) -> deepconf.Votes:
    answers = [None if trace.verdict is None else trace.verdict.get(task) for trace in traces]
    return deepconf.weighted_votes(answers, [trace.measures.bottom for trace in traces])


def _of_traces(traces: Sequence[Trace]) -> Signals:
    whole = [trace for trace in traces if trace.stop != "cut"]
    named: Signals = {
        f"deepconf_{name}": _mean([getattr(trace.measures, name) for trace in traces])
        for name in ("mean", "tail", "lowest", "bottom")
    }
    parsed = _mean([float(trace.verdict is not None) for trace in whole]) if whole else None
    tokens = _mean([float(trace.tokens) for trace in traces])
    return {**named, "n_traces": float(len(traces)), "parsed": parsed, "tokens": tokens}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _at(sampled: Sampled, task: Task, character: int) -> tuple[float, ...]:
    """Return the labels' probabilities recorded at the token that contains a character."""
    return sampled.watched[task][bisect_right(sampled.starts, character) - 1]


def _more(
    samples: Sequence[Text], how: TraceSampling, reader: Reader, declared: Declaration
) -> Callable[[int, Sequence[Sampled]], bool] | None:
    """Return a predicate: does a sample need another trace (DeepConf's adaptive sampling)? None draws all at once."""
    consensus = how.consensus
    if consensus is None or how.least == how.most:
        return None

    def more(index: int, drawn: Sequence[Sampled]) -> bool:
        sample = samples[index]
        parsed = [parse_trace(one, sample, how.window, reader, declared) for one in drawn]
        votes = _votes(declared.main_task(sample), parsed)
        return deepconf.keep_sampling(votes, len(drawn), least=how.least, most=how.most, consensus=consensus)

    return more
