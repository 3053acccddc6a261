"""One training on any backend: its checkpoints, reported steps, and retries at half the rate."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact, NotFinite, OnStep, TrainJob, TrainResult
from wizloop.backends.training_rows import Plan

# Retries from the last checkpoint, each at half the rate, after a loss that is not finite.
_MOST_HALVINGS = 2


def check_finite(loss: float, step: int, steps: int) -> None:
    """Raise NotFinite for a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is {loss} at step {step} of {steps}")


class TrainingRun:
    """One training, resumed from the last checkpoint of the same data and settings; other checkpoints are removed.

    A checkpoint is a folder that is whole or missing. What a backend writes into it is the backend's business.
    """

    def __init__(self, job: TrainJob, plan: Plan, on_step: OnStep) -> None:
        self.settings, self.steps = job.settings, plan.steps
        self._folder, self._fingerprint, self._on_step = job.checkpoint, plan.fingerprint, on_step
        self._losses: list[tuple[int, float]] = []
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
        self._losses = [pair for pair in self._losses if pair[0] <= done]
        return done

    def record(self, step: int, loss: float) -> None:
        """Record the loss of a step."""
        self._losses.append((step, loss))

    def report(self, step: int, loss: float, write: Callable[[Path], None]) -> None:
        """Report a step, and checkpoint with `write` where one is due or the report raises, which is passed on."""
        try:
            self._on_step(step, self.steps, loss)
        except BaseException:
            self._save(step, write)
            raise
        if step % self.settings.checkpoint_every == 0:
            self._save(step, write)

    def remove(self) -> None:
        """Remove the checkpoints of a finished training."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def result(self, dropped: list[int]) -> TrainResult:
        """Return the result, with the ids of dropped examples."""
        return TrainResult(self.steps, self._losses, dropped, self.halvings)

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
        with artifacts.writing(final, about) as folder:
            write(folder)
        for path in older:
            shutil.rmtree(path)

    def _is_ours(self, folder: Path) -> bool:
        try:
            artifacts.verify(folder)
        except BadArtifact:
            return False
        return bool(artifacts.about(folder)["fingerprint"] == self._fingerprint)
