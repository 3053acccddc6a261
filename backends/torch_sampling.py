"""Draws traces with a torch model, many side by side, and reads confidences and verdict probabilities while it does.

Used by torch_guard only. It asks `more` and `monitor` what to do with a trace and knows nothing of why. Each trace has
its own random numbers, which follow from the seed, its prompt and its number: which rows it shares changes nothing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from wizloop.backends.guard_types import Encoded, Monitor, Sampled, Sampling
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch_load import Loaded
from wizloop.backends.torch_rows import KeysValues, Rows, Start

# Nucleus sampling looks at this many tokens: outside them a guard that was taught its format has no mass worth a full
# sort.
_NUCLEUS = 64
# Tokens whose keys and values are held at once: past these a CPU reads more padding than it saves by another row, and a
# card's memory fills (an 8 B model takes 128 KiB a token).
_HELD_CPU, _HELD_CUDA = 8192, 131_072


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
        self._k = min(sampling.topk, vocab)
        self._width = max(self._k, min(_NUCLEUS, vocab)) if sampling.temperature else self._k
        self._watch = {name: tokens.deciding(choice)[1] for name, choice in sampling.watch.items()}
        self._device = loaded.device
        self._held = _HELD_CPU if loaded.device == "cpu" else _HELD_CUDA
        self._rows = Rows(loaded)
        self._writing: list[_Trace] = []
        """By row; one that has ended stays until rows are renewed."""
        self._waiting: deque[_Trace] = deque()

    def run(self, prompts: Sequence[Encoded], caches: Mapping[int, KeysValues]) -> list[list[Sampled]]:
        """All traces of all prompts. `caches[i]` holds prompt i without its last token."""
        done: list[dict[int, Sampled]] = [{} for _ in prompts]
        # By length, so that rows of like lengths stand side by side.
        for prompt in sorted(range(len(prompts)), key=lambda i: _length(prompts[i])):
            for number in range(self._sampling.least):
                self._waiting.append(self._new_trace(prompt, number))
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
        return _Trace(prompt, number, monitor, noise, watched={name: [] for name in self._watch})

    def _renew(self, prompts: Sequence[Encoded], caches: Mapping[int, KeysValues]) -> None:
        """Let waiting traces in and ended ones out. A quarter of the rows at a time: it copies the whole cache."""
        ended = sum(bool(trace.stop) for trace in self._writing)
        if 4 * ended < len(self._writing) and not self._rows.full:
            return
        kept = [row for row, trace in enumerate(self._writing) if not trace.stop]
        new = self._let_in(prompts, [self._writing[row] for row in kept])
        self._writing = [self._writing[row] for row in kept] + new
        if not self._writing:
            return
        starts = [Start(caches[trace.prompt], prompts[trace.prompt].body[-1]) for trace in new]
        left = max(self._sampling.max_tokens - len(trace.ids) for trace in self._writing)
        self._rows.renew(kept, starts, left)
        noise = np.stack([trace.noise for trace in self._writing])
        self._noise = torch.from_numpy(noise).to(self._device)

    def _let_in(self, prompts: Sequence[Encoded], kept: Sequence[_Trace]) -> list[_Trace]:
        """The waiting traces for which there is room beside those that are kept; one at least."""
        new: list[_Trace] = []
        longest = max((_length(prompts[trace.prompt]) for trace in kept), default=0)
        while self._waiting and len(kept) + len(new) < self._sampling.rows:
            longest = max(longest, _length(prompts[self._waiting[0].prompt]))
            rows = len(kept) + len(new) + 1
            if rows > 1 and rows * (longest + self._sampling.max_tokens) > self._held:
                break
            new.append(self._waiting.popleft())
        return new

    def _step(self) -> list[_Trace]:
        """One token for every row; the traces that ended with it."""
        logits = self._rows.logits()
        top, ids = logits.topk(self._width, dim=-1)
        confidences = logits.logsumexp(dim=-1) - top[:, : self._k].mean(dim=-1)
        tokens = self._draw(top, ids)
        self._rows.end_in(tokens)
        watched = [torch.softmax(logits[:, words], dim=-1) for words in self._watch.values()]
        # One transfer for all that is read on this side; a token's id is a whole number that 32 bits hold exactly.
        read = torch.cat([tokens[:, None].float(), confidences[:, None], *watched], dim=-1).tolist()
        return [
            trace for trace, row in zip(self._writing, read, strict=True) if not trace.stop and self._ends(trace, row)
        ]

    def _draw(self, top: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """[rows]: the next tokens out of the most likely, by each trace's own random number."""
        if not self._sampling.temperature:
            return ids[:, 0]
        # A trace that has ended at its last token stands beside the others until rows are renewed.
        at = [[min(len(trace.ids), self._sampling.max_tokens - 1)] for trace in self._writing]
        noise = self._noise.gather(1, torch.tensor(at, device=self._device))
        chosen = nucleus(top, noise, self._sampling.temperature, self._sampling.top_p)
        return ids.gather(1, chosen)[:, 0]

    def _ends(self, trace: _Trace, read: list[float]) -> bool:
        """Write a row's token down; whether the trace ends with it."""
        token, confidence = int(read[0]), read[1]
        if token in self._tokens.ends:
            trace.stop = "stop"
            return True
        trace.ids.append(token)
        trace.confidences.append(confidence)
        at = 2
        for name, words in self._watch.items():
            trace.watched[name].append(tuple(read[at : at + len(words)]))
            at += len(words)
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


def _length(prompt: Encoded) -> int:
    return len(prompt.shared) + len(prompt.body)


def nucleus(top: torch.Tensor, noise: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """[rows, 1]: the places drawn among `top`, logits [rows, width] that fall, by `noise` [rows, 1] in [0, 1).

    Temperature first, then the fewest tokens that reach `top_p` of the `width` (arXiv:1904.09751, section 3.1).
    """
    p = torch.softmax(top / temperature, dim=-1)
    # The first token is always kept: nothing stands before it.
    kept = p.cumsum(dim=-1) - p < top_p
    upto = torch.where(kept, p, 0.0).cumsum(dim=-1)
    chosen = (upto <= noise * upto[:, -1:]).sum(dim=-1, keepdim=True)
    # Rounding may carry the largest noise past the last token that is kept.
    return torch.minimum(chosen, kept.sum(dim=-1, keepdim=True) - 1)
