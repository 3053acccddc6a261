"""Draws traces on MLX: which rows are decoded, when they are renewed, and when a trace has ended.

Used by mlx_guard only. It asks `more` and `monitor` what to do with a trace and knows nothing of why. Each trace has
its own random numbers, which follow from the seed, its prompt and its number: which rows it shares changes nothing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import Encoded, Monitor, Sampled, Sampling
from wizloop.backends.mlx_load import Loaded
from wizloop.backends.mlx_reading import Reading, Step
from wizloop.backends.mlx_rows import Rows, Start, wired
from wizloop.backends.tokens import Tokens


@dataclass(slots=True)
class _Trace:
    """A trace being written. `stop` is empty until it has ended."""

    prompt: int
    number: int
    monitor: Monitor | None
    noise: NDArray[np.float32]
    ids: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    watched: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    stop: str = ""


class TraceSampler:
    """One call of Guard.sample."""

    def __init__(self, loaded: Loaded, tokens: Tokens, vocab: int, sampling: Sampling) -> None:
        self._tokens, self._sampling = tokens, sampling
        watch = {name: tokens.deciding(choice)[1] for name, choice in sampling.watch.items()}
        how = Reading(min(sampling.topk, vocab), watch, sampling.temperature, sampling.top_p)
        self._rows = Rows(loaded, how, sampling.max_tokens)
        self._writing: list[_Trace] = []
        """By row; one that has ended stays until rows are renewed."""
        self._waiting: deque[_Trace] = deque()

    def run(self, prompts: Sequence[Encoded], caches: Mapping[int, Sequence[Any]]) -> list[list[Sampled]]:
        """All traces of all prompts. `caches[i]` holds prompt i without its last token."""
        done: list[dict[int, Sampled]] = [{} for _ in prompts]
        for prompt in range(len(prompts)):
            for number in range(self._sampling.least):
                self._waiting.append(self._new_trace(prompt, number))
        with wired():
            while self._waiting or any(not trace.stop for trace in self._writing):
                self._renew(prompts, caches)
                for trace in self._step():
                    done[trace.prompt][trace.number] = self._finished(trace)
                    self._ask_for_more(trace.prompt, done[trace.prompt])
        return [[traces[number] for number in sorted(traces)] for traces in done]

    def _new_trace(self, prompt: int, number: int) -> _Trace:
        monitor = self._sampling.monitor() if self._sampling.monitor else None
        drawn = np.random.default_rng([self._sampling.seed, prompt, number])
        noise = drawn.random(self._sampling.max_tokens, dtype=np.float32)
        return _Trace(prompt, number, monitor, noise, watched={name: [] for name in self._sampling.watch})

    def _renew(self, prompts: Sequence[Encoded], caches: Mapping[int, Sequence[Any]]) -> None:
        """Let waiting traces in and ended ones out. A quarter of the rows at a time: it copies the whole cache."""
        ended = sum(bool(trace.stop) for trace in self._writing)
        if self._writing and (not ended or 4 * ended < len(self._writing)):
            return
        kept = [row for row, trace in enumerate(self._writing) if not trace.stop]
        room = self._sampling.rows - len(kept)
        new = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        self._writing = [self._writing[row] for row in kept] + new
        starts = [Start(caches[trace.prompt], prompts[trace.prompt].body[-1], trace.noise) for trace in new]
        self._rows.renew(kept, starts)

    def _step(self) -> list[_Trace]:
        """One token for every row; the traces that ended with it."""
        most = self._sampling.max_tokens
        last = all(trace.stop or len(trace.ids) + 1 == most for trace in self._writing)
        said = self._rows.step(last=last)
        going = [(row, trace) for row, trace in enumerate(self._writing) if not trace.stop]
        return [trace for row, trace in going if self._ends(trace, said, row)]

    def _ends(self, trace: _Trace, said: Step, row: int) -> bool:
        """Write a row's token down; whether the trace ends with it."""
        token, confidence = said.tokens[row], said.confidences[row]
        if token in self._tokens.ends:
            trace.stop = "stop"
            return True
        trace.ids.append(token)
        trace.confidences.append(confidence)
        for name, of in said.watched.items():
            trace.watched[name].append(tuple(of[row]))
        if len(trace.ids) == self._sampling.max_tokens:
            trace.stop = "length"
        elif trace.monitor is not None and trace.monitor.push(confidence):
            trace.stop = "cut"
        return bool(trace.stop)

    def _finished(self, trace: _Trace) -> Sampled:
        text = self._tokens.decode(trace.ids)
        return Sampled(text, trace.stop, self._tokens.starts(trace.ids, text), trace.confidences, trace.watched)

    def _ask_for_more(self, prompt: int, done: Mapping[int, Sampled]) -> None:
        """One more trace at a time, asked only when every earlier one is finished, so that the answer depends on no
        race.
        """
        asked = len(done)
        if asked < self._sampling.least or asked >= self._sampling.most or self._sampling.more is None:
            return
        if self._sampling.more(prompt, [done[number] for number in sorted(done)]):
            self._waiting.append(self._new_trace(prompt, asked))
