"""Sample traces on any backend: which rows are decoded, when they are renewed, and when a trace has ended.

`more` and `monitor` decide about a trace, by rules of their own. Each trace has its own random numbers, which follow
from the seed, its prompt's tokens, and its number: the rows that it is decoded with, and the prompts that it is asked
with, change nothing.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import Encoded, Monitor, Sampled, Sampling
from wizloop.backends.tokens import Tokens

# Nucleus sampling looks at this many tokens: a guard that has learned its format has no mass beyond them worth a full
# sort.
_NUCLEUS = 64


@dataclass(frozen=True, slots=True)
class StepSpec:
    """The quantities that a decoding step computes from logits.

    `k` is the top k of the confidence, `watch` the token ids of each watched choice, temperature 0 is greedy.
    """

    k: int
    watch: Mapping[str, Sequence[int]]
    temperature: float
    top_p: float

    def width(self, vocab: int) -> int:
        """Return how many of the most likely tokens are considered."""
        return min(max(self.k, _NUCLEUS) if self.temperature else self.k, vocab)


def step_spec(sampling: Sampling, tokens: Tokens, vocab: int) -> StepSpec:
    """Return what a sampling needs of each step."""
    watch = {name: tokens.deciding(choice)[1] for name, choice in sampling.watch.items()}
    return StepSpec(min(sampling.topk, vocab), watch, sampling.temperature, sampling.top_p)


def nucleus(xp: Any, p: Any, noise: Any, top_p: float) -> Any:
    """Draw a place per row, [rows, 1], from falling probabilities `p` [rows, width] by `noise` [rows, 1] in [0, 1).

    Draws from the fewest tokens that reach `top_p` of the `width` (arXiv:1904.09751, section 3.1). `xp` is numpy,
    mlx.core, or torch.
    """
    before = xp.cumsum(p, -1) - p
    # Nothing is before the first token: it is always kept.
    kept = before < top_p
    up_to = xp.cumsum(xp.where(kept, p, 0.0), -1)
    chosen = (up_to <= noise * up_to[:, -1:]).sum(-1)[:, None]
    # Rounding may carry the largest noise past the last kept token.
    return xp.minimum(chosen, kept.sum(-1)[:, None] - 1)


def of_prompt(prompt: Encoded) -> int:
    """Return the number that stands for a prompt's tokens in the seed of its traces."""
    ids = np.array([*prompt.shared, *prompt.body], np.int64)
    return int.from_bytes(hashlib.sha256(ids.tobytes()).digest()[:8], "big")


@dataclass(slots=True)
class Step:
    """One token for every row. `watched[name][row]` are the probabilities of a choice's words, among those words."""

    tokens: Any
    confidences: Any
    watched: dict[str, Any]

    def map(self, function: Callable[..., Any], *others: "Step") -> "Step":
        """Apply a function to each array of this step, and to those of `others` with it."""
        steps = (self, *others)
        return Step(
            function(*(step.tokens for step in steps)),
            function(*(step.confidences for step in steps)),
            {name: function(*(step.watched[name] for step in steps)) for name in self.watched},
        )


@dataclass(frozen=True, slots=True)
class Start:
    """A new row: its prompt's cache without the last token, that token, and a random number in [0, 1) per new token."""

    cache: Any
    token: int
    noise: NDArray[np.float32]


class Rows(Protocol):
    """The rows that a backend decodes in parallel."""

    @property
    def full(self) -> bool:
        """True if the rows must be renewed before the next step."""

    def most(self, tokens: int) -> int | None:
        """Return how many rows there is room for if the longest has `tokens`; None means no limit."""

    def renew(self, kept: Sequence[int], starts: Sequence[Start], left: int) -> None:
        """Continue with the rows `kept`, in this order, then `starts`, each for at most `left` more tokens."""

    def step(self, *, last: bool = False) -> Step:
        """Return every row's next token, as lists; `last` if no row continues after it."""


@dataclass(slots=True)
class _Trace:
    """A trace being sampled. `stop` is empty until it has ended."""

    prompt: int
    number: int
    monitor: Monitor | None
    noise: NDArray[np.float32]
    ids: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    watched: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    stop: str = ""


class TraceSampler:
    """One call of Guard.sample. `caches[i]` is the cache of prompt i without its last token."""

    def __init__(
        self, rows: Rows, tokens: Tokens, sampling: Sampling, prompts: Sequence[Encoded], caches: Mapping[int, Any]
    ) -> None:
        self._rows, self._tokens, self._sampling = rows, tokens, sampling
        self._prompts, self._caches = prompts, caches
        self._writing: list[_Trace] = []
        """By row; a trace that has ended stays until rows are renewed."""
        self._waiting: deque[_Trace] = deque()

    def run(self, order: Iterable[int]) -> list[list[Sampled]]:
        """Return all traces of all prompts, in the prompts' order; `order` is the order in which they begin."""
        done: list[dict[int, Sampled]] = [{} for _ in self._prompts]
        self._waiting.extend(
            self._new_trace(prompt, number) for prompt in order for number in range(self._sampling.least)
        )
        while self._waiting or any(not trace.stop for trace in self._writing):
            self._renew()
            for trace in self._step():
                done[trace.prompt][trace.number] = self._finished(trace)
                self._ask_for_more(trace.prompt, done[trace.prompt])
        return [[traces[number] for number in sorted(traces)] for traces in done]

    def _new_trace(self, prompt: int, number: int) -> _Trace:
        monitor = self._sampling.monitor() if self._sampling.monitor else None
        drawn = np.random.default_rng([self._sampling.seed, of_prompt(self._prompts[prompt]), number])
        noise = drawn.random(self._sampling.max_tokens, dtype=np.float32)
        return _Trace(prompt, number, monitor, noise, watched={name: [] for name in self._sampling.watch})

    def _renew(self) -> None:
        """Replace ended traces by waiting ones, a quarter of the rows at a time: it copies the whole cache."""
        ended = sum(bool(trace.stop) for trace in self._writing)
        if 4 * ended < len(self._writing) and not self._rows.full:
            return
        kept = [row for row, trace in enumerate(self._writing) if not trace.stop]
        going = [self._writing[row] for row in kept]
        new = self._let_in(going)
        self._writing = going + new
        starts = [Start(self._caches[one.prompt], self._prompts[one.prompt].body[-1], one.noise) for one in new]
        left = max(self._sampling.max_tokens - len(trace.ids) for trace in self._writing)
        self._rows.renew(kept, starts, left)

    def _let_in(self, going: Sequence[_Trace]) -> list[_Trace]:
        """Return the waiting traces that fit with those that continue, at least one."""
        new: list[_Trace] = []
        longest = max((self._length(trace) for trace in going), default=0)
        while self._waiting and len(going) + len(new) < self._sampling.rows:
            longest = max(longest, self._length(self._waiting[0]))
            rows, most = len(going) + len(new) + 1, self._rows.most(longest)
            if most is not None and rows > max(1, most):
                break
            new.append(self._waiting.popleft())
        return new

    def _length(self, trace: _Trace) -> int:
        """Return the most tokens that a trace may have, prompt included."""
        prompt = self._prompts[trace.prompt]
        return len(prompt.shared) + len(prompt.body) + self._sampling.max_tokens

    def _step(self) -> list[_Trace]:
        """Decode one token for every row; return the traces that ended with it."""
        most = self._sampling.max_tokens
        step = self._rows.step(last=all(trace.stop or len(trace.ids) + 1 == most for trace in self._writing))
        going = [(row, trace) for row, trace in enumerate(self._writing) if not trace.stop]
        return [trace for row, trace in going if self._ends(trace, step, row)]

    def _ends(self, trace: _Trace, step: Step, row: int) -> bool:
        """Append a row's token; return whether the trace ends with it."""
        token, confidence = step.tokens[row], step.confidences[row]
        if token in self._tokens.ends:
            trace.stop = "stop"
            return True
        trace.ids.append(token)
        trace.confidences.append(confidence)
        for name, of in step.watched.items():
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
        """Ask for one more trace when every earlier one is finished, so that the result does not depend on a race."""
        more, drawn = self._sampling.more, len(done)
        if more is None or not self._sampling.least <= drawn < self._sampling.most:
            return
        if more(prompt, [done[number] for number in sorted(done)]):
            self._waiting.append(self._new_trace(prompt, drawn))
