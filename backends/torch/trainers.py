"""TRL's two trainers with wizloop's losses: R-SFT on SFTTrainer, weighted HS-DPO on DPOTrainer.

TRL provides the loop, accelerate's processes and devices, gradient checkpointing, clipping, and the handling of
quantized weights. The batches, the losses, and the rate are ours, each a function of the step, so that a training can
resume in the middle. Not used from TRL: its tokenizing (rows are tokens already), its checkpoints (pickles), its cache
of reference log-probabilities (a folder outside the workspace), and its second copy of the adapter as a reference.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from wizloop.backends.guard_types import TrainSettings
from wizloop.backends.torch.batches import Batch
from wizloop.backends.torch.load import Loaded
from wizloop.backends.torch.losses import dpo_losses, give_entropies, sft_loss
from wizloop.backends.training_memory import recomputes
from wizloop.backends.training_run import check_finite, rate_share

_CLIP = 1.0
_WEIGHT_DECAY = 0.01
_SEEDS = 2**32

_Trainer = TypeVar("_Trainer", bound="_Stepwise")


@dataclass
class Course:
    """A training as steps.

    `batches(step)` returns this process's share of a step, in passes. `restore(optimizer)` loads the state of the steps
    done into model and optimizer and returns their number. `after(step, loss)` is called after each step.
    """

    steps: int
    batches: Callable[[int], list[Batch]]
    restore: Callable[[Any], int]
    after: Callable[[int, float], None]


class _Stepwise:
    """The changes to both trainers: a mixin before TRL's class, which provides the attributes declared here."""

    settings: TrainSettings
    accelerator: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    state: Any
    train: Callable[[], Any]
    add_callback: Callable[[Any], None]
    remove_callback: Callable[[Any], None]
    loss_of: Callable[[Any, Batch], Any]

    def _send_telemetry(self) -> None:
        """Send nothing: TRL would report its use to its makers."""

    def follow(self, course: Course, rate: float) -> None:
        """Train the rest of `course` at the peak rate `rate`. Raises NotFinite, and what course.after raises."""
        self._course, self._loss = course, 0.0
        trained = [each for each in self.model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=_WEIGHT_DECAY)
        self._done = course.restore(self.optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        if self._done < course.steps:
            self.train()

    def _rate(self, step: int) -> float:
        """Return the share of the peak rate, `step` steps after the restored ones."""
        return rate_share(self._done + step, self._course.steps, self.settings.warmup)

    def get_train_dataloader(self) -> Any:
        """Return the remaining steps; each is already a batch."""

        def passes(step: int) -> dict[str, list[Batch]]:
            return {"passes": self._course.batches(step)}

        return DataLoader(range(self._done, self._course.steps), batch_size=None, collate_fn=passes)

    def training_step(self, model: Any, inputs: Batch, *_: Any) -> Any:
        """Run all passes of a step and return its loss, before the weights are changed."""
        step = self._done + self.state.global_step
        # Dropout, too, is a function of the step.
        torch.manual_seed((self.settings.seed * 1_000_003 + step) % _SEEDS)
        passes, loss = inputs["passes"], torch.zeros((), device=self.accelerator.device)
        for number, each in enumerate(passes):
            # Processes exchange their gradients once, after the last pass.
            last = number == len(passes) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                loss = loss + super().training_step(model, each)  # type: ignore[misc]
        self._loss = float(self.accelerator.reduce(loss, reduction="mean"))
        check_finite(self._loss, step + 1, self._course.steps)
        return loss

    def compute_loss(self, model: Any, inputs: Batch, return_outputs: bool = False, **_: Any) -> Any:
        """Return the loss of a pass, as transformers' Trainer calls it."""
        entropies = model(**{name: inputs[name] for name in ("input_ids", "positions", "targets")})
        loss = self.loss_of(entropies, inputs)
        return (loss, entropies) if return_outputs else loss

    def measured(self, batches: list[Batch]) -> float:
        """Return the loss of passes that nothing is learned from, whole in this process."""
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            passes = ({name: each.to(self.accelerator.device) for name, each in one.items()} for one in batches)
            found = sum(float(self.compute_loss(self.model, each)) for each in passes)
        self.model.train()
        return found / self.accelerator.num_processes

    def floating_point_ops(self, inputs: Batch) -> int:
        """Return 0: not counted."""
        return 0

    def step_ended(self) -> None:
        """Report the step that ended."""
        self._course.after(self._done + self.state.global_step, self._loss)


class RSft(_Stepwise, SFTTrainer):
    """R-SFT: token cross-entropy of the completions, weighted, and of some prompt tokens."""

    def loss_of(self, entropies: Any, inputs: Batch) -> Any:
        """Return the loss of this process's share of a step."""
        learned, share = inputs["weights"].shape[1], self.accelerator.num_processes
        loss = sft_loss(entropies[:, :learned], inputs["weights"], share)
        if "counted" not in inputs:
            return loss
        prompt = sft_loss(entropies[:, learned:], inputs["counted"], share)
        return loss + self.settings.prompt_weight * prompt


class HsDpo(_Stepwise, DPOTrainer):
    """HS-DPO: a weighted preference for each pair, plus the chosen completion's token loss."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def loss_of(self, entropies: Any, inputs: Batch) -> Any:
        """Return the loss of this process's share of a step."""
        arrays = (inputs[name] for name in ("mask", "reference", "weights"))
        losses = dpo_losses(entropies, *arrays, beta=self.settings.beta, sft_weight=self.settings.sft_weight)
        return (losses * inputs["shares"]).sum() * self.accelerator.num_processes


class _Ended(TrainerCallback):
    """Forwards a step's end to the trainer: transformers reports it to callbacks only."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._ended()


def sft_trainer(model: Any, loaded: Loaded, settings: TrainSettings, folder: Path) -> RSft:
    """Build the trainer of `model`, the loaded one with what is trained. TRL may write unused files into `folder`."""
    config = SFTConfig(**_options(settings, folder, loaded), dataset_kwargs={"skip_prepare_dataset": True})
    return _trainer(RSft, config, model, loaded, settings)


def dpo_trainer(model: Any, loaded: Loaded, settings: TrainSettings, folder: Path) -> HsDpo:
    """Build the trainer like sft_trainer. Dropout is off, TRL's default: the reference has none either."""
    adapted = isinstance(model, PeftModel)
    # TRL would load the base again as the reference of a model without adapters.
    config = DPOConfig(**_options(settings, folder, loaded), precompute_ref_log_probs=not adapted)
    trainer = _trainer(HsDpo, config, model, loaded, settings)
    if adapted:
        # TRL's copy of the adapter as a reference; ours is computed before the first step.
        model.delete_adapter("ref")
    return trainer


def _trainer(kind: type[_Trainer], config: Any, model: Any, loaded: Loaded, settings: TrainSettings) -> _Trainer:
    # A process has one GPU, however many it sees; TRL refuses to start otherwise.
    config._n_gpu = min(1, config.n_gpu)
    # TRL requires a data set; the batches come from the course.
    unused = {"train_dataset": Dataset.from_dict({"row": [0]}), "data_collator": list}
    make: Any = kind
    trainer: _Trainer = make(model, args=config, processing_class=loaded.tokenizer, **unused)
    trainer.settings = settings
    give_entropies(model.get_base_model() if isinstance(model, PeftModel) else model, loaded.head)
    # It prints to stdout, which is the worker's channel.
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Ended(trainer.step_ended))
    return trainer


def _options(settings: TrainSettings, folder: Path, loaded: Loaded) -> dict[str, Any]:
    cuda = loaded.device != "cpu"
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.batch,
        "num_train_epochs": 1,
        "max_length": None,
        "max_grad_norm": _CLIP,
        "seed": settings.seed % _SEEDS,
        "use_cpu": not cuda,
        "bf16": cuda,
        "activation_checkpointing": recomputes(loaded.model.config.to_dict(), "torch", gpu=cuda),
        # Every adapter is used in every pass.
        "ddp_find_unused_parameters": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
