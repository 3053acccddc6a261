"""Guard inference: direct answers (one forward pass per task), sampled traces, and the signals computed from both.

`calibration` decides which signals to use.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from wizloop.backends.guard_types import Sampled, Sampling
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.readers import STRICT, Reader
from wizloop.loop.guard.rendering import Renderer, Text, choice, main_task, tasks_of
from wizloop.loop.measures import deepconf
from wizloop.loop.measures.uncertainty import disagreement
from wizloop.loop.words import LABELS, TASKS, Task

Signals = dict[str, float | None]


class Direct(NamedTuple):
    """A direct answer: P(positive) of each task that applies, and the number of prompt tokens cut."""

    p: dict[Task, float]
    cut: int
    by_policy: Mapping[str, Mapping[Task, float]] = {}
    """P(positive) by policy, where each policy is asked about in a question of its own."""


@dataclass(frozen=True)
class Trace:
    """One parsed trace. `verdict` holds the tasks that apply; None: unparsed."""

    text: str
    verdict: dict[Task, str | None] | None
    p: dict[Task, float]
    """P(positive) at the verdict's token; 1 or 0 where the verdict is spelled otherwise than it is watched."""
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
    answers = [Direct({}, one.cut) for one in encoded]
    decided: list[dict[Task, str | None]] = [{} for _ in samples]
    for task in TASKS:
        positions = [at for at, sample in enumerate(samples) if task in tasks_of(sample)]
        if not positions:
            continue
        if task != "request":
            prompts = [renderer.direct_prompt(samples[at], decided[at]) for at in positions]
            encoded = [guard.encode(prompt, max_tokens=max_tokens) for prompt in prompts]
        for at, row in zip(positions, guard.score(encoded, choice(task), rows=rows), strict=True):
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
        watch={task: choice(task) for task in TASKS},
        more=_more(samples, how, reader),
        monitor=None if how.cut_below is None else partial(deepconf.OnlineGroup, how.window, how.cut_below),
        rows=rows,
    )
    drawn = guard.sample(encoded, sampling)
    return [
        [parse_trace(one, sample, how.window, reader) for one in traces]
        for sample, traces in zip(samples, drawn, strict=True)
    ]


def parse_trace(sampled: Sampled, sample: Text, window: int, reader: Reader = STRICT) -> Trace:
    """Parse one sampled trace: verdicts, the probability of each at its token, and DeepConf's measures."""
    reading = None if sampled.stop == "cut" else reader.read(sampled.text, sample)
    measures = deepconf.measures(sampled.confidences, window=window, tail=window)
    if reading is None:
        return Trace(sampled.text, None, {}, sampled.stop, measures, sampled.tokens)
    p = {task: float(label == LABELS[task][0]) for task, label in reading.verdict.items() if label is not None}
    p |= {task: _at(sampled, task, start) for task, start in reading.starts.items()}
    return Trace(sampled.text, reading.verdict, p, sampled.stop, measures, sampled.tokens)


def signals(
    sample: Text, direct: Direct, traces: Sequence[Trace] = (), members: Sequence[Mapping[str, float]] = ()
) -> Signals:
    """Compute the signals of one sample; `members` are the members' P(positive) by task.

    `p_direct_TASK`, `p_traces_TASK` (mean over the parsed traces), `votes_TASK` (the winner's share, weighted by the
    lowest tenth of the groups), `members_mean_TASK` and `members_disagreement_TASK` (the guard counts as a member),
    `deepconf_*` (mean over the traces), `n_traces`, `parsed` (share of the traces that were not cut), `tokens` (mean);
    `p_policy_TASK_ID` of a policy that was asked about alone.
    """
    found: Signals = {
        f"p_policy_{task}_{policy}": p for policy, answer in direct.by_policy.items() for task, p in answer.items()
    }
    for task in tasks_of(sample):
        found[f"p_direct_{task}"] = direct.p[task]
        # A member that is asked by traces has no probability where none of them could be read.
        together = [direct.p[task], *(member[task] for member in members if task in member)]
        if len(together) > 1:
            found[f"members_mean_{task}"] = sum(together) / len(together)
            found[f"members_disagreement_{task}"] = disagreement(together)
        if traces:
            found |= _voted(task, traces)
    if traces:
        found |= _of_traces(traces)
    return found


def _voted(task: Task, traces: Sequence[Trace]) -> Signals:
    ps = [trace.p[task] for trace in traces if task in trace.p]
    return {f"p_traces_{task}": _mean(ps) if ps else None, f"votes_{task}": _votes(task, traces).share if ps else None}


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


def _at(sampled: Sampled, task: Task, character: int) -> float:
    """Return the P(positive) recorded at the token that contains a character."""
    return sampled.watched[task][bisect_right(sampled.starts, character) - 1][0]


def _more(
    samples: Sequence[Text], how: TraceSampling, reader: Reader
) -> Callable[[int, Sequence[Sampled]], bool] | None:
    """Return a predicate: does a sample need another trace (DeepConf's adaptive sampling)? None draws all at once."""
    consensus = how.consensus
    if consensus is None or how.least == how.most:
        return None

    def more(index: int, drawn: Sequence[Sampled]) -> bool:
        sample = samples[index]
        votes = _votes(main_task(sample), [parse_trace(one, sample, how.window, reader) for one in drawn])
        return deepconf.keep_sampling(votes, len(drawn), least=how.least, most=how.most, consensus=consensus)

    return more
