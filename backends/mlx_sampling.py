"""Draws traces with mlx-lm's continuous batching, and reads confidences and verdict probabilities while it does.

Used by mlx_guard only. It asks `more` and `monitor` what to do with a trace and knows nothing of why.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wizloop.backends.guard_types import Encoded, Monitor, Sampled, Sampling
from wizloop.backends.tokens import Tokens

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
from mlx_lm.generate import BatchGenerator

# Nucleus sampling looks at this many tokens: outside them a guard that was taught its format has no mass worth a full
# sort.
_NUCLEUS = 64


@dataclass(slots=True)
class _Trace:
    """A trace being written."""

    prompt: int
    number: int
    monitor: Monitor | None
    ids: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    watched: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)


class TraceSampler:
    """One call of Guard.sample."""

    def __init__(self, model: Any, tokens: Tokens, vocab: int, sampling: Sampling) -> None:
        self._tokens, self._sampling = tokens, sampling
        self._k = min(sampling.topk, vocab)
        self._watch = {name: mx.array(tokens.deciding(choice)[1]) for name, choice in sampling.watch.items()}
        self._generator = BatchGenerator(
            model,
            stop_tokens=[[end] for end in sorted(tokens.ends)],
            sampler=nucleus_sampler(sampling.temperature, sampling.top_p, min(_NUCLEUS, vocab)),
            completion_batch_size=sampling.rows,
            prefill_batch_size=sampling.rows,
        )
        self._writing: dict[int, _Trace] = {}
        self._waiting: deque[_Trace] = deque()

    def run(self, prompts: Sequence[Encoded], caches: Mapping[int, Sequence[Any]]) -> list[list[Sampled]]:
        """All traces of all prompts. `caches[i]` holds prompt i without its last token; a prompt without one is
        prefilled here.
        """
        mx.random.seed(self._sampling.seed)
        done: list[dict[int, Sampled]] = [{} for _ in prompts]
        for prompt in range(len(prompts)):
            for number in range(self._sampling.least):
                self._waiting.append(self._new_trace(prompt, number))
        try:
            while self._waiting or self._writing:
                self._insert(prompts, caches)
                for trace, stop in self._step():
                    done[trace.prompt][trace.number] = self._finished(trace, stop)
                    self._ask_for_more(trace.prompt, done[trace.prompt])
        finally:
            self._generator.close()
        return [[traces[number] for number in sorted(traces)] for traces in done]

    def _new_trace(self, prompt: int, number: int) -> _Trace:
        monitor = self._sampling.monitor() if self._sampling.monitor else None
        return _Trace(prompt, number, monitor, watched={name: [] for name in self._watch})

    def _insert(self, prompts: Sequence[Encoded], caches: Mapping[int, Sequence[Any]]) -> None:
        """Give the generator waiting traces. A quarter of the rows at a time: inserting copies the whole cache."""
        room = self._sampling.rows - len(self._writing)
        if not self._waiting or (self._writing and room < max(1, self._sampling.rows // 4)):
            return
        new = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        if caches:
            given = [list(prompts[trace.prompt].body[-1:]) for trace in new]
            rows: list[Any] | None = [list(caches[trace.prompt]) for trace in new]
        else:
            given, rows = [[*prompts[trace.prompt].shared, *prompts[trace.prompt].body] for trace in new], None
        uids = self._generator.insert(given, [self._sampling.max_tokens] * len(new), caches=rows)
        self._writing.update(zip(uids, new, strict=True))

    def _step(self) -> list[tuple[_Trace, str]]:
        """One token for every trace; those that ended, with how."""
        responses = self._generator.next_generated()
        if not responses:
            return []
        logprobs = mx.stack([response.logprobs for response in responses])
        confidences = -mx.topk(logprobs, self._k, axis=-1).mean(axis=-1)
        watched = {name: mx.softmax(logprobs[:, ids], axis=-1) for name, ids in self._watch.items()}
        mx.eval(confidences, watched)
        measured: Any = confidences.tolist()
        probabilities: dict[str, Any] = {name: values.tolist() for name, values in watched.items()}
        ended, cut = [], []
        for row, response in enumerate(responses):
            trace = self._writing[response.uid]
            if response.finish_reason == "stop":
                ended.append((response.uid, "stop"))
                continue
            trace.ids.append(response.token)
            trace.confidences.append(measured[row])
            for name, values in probabilities.items():
                trace.watched[name].append(tuple(values[row]))
            if response.finish_reason == "length":
                ended.append((response.uid, "length"))
            elif trace.monitor is not None and trace.monitor.push(measured[row]):
                ended.append((response.uid, "cut"))
                cut.append(response.uid)
        if cut:
            self._generator.remove(cut)
        return [(self._writing.pop(uid), stop) for uid, stop in ended]

    def _finished(self, trace: _Trace, stop: str) -> Sampled:
        text = self._tokens.decode(trace.ids)
        return Sampled(text, stop, self._tokens.starts(trace.ids, text), trace.confidences, trace.watched)

    def _ask_for_more(self, prompt: int, done: Mapping[int, Sampled]) -> None:
        """One more trace at a time, asked only when every earlier one is finished, so that the answer depends on no
        race.
        """
        asked = len(done)
        if asked < self._sampling.least or asked >= self._sampling.most or self._sampling.more is None:
            return
        if self._sampling.more(prompt, [done[number] for number in sorted(done)]):
            self._waiting.append(self._new_trace(prompt, asked))


def nucleus_sampler(temperature: float, top_p: float, width: int) -> Callable[[Any], Any]:
    """Tokens from log-probabilities [rows, vocabulary]: temperature, then top-p within the `width` most likely; 0 is
    greedy.
    """
    if temperature == 0:
        return lambda logprobs: mx.argmax(logprobs, axis=-1)

    def draw(logprobs: Any) -> Any:
        best = (
            mx.argpartition(-logprobs, width - 1, axis=-1)[:, :width]
            if width < logprobs.shape[-1]
            else mx.argsort(-logprobs, axis=-1)
        )
        values = mx.take_along_axis(logprobs, best, axis=-1)
        order = mx.argsort(-values, axis=-1)
        best, values = mx.take_along_axis(best, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
        scaled = mx.softmax(values / temperature, axis=-1)
        before = mx.cumsum(scaled, axis=-1) - scaled
        # The first token is always kept: nothing stands before it.
        kept = mx.where(before < top_p, values / temperature, -mx.inf)
        drawn = mx.random.categorical(kept, axis=-1)
        return mx.take_along_axis(best, drawn[:, None], axis=-1)[:, 0]

    return draw
