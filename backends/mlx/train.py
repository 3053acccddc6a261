"""R-SFT and weighted HS-DPO of LoRA adapters, on mlx-lm's own training loop.

mlx-lm gives the loop, the gradient step and the adapters; ours are the batches, the losses and the checkpoints. Logits
are computed only where a token is learned, and the shared instruction is run once for a batch, not once for each row. A
checkpoint holds adapter, optimiser and step; batches, dropout and word dropout are functions of (seed, step): training
that was killed goes on and ends with the same bytes. Nothing is truncated: an example that does not fit is dropped and
its id returned.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# After wizloop's own, which readies the BLAS.
import mlx.core as mx
from mlx import optimizers
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train

from wizloop.backends import training_rows
from wizloop.backends.checkpoints import Checkpoints
from wizloop.backends.guard_types import DpoPair, NotFinite, OnStep, SftExample, TrainJob, TrainResult, TrainSettings
from wizloop.backends.mlx import checkpoint as mlx_checkpoint
from wizloop.backends.mlx import cpu_entropy as mlx_entropy
from wizloop.backends.mlx import load as mlx_load
from wizloop.backends.mlx.losses import Shared, dpo_loss, reference_logprobs, sft_loss
from wizloop.backends.tokens import Tokens

# Times that a loss which is not finite is answered by going back to the last checkpoint with half the rate.
MOST_HALVINGS = 2
_CLIP = 1.0


def train_sft(job: TrainJob, examples: Sequence[SftExample], on_step: OnStep) -> TrainResult:
    """R-SFT (arXiv:2501.18492, section 3.2): token cross-entropy of the completions.

    Writes adapters.safetensors and adapter_config.json into `job.to`. Goes on from `job.checkpoint` where that folder
    holds an unfinished try at the same data and settings, and removes it at the end. Raises NotFinite, ValueError when
    no example fits, and whatever `on_step` raises (after a checkpoint).
    """
    loaded, config = _student(job)
    settings = job.settings
    tokens = Tokens(loaded.tokenizer)
    rows, dropped, plan = training_rows.planned_sft(job, examples, tokens)
    shared = Shared(loaded.hidden, rows[0].shared, len(loaded.model.layers))

    def batch(step: int) -> tuple[Any, ...]:
        several = [rows[i] for i in plan.indices(step)]
        return _on_device(training_rows.sft_batch(several, settings, step, blank=tokens.end))

    loss = sft_loss(loaded.head, shared, settings.prompt_weight)
    result = _Run(loaded.model, config, settings, plan, job.checkpoint, on_step).train(batch, loss, job.to)
    return replace(result, dropped=dropped)


def train_dpo(job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep) -> TrainResult:
    """HS-DPO (arXiv:2501.18492, section 3.3) from adapter `job.start`, which is also the reference; weights scale
    the preference alone.

    The reference's log-probabilities are computed before the first step, so that one model is in memory. Otherwise like
    train_sft.
    """
    loaded, config = _student(job)
    settings = job.settings
    rows, dropped, plan = training_rows.planned_dpo(job, pairs, Tokens(loaded.tokenizer))
    shared = Shared(loaded.hidden, rows[0].chosen.shared, len(loaded.model.layers))
    reference = reference_logprobs(loaded.model, loaded.head, shared, rows, settings.batch)

    def batch(step: int) -> tuple[Any, ...]:
        chosen = plan.indices(step)
        return _on_device(training_rows.dpo_batch([rows[i] for i in chosen], reference[chosen]))

    loss = dpo_loss(loaded.head, shared, beta=settings.beta, sft_weight=settings.sft_weight)
    result = _Run(loaded.model, config, settings, plan, job.checkpoint, on_step).train(batch, loss, job.to)
    return replace(result, dropped=dropped)


def _on_device(arrays: training_rows.Arrays) -> tuple[Any, ...]:
    return tuple(mx.array(each) for each in arrays)


def _student(job: TrainJob) -> tuple[mlx_load.Loaded, dict[str, Any]]:
    """The base with trainable adapters: fresh ones, drawn from the seed, or those that the job starts from."""
    loaded = mlx_load.load(job.base, None, quantise=job.quantise, fuse=False)
    mx.random.seed(job.settings.seed)
    config = mlx_load.add_new_adapter(loaded.model, job.lora)
    if job.start is not None:
        mlx_load.load_adapter_weights(loaded.model, job.start)
    hidden, head = mlx_load.split(loaded.model)
    return replace(loaded, hidden=hidden, head=head), config


class _Clipped(optimizers.AdamW):
    """AdamW on gradients of norm 1 at most: mlx-lm's loop does not clip."""

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        gradients, _ = optimizers.clip_grad_norm(gradients, _CLIP)
        return super().apply_gradients(gradients, parameters)


class _Watch(TrainingCallback):
    """Turns mlx-lm's report of every step into a call."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self._report(float(train_info["train_loss"]))


class _Run:
    """One training, from its last checkpoint to its end."""

    def __init__(
        self,
        model: Any,
        config: dict[str, Any],
        settings: TrainSettings,
        plan: training_rows.Plan,
        checkpoint: Path,
        on_step: OnStep,
    ) -> None:
        self._model, self._config, self._settings, self._plan = model, config, settings, plan
        self._saved = Checkpoints(checkpoint, plan.fingerprint)
        self._on_step = on_step
        self._losses: list[tuple[int, float]] = []

    def train(self, batch: Callable[[int], tuple[Any, ...]], loss: Callable[..., Any], to: Path) -> TrainResult:
        halvings = self._saved.halvings()
        self._first = mlx_checkpoint.trainable(self._model)
        while True:
            try:
                self._train_on(batch, loss, halvings)
                break
            except NotFinite:
                halvings += 1
                if halvings > MOST_HALVINGS:
                    raise
        mlx_checkpoint.write_adapter(to, self._model, self._config)
        self._saved.remove()
        return TrainResult(self._plan.steps, self._losses, [], halvings)

    def _train_on(self, batch: Callable[[int], tuple[Any, ...]], loss: Callable[..., Any], halvings: int) -> None:
        settings, steps = self._settings, self._plan.steps
        rate = settings.lr * 0.5**halvings
        optimiser = _Clipped(learning_rate=optimizers.cosine_decay(rate, steps, rate * 0.1), weight_decay=0.01)
        optimiser.init(self._model.trainable_parameters())
        done = mlx_checkpoint.restore(self._saved, self._model, optimiser, self._first)
        self._losses = [pair for pair in self._losses if pair[0] <= done]
        if done == steps:
            return
        step = done

        def save() -> None:
            self._saved.save(step, halvings, partial(mlx_checkpoint.write, model=self._model, optimiser=optimiser))

        def report(value: float) -> None:
            nonlocal step
            step += 1
            if not math.isfinite(value):
                raise NotFinite(f"the loss is {value} at step {step} of {steps}")
            self._losses.append((step, value))
            try:
                self._on_step(step, steps, value)
            except BaseException:
                save()
                raise
            if step % settings.checkpoint_every == 0:
                save()

        def batches(**_: Any) -> Iterator[tuple[Any, ...]]:
            for number in range(done, steps):
                # Dropout, too, is a function of the step.
                mx.random.seed(settings.seed * 1_000_003 + number)
                yield batch(number)

        args = TrainingArgs(
            batch_size=settings.batch,
            iters=steps - done,
            steps_per_report=1,
            steps_per_save=steps + 1,
            adapter_file=str(self._saved.folder / "unused.safetensors"),
        )
        # mlx-lm paints a progress bar on stdout.
        with contextlib.redirect_stdout(io.StringIO()), mlx_entropy.steps():
            train(self._model, optimiser, [()] * settings.batch, None, args, loss, batches, _Watch(report))
