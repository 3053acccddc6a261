"""A backend without a model: deterministic answers that follow from words, better the more it was trained.

For tests of the phases. What a real guard answers is tested in tests/backends.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wizloop.backends.guard_types import (
    Choice,
    Encoded,
    NotFinite,
    OnStep,
    OnWait,
    Prompt,
    Sampled,
    Sampling,
    TrainJob,
    TrainResult,
)

WEIGHTS = "adapters.json"
STEPS = 12


class StandInGuard:
    """Knows a harmful request by one of a few words, the surer the more `skill` it has; each text has its own noise."""

    def __init__(self, skill: float, at_once: list[int]) -> None:
        self.skill, self.at_once = skill, at_once

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        body = "".join(part.text for part in prompt.parts) + prompt.opening
        return Encoded(tuple((prompt.shared + prompt.instruction).encode()), tuple(body.encode()))

    def count(self, text: str) -> int:
        return len(text.split())

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        self.at_once.append(len(prompts))
        p = np.array([self._p(one, choice.words[0]) for one in prompts])
        return np.stack([p, 1 - p], axis=1)

    def states(self, prompts: Sequence[Encoded], *, depth: float) -> NDArray[np.float32] | None:
        self.at_once.append(len(prompts))
        texts = [bytes(one.body).decode() for one in prompts]
        return np.array([[_noise(text, f"{depth} {at}") for at in range(8)] for text in texts], np.float32)

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        self.at_once.append(len(prompts))
        drawn = []
        for index, one in enumerate(prompts):
            traces = [self._trace(one, number, sampling) for number in range(sampling.least)]
            while sampling.more and len(traces) < sampling.most and sampling.more(index, traces):
                traces.append(self._trace(one, len(traces), sampling))
            drawn.append(traces)
        return drawn

    def _p(self, one: Encoded, word: str) -> float:
        text = bytes(one.body).decode().casefold()
        sign = any(bad in text for bad in ("bomb", "poison", "steal", "hack", "weapon", "forge", "threat"))
        noise = _noise(text, word) - 0.5
        return float(np.clip(0.5 + (0.4 if sign else -0.4) * self.skill + noise * (1.1 - self.skill), 0.01, 0.99))

    def _trace(self, one: Encoded, number: int, sampling: Sampling) -> Sampled:
        # Greedy traces are all the same, whatever the seed.
        drawn = f"{sampling.seed}:{number}" if sampling.temperature else "greedy"
        noise = _noise(bytes(one.body).decode(), drawn)
        p = self._p(one, " harmful")
        label = "harmful" if p + _shift(p, noise, sampling) >= 0.5 else "unharmful"
        alone = b"AI assistant:\nNone" in bytes(one.body)
        rest = ("None", "None") if alone else ("compliance", label)
        text = f"Seen {drawn}.\nAnswers:\nRequest: {label}\nCompletion: {rest[0]}\nResponse: {rest[1]}"
        starts = [0, *(at for at, character in enumerate(text) if character in " \n")]
        n, stop = _written([1.0 + noise] * len(starts), sampling)
        watched: dict[str, list[tuple[float, ...]]] = {name: [(p, 1 - p)] * n for name in sampling.watch}
        return Sampled(text[: [*starts, len(text)][n]], stop, starts[:n], [1.0 + noise] * n, watched)


def _shift(p: float, noise: float, sampling: Sampling) -> float:
    """Return how far a draw is from the guard's own probability; 0 where the likelier label fills the nucleus."""
    return 0.0 if max(p, 1 - p) >= sampling.top_p else (noise - 0.5) * 0.6 * (sampling.temperature / 0.7)


def _written(confidences: Sequence[float], sampling: Sampling) -> tuple[int, str]:
    """Return how many tokens are written and why no more: the monitor looks at each, as in backends/sampling.py."""
    monitor = sampling.monitor() if sampling.monitor else None
    for n, confidence in enumerate(confidences, start=1):
        if monitor is not None and monitor.push(confidence):
            return n, "cut"
    return len(confidences), "stop"


@dataclass(frozen=True)
class Taught:
    """A training that was begun: which kind, its job, and the examples or pairs that came with it."""

    kind: str
    job: TrainJob
    lessons: Sequence[Any]

    @property
    def name(self) -> str:
        """Return the name of the model that was to be made."""
        return self.job.checkpoint.name


class StandIn:
    """Train by counting examples.

    `breaks` makes training give up as a loss that is not finite does, `drops` names samples that are too long to train
    on, `spoils` makes every export an untrained model, and `dulls` makes every export in 4 bits know so much less.
    """

    NAME: ClassVar[str] = "stand-in"
    FORMATS: ClassVar[tuple[str, ...]] = ("adapter", "safetensors", "mlx-4bit")

    def __init__(
        self, breaks: bool = False, drops: Sequence[int] = (), spoils: bool = False, dulls: float = 0.0
    ) -> None:
        self.breaks, self.drops, self.spoils, self.dulls = breaks, drops, spoils, dulls
        self.trained: list[str] = []
        self.at_once: list[int] = []
        """How many prompts each question to a guard had."""
        self.jobs: list[Taught] = []

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> StandInGuard:
        held = adapter or Path(base)
        found = held / WEIGHTS
        return StandInGuard(json.loads(found.read_text())["skill"] if found.is_file() else 0.0, self.at_once)

    def build_tiny(self, folder: Path, texts: Sequence[str], **settings: Any) -> None:
        settings["progress"]("reading", 1, 1)
        (folder / "config.json").write_text(json.dumps({"texts": len(texts), "epochs": settings["epochs"]}))

    def train_sft(self, job: TrainJob, examples: Sequence[Any], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        return self._train("sft", job, examples, on_step, on_wait)

    def train_dpo(self, job: TrainJob, pairs: Sequence[Any], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        return self._train("dpo", job, pairs, on_step, on_wait)

    def export(self, format: str, base: str, adapter: Path | None, to: Path) -> None:
        if self.spoils or adapter is None:
            (to / WEIGHTS).write_text(json.dumps({"skill": 0.0}))
        elif self.dulls and format == "mlx-4bit":
            skill = json.loads((adapter / WEIGHTS).read_text())["skill"]
            (to / WEIGHTS).write_text(json.dumps({"skill": skill - self.dulls}))
        else:
            shutil.copyfile(adapter / WEIGHTS, to / WEIGHTS)

    def _train(self, kind: str, job: TrainJob, lessons: Sequence[Any], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        self.jobs.append(Taught(kind, job, lessons))
        if self.breaks:
            raise NotFinite("the loss is nan at step 3 of 12")
        checkpoint = job.checkpoint
        checkpoint.mkdir(parents=True, exist_ok=True)
        kept = checkpoint / "step.json"
        done = json.loads(kept.read_text()) if kept.is_file() else 0
        for step in range(done + 1, STEPS + 1):
            kept.write_text(json.dumps(step))
            on_step(step, STEPS, 1.0 / step)
        before = 0.0 if job.start is None else json.loads((job.start / WEIGHTS).read_text())["skill"]
        skill = before + (0.8 - before) * len(lessons) / (len(lessons) + 60)
        (job.to / WEIGHTS).write_text(json.dumps({"skill": skill, "seed": job.settings.seed}))
        shutil.rmtree(checkpoint)
        self.trained.append(job.to.name)
        measured = [(STEPS, 0.5)] if job.held_out else []
        return TrainResult(STEPS, [], [one.id for one in lessons if one.id in self.drops], held_out=measured)


def _noise(text: str, salt: str) -> float:
    digest = hashlib.sha256(f"{salt}\0{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
