"""Speed: what is counted, how many rows are asked one by one, and that it changes no answer."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.loop.stand_in import StandInGuard
from wizloop.backends import devices
from wizloop.backends.guard_types import Choice, Encoded
from wizloop.loop.guard import speed
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.recipes import schema

ROWS = [InputText(f"how do I knit {at} hats?") for at in range(50)]


def judge(guard: Any = None, **known: Any) -> Judge:
    limits = Limits.of(schema.load("demo"))
    return Judge(guard or StandInGuard(0.5, []), Renderer(""), Calibration(**known), limits)


class Slow(StandInGuard):
    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        time.sleep(0.02 * len(prompts))
        return super().score(prompts, choice, rows=rows)


def test_a_meter_counts_the_tokens_that_are_read_and_changes_no_answer() -> None:
    plain = judge()
    metered, meter = speed.metered(plain)
    assert metered.direct(ROWS) == plain.direct(ROWS)
    encoded = [plain.guard.encode(plain.renderer.direct_prompt(row), max_tokens=512) for row in ROWS]
    assert meter.tokens == sum(len(one.shared) + len(one.body) for one in encoded)
    rates = meter.rates(len(ROWS))
    assert rates["rows_per_s"] == pytest.approx(50 / meter.seconds)
    assert rates["tokens_per_s"] == pytest.approx(meter.tokens / meter.seconds)


def test_traces_count_what_is_read_and_written() -> None:
    metered, meter = speed.metered(judge(source={"request": "traces"}))
    answers = list(metered.answers(ROWS[:2], seed=1))
    written = sum(trace.tokens for answer in answers for trace in answer.traces)
    assert written
    assert meter.tokens > written


def test_rows_are_asked_one_by_one_and_no_more_than_the_seconds_allow() -> None:
    at_once: list[int] = []
    found = speed.latency(judge(StandInGuard(0.5, at_once)), ROWS, seed=1)
    # One more, unmeasured, before.
    assert (found["latency_rows"], at_once) == (30, [1] * 31)
    assert found["p50_ms"] <= found["p95_ms"]
    slow = speed.latency(judge(Slow(0.5, [])), ROWS, seed=1, seconds=0.1)
    assert 1 <= slow["latency_rows"] < 8
    assert slow["p50_ms"] >= 20


def test_without_rows_there_is_no_latency() -> None:
    assert speed.latency(judge(), [], seed=1) == {}


def test_a_night_measures_few_rows_and_none_that_would_need_traces() -> None:
    at_once: list[int] = []
    found = speed.of_few(judge(StandInGuard(0.5, at_once)), ROWS)
    assert (found["rows"], found["latency_rows"], at_once[-1]) == (50, 20, 50)
    assert "peak_memory_bytes" not in found
    assert speed.of_few(judge(source={"request": "traces"}), ROWS) == {}
    assert speed.of_few(judge(), []) == {}


def test_the_peak_of_memory_is_this_process_and_a_gpu_only_where_one_is_used() -> None:
    held = np.ones(30_000_000)
    assert devices.peak_memory_bytes() > held.nbytes
    assert ("peak_gpu_bytes" in speed.memory()) == (devices.peak_gpu_bytes() is not None)
