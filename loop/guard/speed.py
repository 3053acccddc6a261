"""How fast a guard answers and how much memory it takes. Wall-clock figures: no verdict may depend on them."""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wizloop.backends import devices
from wizloop.backends.guard_types import Choice, Encoded, Prompt, Sampled, Sampling
from wizloop.loop.guard.backend import Guard
from wizloop.loop.guard.judge import BATCH, Judge
from wizloop.loop.guard.published.judge import PublishedJudge
from wizloop.loop.guard.rendering import Text

AnyJudge = TypeVar("AnyJudge", bound=Judge | PublishedJudge)

ALONE = 30
"""Rows that are asked one by one for the latency, if `SECONDS` are enough for them."""
SECONDS = 10.0
"""Most seconds for that, but for the row that is being answered."""


ALONE_AT_NIGHT = 20
SECONDS_AT_NIGHT = 3.0


class Meter:
    """A guard that counts the tokens it reads and writes, and the seconds that this takes."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.seconds, self.tokens = 0.0, 0

    @property
    def is_here(self) -> bool:
        """Whether the model is in this process and not on a server."""
        return not type(self._guard).__module__.startswith("wizloop.backends.served")

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Tokenize a prompt."""
        begun = perf_counter()
        found = self._guard.encode(prompt, max_tokens=max_tokens)
        self.seconds += perf_counter() - begun
        return found

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return self._guard.count(text)

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """Return the probability of each word of a choice, and count the prompts' tokens."""
        begun = perf_counter()
        found = self._guard.score(prompts, choice, rows=rows)
        self.seconds += perf_counter() - begun
        self.tokens += _read(prompts)
        return found

    def states(self, prompts: Sequence[Encoded], *, depth: float) -> NDArray[np.float32] | None:
        """Return the hidden states, and count the prompts' tokens."""
        begun = perf_counter()
        found = self._guard.states(prompts, depth=depth)
        self.seconds += perf_counter() - begun
        self.tokens += _read(prompts)
        return found

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Return the sampled traces, and count the prompts' tokens and theirs."""
        begun = perf_counter()
        found = self._guard.sample(prompts, sampling)
        self.seconds += perf_counter() - begun
        self.tokens += _read(prompts) + sum(one.tokens for traces in found for one in traces)
        return found

    def rates(self, rows: int) -> dict[str, Any]:
        """Return rows and tokens a second over the time in the guard."""
        per_second = 1 / self.seconds if self.seconds else None
        return {
            "on": devices.ran_on() if self.is_here else "a server",
            "rows": rows,
            "rows_per_s": None if per_second is None else rows * per_second,
            "tokens_per_s": None if per_second is None else self.tokens * per_second,
        }


def metered(judge: AnyJudge) -> tuple[AnyJudge, Meter]:
    """Return a judge whose guard is metered, and the meter."""
    meter = Meter(judge.guard)
    return replace(judge, guard=meter), meter


def figures(
    judge: Judge | PublishedJudge, meter: Meter, rows: Sequence[Text], *, seed: int, again: int = 0
) -> dict[str, Any]:
    """Return what the meter has counted over these rows, their latency one by one, and the peaks of memory.

    `again` is how many rows were asked besides, perturbed. A server is asked nothing more, and its memory is not known.
    """
    rates = meter.rates(len(rows) + again)
    return rates | latency(judge, rows, seed=seed) | memory() if meter.is_here else rates


def of_few(judge: Judge, samples: Sequence[Text]) -> dict[str, Any]:
    """Return the speed on a few samples, in some seconds; nothing for a server, or where traces give the verdicts.

    Memory is left out: the process of a night has trained in it too.
    """
    together, meter = metered(judge)
    if judge.calibration.votes or not samples or not meter.is_here:
        return {}
    alone = latency(judge, samples, seed=0, most=ALONE_AT_NIGHT, seconds=SECONDS_AT_NIGHT)
    if judge.linear is not None:
        # The head's passes are not the guard's, which the meter counts.
        return {"on": meter.rates(0)["on"], **alone}
    rows = samples[: max(1, min(BATCH, int(1000 * SECONDS_AT_NIGHT / max(alone["p50_ms"], 1e-3))))]
    together.direct(rows)
    return meter.rates(len(rows)) | alone


def latency(
    judge: Judge | PublishedJudge, rows: Sequence[Text], *, seed: int, most: int = ALONE, seconds: float = SECONDS
) -> dict[str, Any]:
    """Return the latency (milliseconds, 50th and 95th percentile) of rows that are asked one by one, evenly spread.

    The first one is asked once more before, unmeasured. Empty without rows.
    """
    chosen = [rows[at * len(rows) // most] for at in range(most)] if len(rows) > most else list(rows)
    taken: list[float] = []
    for row in [*chosen[:1], *chosen]:
        begun = perf_counter()
        list(judge.answers([row], seed=seed))
        taken.append(perf_counter() - begun)
        if sum(taken) >= seconds and len(taken) > 1:
            break
    if not taken[1:]:
        return {}
    p50, p95 = np.percentile(taken[1:], [50, 95])
    return {"latency_rows": len(taken) - 1, "p50_ms": 1000 * float(p50), "p95_ms": 1000 * float(p95)}


def memory() -> dict[str, int]:
    """Return the peaks of this process so far: of its memory, and of the GPU's where there is one, in bytes."""
    gpu = devices.peak_gpu_bytes()
    return {"peak_memory_bytes": devices.peak_memory_bytes()} | ({} if gpu is None else {"peak_gpu_bytes": gpu})


def _read(prompts: Sequence[Encoded]) -> int:
    return sum(len(one.shared) + len(one.body) for one in prompts)
