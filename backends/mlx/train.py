"""R-SFT and weighted HS-DPO of LoRA adapters on MLX.

mlx-lm provides the adapters and MLX the optimizer; the batches, losses, and checkpoints are ours, and so is the loop: a
step runs in passes of a bounded number of tokens, whose number varies, which mlx-lm's loop cannot do. Logits are
computed only where a token is learned, and the shared instruction runs once for a pass, not once for each row. A
checkpoint holds adapter, optimizer, and step; batches, dropout, and word dropout are functions of (seed, step), so a
resumed training ends with the same bytes. Nothing is truncated: an example that does not fit is dropped and its id
returned.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx import optimizers
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.utils import maybe_set_recommended_wired_limit

from wizloop.backends import training_memory, training_rows
from wizloop.backends.guard_types import DpoPair, OnStep, OnWait, SftExample, TrainJob, TrainResult, no_wait
from wizloop.backends.mlx import adapter, cpu_entropy
from wizloop.backends.mlx.kinds import kind_of
from wizloop.backends.mlx.load import load, on_cpu, split
from wizloop.backends.mlx.losses import Loss, Shared, dpo_loss, recomputing, reference_logprobs, sft_loss
from wizloop.backends.model_folder import MLX_ADAPTER
from wizloop.backends.tokens import Tokens
from wizloop.backends.training_run import FIRST_STEP, LOADING, TrainingRun, check_finite

_CLIP = 1.0
_OPTIMIZER = "optimizer.safetensors"

Passes = Callable[[int], list[training_rows.Arrays]]
"""The passes of a step, from 0."""


def train_sft(job: TrainJob, examples: Sequence[SftExample], on_step: OnStep, on_wait: OnWait = no_wait) -> TrainResult:
    """Run R-SFT (arXiv:2501.18492, section 3.2): token cross-entropy of the completions.

    Writes adapters.safetensors and adapter_config.json into `job.to`. Resumes from `job.checkpoint` if that folder
    holds an unfinished training of the same data and settings, and removes it at the end. Raises NotFinite, ValueError
    if no example fits, and whatever `on_step` raises (after a checkpoint).
    """
    student, settings = _Student(job, on_wait), job.settings
    rows, dropped, plan = training_rows.planned_sft(job, examples, student.tokens)

    def passes(step: int) -> list[training_rows.Arrays]:
        several = [rows[i] for i in plan.indices(step)]
        return training_rows.sft_passes(several, settings, step, blank=student.tokens.end, most=student.most)

    shared = student.shared(rows[0].shared)
    loss = sft_loss(student.head, shared, settings.prompt_weight)
    return student.train(TrainingRun(job, plan, on_step), passes, loss, dropped, student.held_out(shared))


def train_dpo(job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep, on_wait: OnWait = no_wait) -> TrainResult:
    """Run HS-DPO (arXiv:2501.18492, section 3.3) from adapter `job.start`, which is also the reference.

    Weights scale the preference only. The reference's log-probabilities are computed before the first step, so that one
    model is in memory. Otherwise like train_sft.
    """
    student, settings = _Student(job, on_wait), job.settings
    rows, dropped, plan = training_rows.planned_dpo(job, pairs, student.tokens)
    shared = student.shared(rows[0].chosen.shared)
    reference = reference_logprobs(student.model, student.head, shared, rows, student.most, on_wait)

    def passes(step: int) -> list[training_rows.Arrays]:
        indices = plan.indices(step)
        return training_rows.dpo_passes([rows[i] for i in indices], reference[indices], most=student.most)

    loss = dpo_loss(student.head, shared, beta=settings.beta, sft_weight=settings.sft_weight)
    return student.train(TrainingRun(job, plan, on_step), passes, loss, dropped)


class _Student:
    """The base with trainable adapters: fresh ones, drawn from the seed, or the job's `start`."""

    def __init__(self, job: TrainJob, on_wait: OnWait) -> None:
        on_wait(LOADING)
        loaded = load(job.base, None, quantise=job.quantise, fuse=False)
        self.model, self.tokens, self._job = loaded.model, Tokens(loaded.tokenizer), job
        self._on_wait = on_wait
        mx.random.seed(job.settings.seed)
        self._config = adapter.add_new_adapter(self.model, job.lora)
        if job.start is not None:
            adapter.load_weights(self.model, job.start)
        self._hidden, self.head = split(self.model)
        self._kind = kind_of(self.model, loaded.config)
        self.most = training_memory.most_tokens("mlx", gpu=not on_cpu(), scale=job.settings.scale)
        self._recomputes = training_memory.recomputes(loaded.config, "mlx", gpu=not on_cpu())

    def shared(self, prefix: tuple[int, ...]) -> Shared:
        return Shared(self._hidden, prefix, self._kind)

    def held_out(self, shared: Shared) -> Callable[[], float] | None:
        """Return the function that measures the job's held-out examples, which have the same prefix; None if none."""
        rows, plain = training_rows.held_out(self._job, self.tokens), training_rows.as_they_are(self._job.settings)
        if not rows:
            return None
        passes = training_rows.sft_passes(rows, plain, 0, blank=0, most=self.most)
        loss = sft_loss(self.head, shared, 0.0)

        def measure() -> float:
            self.model.eval()
            found = [float(cast(float, loss(self.model, *map(mx.array, arrays)).item())) for arrays in passes]
            self.model.train()
            return sum(found)

        return measure

    def train(
        self,
        run: TrainingRun,
        passes: Passes,
        loss: Loss,
        dropped: list[int],
        held_out: Callable[[], float] | None = None,
    ) -> TrainResult:
        first = adapter.trainable(self.model)
        self._on_wait(FIRST_STEP)
        with cpu_entropy.steps(), recomputing(self.model) if self._recomputes else nullcontext():
            run.train(lambda: _attempt(self.model, first, run, passes, loss, held_out))
        adapter.write(self._job.to, self._config, adapter.trainable(self.model))
        run.remove()
        return run.result(dropped)


def _attempt(
    model: Any,
    first: dict[str, mx.array],
    run: TrainingRun,
    passes: Passes,
    loss: Loss,
    held_out: Callable[[], float] | None,
) -> None:
    """Train from the last checkpoint, or from the weights `first`, to the end."""
    optimizer = optimizers.AdamW(learning_rate=run.rate, weight_decay=0.01)
    optimizer.init(model.trainable_parameters())
    done = run.restore(
        lambda folder: _load(folder, model, optimizer), lambda: model.update(tree_unflatten(list(first.items())))
    )
    maybe_set_recommended_wired_limit()
    model.train()
    gradient = pass_gradient(model, loss)
    for step in range(done, run.steps):
        # Dropout, too, is a function of the step.
        mx.random.seed(run.settings.seed * 1_000_003 + step)
        value, gradients = over_passes(gradient, passes(step))
        check_finite(value, step + 1, run.steps)
        optimizer.learning_rate = run.rate_at(step)
        optimizer.update(model, optimizers.clip_grad_norm(gradients, _CLIP)[0])
        mx.eval(model.trainable_parameters(), optimizer.state)
        run.record(step + 1, value)
        if held_out is not None:
            run.measure(step + 1, held_out)
        run.report(step + 1, value, lambda folder: _write(folder, model, optimizer))


def pass_gradient(model: Any, loss: Loss) -> Callable[..., tuple[mx.array, Any]]:
    """Build the function from a pass's arrays to its loss and gradients, compiled where `cpu_entropy.steps` lets it."""
    value_and_gradient = nn.value_and_grad(model, loss)

    def of(arrays: Sequence[mx.array]) -> tuple[mx.array, Any]:
        found: tuple[mx.array, Any] = value_and_gradient(model, *arrays)
        return found

    compiled: Callable[..., tuple[mx.array, Any]] = mx.compile(
        of, inputs=[model.state, mx.random.state], outputs=[model.state, mx.random.state]
    )
    return compiled


def over_passes(gradient: Callable[..., tuple[mx.array, Any]], passes: Sequence[training_rows.Arrays]) -> Any:
    """Return (loss, gradients) of a step: the sums over its passes, of which one at a time is in memory."""
    value, gradients = 0.0, None
    for arrays in passes:
        part, more = gradient([mx.array(each) for each in arrays])
        gradients = more if gradients is None else tree_map(mx.add, gradients, more)
        mx.eval(part, gradients)
        # Freed memory would otherwise wait for an array of its own size.
        mx.clear_cache()
        value += float(cast(float, part.item()))
    return value, gradients


def _write(folder: Path, model: Any, optimizer: Any) -> None:
    """Write a checkpoint's files."""
    mx.save_safetensors(str(folder / MLX_ADAPTER), adapter.trainable(model))
    mx.save_safetensors(str(folder / _OPTIMIZER), dict(tree_flatten(optimizer.state)))


def _load(folder: Path, model: Any, optimizer: Any) -> None:
    """Load a checkpoint's files."""
    adapter.load_weights(model, folder)
    state: Any = mx.load(str(folder / _OPTIMIZER))
    # The rate follows from the step.
    state.pop("learning_rate", None)
    optimizer.state = {**optimizer.state, **tree_unflatten(list(state.items()))}
