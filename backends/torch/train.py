"""R-SFT and weighted HS-DPO of LoRA adapters on torch: the same batches, losses and promises as mlx_train.

torch_trainers has TRL's loop, torch_losses the losses; here a training goes from its last checkpoint to its end.
Batches, word dropout, dropout and rate are functions of (seed, step): training that was killed goes on and, on a CPU,
ends with the same bytes. Nothing is truncated: an example that does not fit is dropped and its id returned.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from wizloop.backends import training_rows
from wizloop.backends.checkpoints import Checkpoints
from wizloop.backends.guard_types import DpoPair, NotFinite, OnStep, SftExample, TrainJob, TrainResult, TrainSettings
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch import checkpoint as torch_checkpoint
from wizloop.backends.torch import layouts as torch_layouts
from wizloop.backends.torch import load as torch_load
from wizloop.backends.torch.batches import ALONE, Batch, Part, dpo_batches, most_tokens, sft_batches
from wizloop.backends.torch.losses import logprobs
from wizloop.backends.torch.trainers import Course, HsDpo, RSft, dpo_trainer, sft_trainer
from wizloop.backends.training_rows import PairRow

# Times that a loss which is not finite is answered by going back to the last checkpoint with half the rate.
MOST_HALVINGS = 2


def train_sft(
    job: TrainJob,
    examples: Sequence[SftExample],
    on_step: OnStep,
    *,
    device: str = "cpu",
    sharded: bool = False,
) -> TrainResult:
    """R-SFT (arXiv:2501.18492, section 3.2): token cross-entropy of the completions.

    Writes adapter_model.safetensors and adapter_config.json into `job.to`. Goes on from `job.checkpoint` where that
    folder holds an unfinished try at the same data and settings, and removes it at the end. Raises NotFinite,
    ValueError when no example fits, and whatever `on_step` raises (after a checkpoint). Where several processes train,
    `sharded` lets each hold a share of the base.
    """
    loaded, settings = _loaded(job, device, sharded), job.settings
    tokens = Tokens(loaded.tokenizer)
    rows, dropped, plan = training_rows.planned_sft(job, examples, tokens)
    saved = _checkpoints(job.checkpoint, plan.fingerprint, device)
    trainer = sft_trainer(_student(loaded, job), loaded, settings, saved.folder)
    part = Part(trainer.accelerator.process_index, trainer.accelerator.num_processes)
    most = most_tokens(device, settings.scale)

    def batches(step: int) -> list[Batch]:
        several = [rows[i] for i in plan.indices(step)]
        return sft_batches(several, settings, step, blank=tokens.end, part=part, most=most)

    result = _Run(trainer, settings, plan.steps, saved, on_step).train(batches, job.to)
    return replace(result, dropped=dropped)


def train_dpo(
    job: TrainJob,
    pairs: Sequence[DpoPair],
    on_step: OnStep,
    *,
    device: str = "cpu",
    sharded: bool = False,
) -> TrainResult:
    """HS-DPO (arXiv:2501.18492, section 3.3) from adapter `job.start`, which is also the reference; weights scale
    the preference alone.

    The reference's log-probabilities are computed before the first step, so that one model is in memory. Otherwise like
    train_sft.
    """
    loaded, settings = _loaded(job, device, sharded), job.settings
    rows, dropped, plan = training_rows.planned_dpo(job, pairs, Tokens(loaded.tokenizer))
    saved = _checkpoints(job.checkpoint, plan.fingerprint, device)
    trainer = dpo_trainer(_student(loaded, job), loaded, settings, saved.folder)
    part = Part(trainer.accelerator.process_index, trainer.accelerator.num_processes)
    most = most_tokens(device, settings.scale)
    reference = reference_logprobs(trainer.model, rows, most, trainer.accelerator)

    def batches(step: int) -> list[Batch]:
        chosen = plan.indices(step)
        return dpo_batches([rows[i] for i in chosen], reference[chosen], part=part, most=most)

    result = _Run(trainer, settings, plan.steps, saved, on_step).train(batches, job.to)
    return replace(result, dropped=dropped)


def reference_logprobs(model: Any, rows: Sequence[PairRow], most: int, accelerator: Any = None) -> NDArray[np.float32]:
    """[pairs, 2]: summed log-probabilities of the chosen and the rejected completion under the model as it is, without
    dropout, in passes of `most` tokens. Processes of an accelerator share the work.
    """
    model.eval()
    result = torch.zeros(len(rows), 2)
    device = model.device
    part = ALONE if accelerator is None else Part(accelerator.process_index, accelerator.num_processes)
    # Like lengths side by side: a pass is as long as its longest row.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].chosen.ids))
    mine, done = order[part.rank :: part.processes], 0
    unknown = np.zeros((len(rows), 2), np.float32)
    for batch in dpo_batches([rows[i] for i in order], unknown, part=part, most=most):
        # In the number format of the steps, or else the first preferences would be of rounding.
        with torch.no_grad(), nullcontext() if accelerator is None else accelerator.autocast():
            asked = {name: batch[name].to(device) for name in ("input_ids", "positions", "targets")}
            sides = logprobs(model(**asked), batch["mask"].to(device))
        # A pass that only keeps step with the other processes has no row left.
        asked_for = mine[done : done + len(batch["reference"])]
        result[asked_for] = torch.stack(sides, dim=1).cpu()[: len(asked_for)]
        done += len(asked_for)
    if part.processes > 1:
        result = accelerator.reduce(result.to(device), reduction="sum").cpu()
    return np.asarray(result, np.float32)


def _loaded(job: TrainJob, device: str, sharded: bool) -> torch_load.Loaded:
    shares = PartialState(cpu=device == "cpu").num_processes if sharded else 1
    return torch_load.load(job.base, None, quantise=job.quantise, device=device, shares=shares)


def _student(loaded: torch_load.Loaded, job: TrainJob) -> Any:
    """The base with trainable adapters: fresh ones, drawn from the seed, or those that the job starts from, in either
    layout.
    """
    model = torch_adapter.add_new_adapter(loaded.model, job.lora, seed=job.settings.seed)
    if job.start is not None:
        _, weights = torch_layouts.read(job.start)
        torch_adapter.put(weights, model, job.start)
    return model


def _checkpoints(folder: Path, fingerprint: str, device: str) -> Checkpoints:
    """The training's checkpoints; of several processes the first one tidies up before the others look."""
    with PartialState(cpu=device == "cpu").main_process_first():
        return Checkpoints(folder, fingerprint)


class _Run:
    """One training, from its last checkpoint to its end."""

    def __init__(
        self, trainer: RSft | HsDpo, settings: TrainSettings, steps: int, saved: Checkpoints, on_step: OnStep
    ) -> None:
        self._trainer, self._settings, self._steps = trainer, settings, steps
        self._saved, self._on_step = saved, on_step
        self._halvings = saved.halvings()
        self._losses: list[tuple[int, float]] = []

    def train(self, batches: Callable[[int], list[Batch]], to: Path) -> TrainResult:
        model = self._trainer.model
        first = {name: each.detach().clone() for name, each in torch_adapter.weights(model).items()}

        def restore(optimiser: Any) -> int:
            done = torch_checkpoint.restore(self._saved, model, optimiser, first)
            self._losses = [pair for pair in self._losses if pair[0] <= done]
            return done

        course = Course(self._steps, batches, restore, self._after)
        while True:
            try:
                self._trainer.follow(course, self._halvings)
                break
            except NotFinite:
                # Every process has seen the same loss; the first may still be writing a checkpoint.
                self._trainer.accelerator.wait_for_everyone()
                self._halvings += 1
                if self._halvings > MOST_HALVINGS:
                    raise
        if self._trainer.accelerator.is_main_process:
            torch_adapter.write(to, model)
            self._saved.remove()
        return TrainResult(self._steps, self._losses, [], self._halvings)

    def _after(self, step: int, loss: float) -> None:
        self._losses.append((step, loss))
        if not self._trainer.accelerator.is_main_process:
            return
        try:
            self._on_step(step, self._steps, loss)
        except BaseException:
            self._save(step)
            raise
        if step % self._settings.checkpoint_every == 0:
            self._save(step)

    def _save(self, step: int) -> None:
        write = partial(torch_checkpoint.write, model=self._trainer.model, optimiser=self._trainer.optimizer)
        self._saved.save(step, self._halvings, write)
