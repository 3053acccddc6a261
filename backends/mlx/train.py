"""R-SFT and weighted HS-DPO of LoRA adapters on MLX, with mlx-lm's training loop.

mlx-lm provides the loop, the gradient step, and the adapters; the batches, losses, and checkpoints are ours. Logits are
computed only where a token is learned, and the shared instruction runs once for a batch, not once for each row. A
checkpoint holds adapter, optimizer, and step; batches, dropout, and word dropout are functions of (seed, step), so a
resumed training ends with the same bytes. Nothing is truncated: an example that does not fit is dropped and its id
returned.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import optimizers
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train

from wizloop.backends import training_rows
from wizloop.backends.guard_types import DpoPair, OnStep, SftExample, TrainJob, TrainResult
from wizloop.backends.mlx import adapter, cpu_entropy
from wizloop.backends.mlx.load import load, split
from wizloop.backends.mlx.losses import Loss, Shared, dpo_loss, reference_logprobs, sft_loss
from wizloop.backends.model_folder import MLX_ADAPTER
from wizloop.backends.tokens import Tokens
from wizloop.backends.training_run import TrainingRun, check_finite

_CLIP = 1.0
_OPTIMIZER = "optimizer.safetensors"

Batch = Callable[[int], training_rows.Arrays]
"""The arrays of a step, from 0."""


def train_sft(job: TrainJob, examples: Sequence[SftExample], on_step: OnStep) -> TrainResult:
    """Run R-SFT (arXiv:2501.18492, section 3.2): token cross-entropy of the completions.

    Writes adapters.safetensors and adapter_config.json into `job.to`. Resumes from `job.checkpoint` if that folder
    holds an unfinished training of the same data and settings, and removes it at the end. Raises NotFinite, ValueError
    if no example fits, and whatever `on_step` raises (after a checkpoint).
    """
    student, settings = _Student(job), job.settings
    rows, dropped, plan = training_rows.planned_sft(job, examples, student.tokens)

    def batch(step: int) -> training_rows.Arrays:
        several = [rows[i] for i in plan.indices(step)]
        return training_rows.sft_batch(several, settings, step, blank=student.tokens.end)

    loss = sft_loss(student.head, student.shared(rows[0].shared), settings.prompt_weight)
    return student.train(TrainingRun(job, plan, on_step), batch, loss, dropped)


def train_dpo(job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep) -> TrainResult:
    """Run HS-DPO (arXiv:2501.18492, section 3.3) from adapter `job.start`, which is also the reference.

    Weights scale the preference only. The reference's log-probabilities are computed before the first step, so that one
    model is in memory. Otherwise like train_sft.
    """
    student, settings = _Student(job), job.settings
    rows, dropped, plan = training_rows.planned_dpo(job, pairs, student.tokens)
    shared = student.shared(rows[0].chosen.shared)
    reference = reference_logprobs(student.model, student.head, shared, rows, settings.batch)

    def batch(step: int) -> training_rows.Arrays:
        indices = plan.indices(step)
        return training_rows.dpo_batch([rows[i] for i in indices], reference[indices])

    loss = dpo_loss(student.head, shared, beta=settings.beta, sft_weight=settings.sft_weight)
    return student.train(TrainingRun(job, plan, on_step), batch, loss, dropped)


class _Student:
    """The base with trainable adapters: fresh ones, drawn from the seed, or the job's `start`."""

    def __init__(self, job: TrainJob) -> None:
        loaded = load(job.base, None, quantise=job.quantise, fuse=False)
        self.model, self.tokens, self._job = loaded.model, Tokens(loaded.tokenizer), job
        mx.random.seed(job.settings.seed)
        self._config = adapter.add_new_adapter(self.model, job.lora)
        if job.start is not None:
            adapter.load_weights(self.model, job.start)
        self._hidden, self.head = split(self.model)

    def shared(self, prefix: tuple[int, ...]) -> Shared:
        return Shared(self._hidden, prefix, len(self.model.layers))

    def train(self, run: TrainingRun, batch: Batch, loss: Loss, dropped: list[int]) -> TrainResult:
        first = adapter.trainable(self.model)
        run.train(lambda: _attempt(self.model, first, run, batch, loss, self._job))
        adapter.write(self._job.to, self._config, adapter.trainable(self.model))
        run.remove()
        return run.result(dropped)


class _Clipped(optimizers.AdamW):
    """AdamW on gradients of norm 1 at most: mlx-lm's loop does not clip."""

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        gradients, _ = optimizers.clip_grad_norm(gradients, _CLIP)
        return super().apply_gradients(gradients, parameters)


class _Report(TrainingCallback):
    """Counts and reports the steps of mlx-lm's loop."""

    def __init__(self, run: TrainingRun, done: int, write: Callable[[Path], None]) -> None:
        self._run, self._step, self._write = run, done, write

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self._step += 1
        loss = float(train_info["train_loss"])
        check_finite(loss, self._step, self._run.steps)
        self._run.record(self._step, loss)
        self._run.report(self._step, loss, self._write)


def _attempt(model: Any, first: dict[str, mx.array], run: TrainingRun, batch: Batch, loss: Loss, job: TrainJob) -> None:
    """Train from the last checkpoint, or from the weights `first`, to the end."""
    settings, steps = run.settings, run.steps
    schedule = optimizers.cosine_decay(run.rate, steps, run.rate * 0.1)
    optimizer = _Clipped(learning_rate=schedule, weight_decay=0.01)
    optimizer.init(model.trainable_parameters())
    done = run.restore(
        lambda folder: _load(folder, model, optimizer), lambda: model.update(tree_unflatten(list(first.items())))
    )
    if done == steps:
        return

    def batches(**_: Any) -> Iterator[tuple[Any, ...]]:
        for step in range(done, steps):
            # Dropout, too, is a function of the step.
            mx.random.seed(settings.seed * 1_000_003 + step)
            yield tuple(mx.array(each) for each in batch(step))

    args = TrainingArgs(
        batch_size=settings.batch,
        iters=steps - done,
        steps_per_report=1,
        steps_per_save=steps + 1,
        adapter_file=str(job.checkpoint / "unused.safetensors"),
    )
    report = _Report(run, done, lambda folder: _write(folder, model, optimizer))
    # mlx-lm prints a progress bar to stdout.
    with contextlib.redirect_stdout(io.StringIO()), cpu_entropy.steps():
        train(model, optimizer, [()] * settings.batch, None, args, loss, batches, report)


def _write(folder: Path, model: Any, optimizer: Any) -> None:
    """Write a checkpoint's files."""
    mx.save_safetensors(str(folder / MLX_ADAPTER), adapter.trainable(model))
    mx.save_safetensors(str(folder / _OPTIMIZER), dict(tree_flatten(optimizer.state)))


def _load(folder: Path, model: Any, optimizer: Any) -> None:
    """Load a checkpoint's files."""
    adapter.load_weights(model, folder)
    state: Any = mx.load(str(folder / _OPTIMIZER))
    # The rate is computed from the step, so that a halved one holds after a retry.
    state.pop("learning_rate", None)
    optimizer.state = {**optimizer.state, **tree_unflatten(list(state.items()))}
