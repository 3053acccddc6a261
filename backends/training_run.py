"""One training on any backend: its checkpoints, reported steps, and retries at half the rate."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact, NotFinite, OnStep, TrainJob, TrainResult
from wizloop.backends.training_rows import Plan

# Retries from the last checkpoint, each at half the rate, after a loss that is not finite.
_MOST_HALVINGS = 2
LOADING, FIRST_STEP = "loading the base", "first step"
"""What a training does before its first step, besides the reference's log-probabilities."""

# The cosine of the rate ends at this share of its peak.
_LAST_RATE = 0.1
# Seconds of training that a crash can cost, besides the steps of train.checkpoint_every.
_MOST_LOST = 300.0


def check_finite(loss: float, step: int, steps: int) -> None:
    """Raise NotFinite for a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is {loss} at step {step} of {steps}")


def reference_of(done: int, total: int) -> str:
    """Return what HS-DPO does before its first step."""
    return f"reference log-probabilities, {done:,} of {total:,}"


def rate_share(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak rate at step number `step`, from 0: a line up over `warmup`, then a cosine."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    turned = math.cos(math.pi * (step - rising) / max(1, steps - rising))
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + turned)


class TrainingRun:
    """One training, resumed from the last checkpoint of the same data and settings; other checkpoints are removed.

    A checkpoint is a folder that is whole or missing. What a backend writes into it is the backend's business.
    """

    def __init__(self, job: TrainJob, plan: Plan, on_step: OnStep, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._saved_at = clock, clock()
        self.settings, self.steps, self._epoch = job.settings, plan.steps, plan.epoch
        self._folder, self._fingerprint, self._on_step = job.checkpoint, plan.fingerprint, on_step
        self._losses: list[tuple[int, float]] = []
        self._held_out: list[tuple[int, float]] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        artifacts.sweep(self._folder)
        for folder in self._folder.iterdir():
            if folder.is_dir() and not self._is_ours(folder):
                shutil.rmtree(folder)
        self.halvings = self._saved("halvings")

    @property
    def rate(self) -> float:
        """The peak learning rate, after halvings."""
        return self.settings.lr * 0.5**self.halvings

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step number `step`, from 0."""
        return self.rate * rate_share(step, self.steps, self.settings.warmup)

    def train(self, attempt: Callable[[], None]) -> None:
        """Run `attempt`, again at half the rate while it raises NotFinite, which is raised after two halvings."""
        while True:
            try:
                return attempt()
            except NotFinite:
                self.halvings += 1
                if self.halvings > _MOST_HALVINGS:
                    raise

    def restore(self, load: Callable[[Path], None], reset: Callable[[], None]) -> int:
        """Call `load` with the last checkpoint, or `reset` without one. Return the number of steps done."""
        last = self._last()
        if last is None:
            reset()
        else:
            load(last)
        done = self._saved("step")
        self._held_out = [] if last is None else [(step, loss) for step, loss in artifacts.about(last)["held_out"]]
        self._losses = [pair for pair in self._losses if pair[0] <= done]
        return done

    def record(self, step: int, loss: float) -> None:
        """Record the loss of a step."""
        self._losses.append((step, loss))

    def measure(self, step: int, loss: Callable[[], float]) -> None:
        """Record the loss of the held-out examples if an epoch ends with this step; called before its report."""
        if step % self._epoch == 0:
            self._held_out.append((step, loss()))

    def report(self, step: int, loss: float, write: Callable[[Path], None]) -> None:
        """Report a step, and checkpoint with `write` where one is due or the report raises, which is passed on."""
        try:
            self._on_step(step, self.steps, loss)
        except BaseException:
            self._save(step, write)
            raise
        if step % self.settings.checkpoint_every == 0 or self._clock() - self._saved_at >= _MOST_LOST:
            self._save(step, write)

    def remove(self) -> None:
        """Remove the checkpoints of a finished training."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def result(self, dropped: list[int]) -> TrainResult:
        """Return the result, with the ids of dropped examples."""
        return TrainResult(self.steps, self._losses, dropped, self.halvings, self._held_out)

    def _last(self) -> Path | None:
        return max(self._folder.glob("step-*"), default=None)

    def _saved(self, key: str) -> int:
        """Return a number from the last checkpoint's manifest, 0 without a checkpoint."""
        last = self._last()
        return int(artifacts.about(last)[key]) if last else 0

    def _save(self, step: int, write: Callable[[Path], None]) -> None:
        """Write a checkpoint and remove older ones."""
        final = self._folder / f"step-{step:07d}"
        if final.exists():
            return
        older = list(self._folder.glob("step-*"))
        about = {"step": step, "halvings": self.halvings, "fingerprint": self._fingerprint}
        about["held_out"] = self._held_out
        with artifacts.writing(final, about) as folder:
            write(folder)
        self._saved_at = self._clock()
        for path in older:
            shutil.rmtree(path)

    def _is_ours(self, folder: Path) -> bool:
        try:
            artifacts.verify(folder)
        except BadArtifact:
            return False
        return bool(artifacts.about(folder)["fingerprint"] == self._fingerprint)
