"""R-SFT and weighted HS-DPO of LoRA adapters on torch: the same batches, losses, and guarantees as mlx/train.py.

torch/trainers.py has TRL's loop, torch/losses.py the losses; this module runs a training from its last checkpoint to
its end. Batches, word dropout, dropout, and rate are functions of (seed, step): a resumed training ends, on a CPU, with
the same bytes. Nothing is truncated: an example that does not fit is dropped and its id returned.

A checkpoint holds the adapter and AdamW's state as safetensors, by the parameters' names (transformers' own are
pickles), and no random state, which follows from the step.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from wizloop.backends import training_rows
from wizloop.backends.guard_types import (
    DpoPair,
    NotFinite,
    OnStep,
    OnWait,
    SftExample,
    TrainJob,
    TrainResult,
    no_wait,
)
from wizloop.backends.model_folder import PEFT_ADAPTER
from wizloop.backends.tokens import Tokens
from wizloop.backends.torch import adapter as torch_adapter
from wizloop.backends.torch.batches import ALONE, Batch, Part, dpo_batches, sft_batches
from wizloop.backends.torch.load import load
from wizloop.backends.torch.losses import logprobs
from wizloop.backends.torch.trainers import Course, HsDpo, RSft, dpo_trainer, sft_trainer
from wizloop.backends.training_memory import most_tokens
from wizloop.backends.training_rows import PairRow
from wizloop.backends.training_run import FIRST_STEP, LOADING, TrainingRun, reference_of

_OPTIMIZER = "optimizer.safetensors"


def train_sft(
    job: TrainJob,
    examples: Sequence[SftExample],
    on_step: OnStep,
    on_wait: OnWait = no_wait,
    *,
    device: str = "cpu",
    sharded: bool = False,
) -> TrainResult:
    """Run R-SFT (arXiv:2501.18492, section 3.2): token cross-entropy of the completions.

    Writes adapter_model.safetensors and adapter_config.json into `job.to`. Resumes from `job.checkpoint` if that folder
    holds an unfinished training of the same data and settings, and removes it at the end. Raises NotFinite, ValueError
    if no example fits, and whatever `on_step` raises (after a checkpoint). Where several processes train, `sharded`
    lets each hold a share of the base.
    """
    student = _Student(job, on_wait, device, sharded)
    rows, dropped, plan = training_rows.planned_sft(job, examples, student.tokens)
    run = student.begin(sft_trainer, plan, on_step)

    def batches(step: int) -> list[Batch]:
        several = [rows[i] for i in plan.indices(step)]
        return sft_batches(several, job.settings, step, blank=student.tokens.end, part=student.part, most=student.most)

    return student.train(run, batches, dropped, student.held_out())


def train_dpo(
    job: TrainJob,
    pairs: Sequence[DpoPair],
    on_step: OnStep,
    on_wait: OnWait = no_wait,
    *,
    device: str = "cpu",
    sharded: bool = False,
) -> TrainResult:
    """Run HS-DPO (arXiv:2501.18492, section 3.3) from adapter `job.start`, which is also the reference.

    Weights scale the preference only. The reference's log-probabilities are computed before the first step, so that one
    model is in memory. Otherwise like train_sft.
    """
    student = _Student(job, on_wait, device, sharded)
    rows, dropped, plan = training_rows.planned_dpo(job, pairs, student.tokens)
    run = student.begin(dpo_trainer, plan, on_step)
    reference = reference_logprobs(student.model, rows, student.most, student.accelerator, on_wait)

    def batches(step: int) -> list[Batch]:
        indices = plan.indices(step)
        several = [rows[i] for i in indices]
        return dpo_batches(several, reference[indices], part=student.part, most=student.most)

    return student.train(run, batches, dropped)


def reference_logprobs(
    model: Any, rows: Sequence[PairRow], most: int, accelerator: Any = None, on_wait: OnWait = no_wait
) -> NDArray[np.float32]:
    """Return [pairs, 2]: summed log-probabilities of the chosen and the rejected completion, without dropout.

    Computed in passes of `most` tokens, each told to `on_wait`, and shared by the processes of an accelerator.
    """
    model.eval()
    result = torch.zeros(len(rows), 2)
    device = model.device
    part = ALONE if accelerator is None else Part(accelerator.process_index, accelerator.num_processes)
    # Similar lengths together: a pass is as long as its longest row.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].chosen.ids))
    mine, done = order[part.rank :: part.processes], 0
    unknown = np.zeros((len(rows), 2), np.float32)
    for batch in dpo_batches([rows[i] for i in order], unknown, part=part, most=most):
        on_wait(reference_of(done, len(mine)))
        # In the number format of the steps; otherwise the first preferences would be rounding errors.
        with torch.no_grad(), nullcontext() if accelerator is None else accelerator.autocast():
            inputs = {name: batch[name].to(device) for name in ("input_ids", "positions", "targets")}
            sides = logprobs(model(**inputs), batch["mask"].to(device))
        # A pass that only keeps in step with the other processes has no row of its own.
        indices = mine[done : done + len(batch["reference"])]
        result[indices] = torch.stack(sides, dim=1).cpu()[: len(indices)]
        done += len(indices)
    if part.processes > 1:
        result = accelerator.reduce(result.to(device), reduction="sum").cpu()
    return np.asarray(result, np.float32)


class _Student:
    """The base with trainable adapters, fresh ones drawn from the seed or the job's `start`, and its trainer."""

    trainer: RSft | HsDpo
    part: Part

    def __init__(self, job: TrainJob, on_wait: OnWait, device: str, sharded: bool) -> None:
        on_wait(LOADING)
        self._on_wait = on_wait
        shares = PartialState(cpu=device == "cpu").num_processes if sharded else 1
        self._loaded = load(job.base, None, quantise=job.quantise, device=device, shares=shares)
        self._job, self.tokens = job, Tokens(self._loaded.tokenizer, self._loaded.ends)
        self.most = most_tokens("torch", gpu=device != "cpu", scale=job.settings.scale)

    @property
    def model(self) -> Any:
        return self.trainer.model

    @property
    def accelerator(self) -> Any:
        return self.trainer.accelerator

    def begin(self, make: Callable[..., RSft | HsDpo], plan: training_rows.Plan, on_step: OnStep) -> TrainingRun:
        """Add the adapter and build the trainer. Of several processes the first one tidies up checkpoints first."""
        job, loaded = self._job, self._loaded
        with PartialState(cpu=loaded.device == "cpu").main_process_first():
            run = TrainingRun(job, plan, on_step)
        model = torch_adapter.add_new_adapter(loaded.model, job.lora, seed=job.settings.seed)
        if job.start is not None:
            torch_adapter.load_weights(model, torch_adapter.read(job.start)[1], job.start)
        self.trainer = make(model, loaded, job.settings, job.checkpoint)
        self.part = Part(self.accelerator.process_index, self.accelerator.num_processes)
        return run

    def held_out(self) -> Callable[[], float] | None:
        """Return the function that measures the job's held-out examples; None if it has none.

        Every process measures all of them: with a sharded base each pass needs all processes.
        """
        rows, plain = training_rows.held_out(self._job, self.tokens), training_rows.as_they_are(self._job.settings)
        if not rows:
            return None
        batches = sft_batches(rows, plain, 0, blank=0, most=self.most)
        return lambda: self.trainer.measured(batches)

    def train(
        self,
        run: TrainingRun,
        batches: Callable[[int], list[Batch]],
        dropped: list[int],
        held_out: Callable[[], float] | None = None,
    ) -> TrainResult:
        model, job = self.model, self._job
        self._on_wait(FIRST_STEP)
        first = {name: tensor.detach().to("cpu", copy=True) for name, tensor in torch_adapter.weights(model).items()}

        def restore(optimizer: Any) -> int:
            return run.restore(
                lambda folder: _load(folder, model, optimizer),
                lambda: torch_adapter.load_weights(model, first, job.checkpoint),
            )

        def after(step: int, loss: float) -> None:
            run.record(step, loss)
            if held_out is not None:
                run.measure(step, held_out)
            if self.accelerator.is_main_process:
                run.report(step, loss, lambda folder: _write(folder, model, self.trainer.optimizer))

        course = Course(run.steps, batches, restore, after)

        def attempt() -> None:
            try:
                self.trainer.follow(course, run.rate)
            except NotFinite:
                # Every process has seen the same loss; the first may still be writing a checkpoint.
                self.accelerator.wait_for_everyone()
                raise

        run.train(attempt)
        if self.accelerator.is_main_process:
            torch_adapter.write_of(model, job.to)
            run.remove()
        return run.result(dropped)


def _write(folder: Path, model: Any, optimizer: Any) -> None:
    """Write a checkpoint's files, for a model and AdamW over what it trains."""
    torch_adapter.write_of(model, folder)
    state = {
        f"{name}/{key}": value.detach().contiguous().cpu()
        for name, parameter in _trained(model)
        for key, value in optimizer.state[parameter].items()
    }
    save_file(state, folder / _OPTIMIZER)


def _load(folder: Path, model: Any, optimizer: Any) -> None:
    """Load a checkpoint's files."""
    torch_adapter.load_weights(model, load_file(folder / PEFT_ADAPTER), folder)
    state = load_file(folder / _OPTIMIZER)
    for name, parameter in _trained(model):
        saved = {key.split("/")[1]: value for key, value in state.items() if key.split("/")[0] == name}
        # AdamW counts its steps on the CPU.
        optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in saved.items()
        }


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
