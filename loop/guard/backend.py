"""What the phases need of whatever runs models, and what runs them: MLX or torch. No model library is imported here.

Each backend is a class with the same methods; a phase never knows which one it has.
"""

import importlib.util
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wizloop import plugins
from wizloop.backends import devices
from wizloop.backends.guard_types import (
    BackendError,
    Choice,
    DpoPair,
    Encoded,
    OnStep,
    Prompt,
    Sampled,
    Sampling,
    SftExample,
    TrainJob,
    TrainResult,
)
from wizloop.backends.tiny.build import Progress, Shape


class Guard(Protocol):
    """A loaded model that can be asked."""

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded: ...

    def count(self, text: str) -> int: ...

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]: ...

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]: ...


class Backend(Protocol):
    """Loads, trains, builds and exports models. `base` is a folder or a hub name, an adapter a folder over it."""

    NAME: ClassVar[str]
    FORMATS: ClassVar[tuple[str, ...]]
    """What `export` writes."""

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> Guard: ...

    def train_sft(self, job: TrainJob, examples: Sequence[SftExample], on_step: OnStep) -> TrainResult: ...

    def train_dpo(self, job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep) -> TrainResult: ...

    def build_tiny(
        self,
        folder: Path,
        texts: Sequence[str],
        *,
        shape: Shape,
        epochs: int,
        seed: int,
        progress: Progress,
        fixed_texts: Sequence[str],
    ) -> None: ...

    def export(self, format: str, base: str, adapter: Path, to: Path) -> None: ...


def chosen(backend: str, device: str, processes: int = 1, *, sharded: bool = False) -> Backend:
    """What guard.backend and guard.device come to on this machine, with so many processes that train (0: one for each
    card), each with the whole base or with a share. Raises BackendError.
    """
    picked = devices.pick(backend, device)
    if picked.backend == "cuda":
        return Torch(picked.device, processes, sharded)
    if processes != 1:
        raise BackendError(
            f'train.launch is "accelerate", which is torch\'s, and {picked.sentence()}: set guard.backend to "cuda", '
            'or train.launch to "one"'
        )
    if picked.device == "cpu" and devices.metal():
        from wizloop.backends.mlx import load as mlx_load

        mlx_load.use_cpu()
    return Mlx()


def class_of(picked: devices.Picked) -> "type[Mlx] | type[Torch]":
    """The backend that a choice comes to."""
    return Torch if picked.backend == "cuda" else Mlx


def export_fault(backend: "Backend | type[Mlx] | type[Torch]", formats: Iterable[str]) -> str | None:
    """Why a backend cannot write one of these formats here, or None."""
    for format in formats:
        if format not in Torch.FORMATS and format in plugins.installed("exporter"):
            if why := plugins.fault("exporter", format):
                return why
        elif format not in backend.FORMATS:
            return f"the {backend.NAME} backend does not write {format}: it writes {', '.join(backend.FORMATS)}"
        elif format == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
            return (
                "the format nf4 needs bitsandbytes (pip install 'wizloop[cuda]', on Linux); export safetensors instead"
            )
    return None


class _Builds:
    """Whatever runs guards: the tiny one is made by MLX, on the CPU."""

    def build_tiny(
        self,
        folder: Path,
        texts: Sequence[str],
        *,
        shape: Shape,
        epochs: int,
        seed: int,
        progress: Progress,
        fixed_texts: Sequence[str],
    ) -> None:
        """Raises ValueError for too few texts."""
        from wizloop.backends.mlx import blas
        from wizloop.backends.tiny import build as tiny_guard

        # Before the first import of mlx, which is here in a worker that builds: see blas.
        blas.preload()
        how: Any = {"shape": shape, "epochs": epochs, "seed": seed, "progress": progress, "fixed_texts": fixed_texts}
        tiny_guard.build(folder, texts, **how)


class Mlx(_Builds):
    """The MLX backend; its modules are imported when they are first used."""

    NAME: ClassVar[str] = "MLX"
    FORMATS: ClassVar[tuple[str, ...]] = ("adapter", "safetensors", "mlx-4bit")

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> Guard:
        """Raises ModelMissing, BadArtifact."""
        from wizloop.backends.mlx import guard as mlx_guard

        return mlx_guard.load(base, adapter, quantise=quantise)

    def train_sft(self, job: TrainJob, examples: Sequence[SftExample], on_step: OnStep) -> TrainResult:
        """Raises NotFinite when the loss stays so after two halvings of the rate."""
        from wizloop.backends.mlx import train as mlx_train

        return mlx_train.train_sft(job, examples, on_step)

    def train_dpo(self, job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep) -> TrainResult:
        """Raises NotFinite when the loss stays so after two halvings of the rate."""
        from wizloop.backends.mlx import train as mlx_train

        return mlx_train.train_dpo(job, pairs, on_step)

    def export(self, format: str, base: str, adapter: Path, to: Path) -> None:
        """Write one of FORMATS into the empty folder `to`. Raises BackendError for another."""
        if why := export_fault(self, [format]):
            raise BackendError(why)
        from wizloop.backends.mlx import export as mlx_export

        writers = {
            "adapter": mlx_export.export_adapter,
            "safetensors": mlx_export.export_safetensors,
            "mlx-4bit": mlx_export.export_mlx_4bit,
        }
        writers[format](base, adapter, to)


@dataclass(frozen=True, slots=True)
class Torch(_Builds):
    """The torch backend on one device of torch's; its modules are imported when they are first used."""

    NAME: ClassVar[str] = "torch"
    FORMATS: ClassVar[tuple[str, ...]] = ("adapter", "safetensors", "mlx-4bit", "nf4")

    device: str
    processes: int = 1
    """That train together; 0 means one for each card."""
    sharded: bool = False
    """Whether each of them holds a share of the base."""

    def count(self) -> int:
        """How many train, on this machine. Raises BackendError where one would hold all shares."""
        from wizloop.backends.torch import launch as torch_launch

        return torch_launch.count(self.processes, self.sharded)

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> Guard:
        """Raises ModelMissing, BadArtifact, BackendError where 4 bits are not to be had.

        What was exported for MLX is asked on MLX, so that an export is checked as those who get it will run it.
        """
        from wizloop.backends import model_folder
        from wizloop.backends.torch import guard as torch_guard

        if adapter is None and model_folder.is_for_mlx(base):
            return Mlx().load(base, None, quantise=quantise)
        return torch_guard.load(base, adapter, quantise=quantise, device=self.device)

    def train_sft(self, job: TrainJob, examples: Sequence[SftExample], on_step: OnStep) -> TrainResult:
        """Raises NotFinite when the loss stays so after two halvings of the rate."""
        if self.processes != 1:
            return self._launched("sft", job, examples, on_step)
        from wizloop.backends.torch import train as torch_train

        return torch_train.train_sft(job, examples, on_step, device=self.device)

    def train_dpo(self, job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep) -> TrainResult:
        """Raises NotFinite when the loss stays so after two halvings of the rate."""
        if self.processes != 1:
            return self._launched("dpo", job, pairs, on_step)
        from wizloop.backends.torch import train as torch_train

        return torch_train.train_dpo(job, pairs, on_step, device=self.device)

    def _launched(
        self, kind: str, job: TrainJob, lessons: Sequence[SftExample] | Sequence[DpoPair], on_step: OnStep
    ) -> TrainResult:
        from wizloop.backends.torch import launch as torch_launch

        many: Any = {"device": self.device, "processes": self.processes, "sharded": self.sharded}
        return torch_launch.train(kind, job, lessons, on_step, **many)

    def export(self, format: str, base: str, adapter: Path, to: Path) -> None:
        """Write one of FORMATS (the adapter is PEFT's) into the empty folder `to`. Raises BackendError for another."""
        if why := export_fault(self, [format]):
            raise BackendError(why)
        from wizloop.backends.torch import export as torch_export

        writers = {
            "adapter": torch_export.export_adapter,
            "safetensors": torch_export.export_safetensors,
            "mlx-4bit": _export_for_mlx,
            "nf4": torch_export.export_nf4,
        }
        writers[format](base, adapter, to)


def _export_for_mlx(base: str, adapter: Path, to: Path) -> None:
    """Merged by torch, which knows the adapter, and quantised by MLX."""
    from wizloop.backends.mlx import export as mlx_export
    from wizloop.backends.torch import export as torch_export

    with tempfile.TemporaryDirectory(dir=to.parent, prefix="tmp-") as merged:
        torch_export.export_safetensors(base, adapter, Path(merged))
        mlx_export.export_mlx_4bit(merged, None, to)
