"""The backends that run models, MLX and torch, behind one protocol. A backend imports its libraries on first use."""

import importlib.util
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from wizloop import plugins
from wizloop.backends import artifacts, devices, model_files, model_folder
from wizloop.backends.guard_types import (
    BackendError,
    Choice,
    DpoPair,
    Encoded,
    OnStep,
    OnWait,
    Prompt,
    Sampled,
    Sampling,
    SftExample,
    TrainJob,
    TrainResult,
)


class Guard(Protocol):
    """A loaded model that answers prompts."""

    def encode(self, prompt: Prompt, *, max_tokens: int) -> Encoded:
        """Tokenize a prompt; a longer one is cut in its data."""

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        """Return the probability of each word of a choice as the next one: (prompts, words)."""

    def states(self, prompts: Sequence[Encoded], *, depth: float) -> NDArray[np.float32] | None:
        """Return hidden states after `depth` of the blocks, (prompts, 2 * width): own tokens' mean, then the last's.

        None for a guard that has none, such as one on a server.
        """

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        """Return the sampled traces of each prompt."""


class Backend(Protocol):
    """Load, train, build and export models. `base` is a folder or a hub name, an adapter is a folder on top of it."""

    NAME: ClassVar[str]
    FORMATS: ClassVar[tuple[str, ...]]
    """The formats that `export` writes."""

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> Guard:
        """Load a model."""

    def train_sft(self, job: TrainJob, examples: Sequence[SftExample], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        """Train an adapter on completions (R-SFT)."""

    def train_dpo(self, job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        """Train an adapter on pairs (HS-DPO)."""

    def build_tiny(self, folder: Path, texts: Sequence[str], **settings: Any) -> None:
        """Pretrain the tiny guard on texts, with the settings of `backends.tiny.build.build`."""

    def export(self, format: str, base: str, adapter: Path | None, to: Path) -> None:
        """Write one of FORMATS into the empty folder `to`; without an adapter the base itself."""


def choose_backend(backend: str, device: str, processes: int = 1, *, sharded: bool = False) -> Backend:
    """Return the backend for guard.backend and guard.device on this machine.

    It trains with `processes` processes (0: one per GPU), each holding the whole base or a shard of it. Raises
    BackendError.
    """
    picked = devices.pick(backend, device)
    if picked.backend == "cuda":
        return Torch(picked.device, processes, sharded)
    if processes != 1:
        raise BackendError(
            f'train.launch = "accelerate" needs torch, and {picked.sentence()}: set guard.backend to "cuda", '
            'or train.launch to "one"'
        )
    if picked.device == "cpu" and devices.metal():
        from wizloop.backends.mlx import load as mlx_load

        mlx_load.use_cpu()
    return Mlx()


def class_of(picked: devices.Picked) -> "type[Mlx] | type[Torch]":
    """Return the backend class of a picked device."""
    return Torch if picked.backend == "cuda" else Mlx


ADAPTERS = ("adapter", "adapter-mlx")
"""The formats that hold an adapter alone: PEFT's layout, and mlx-lm's."""


GGUF = ("gguf", "gguf-q8")
"""The formats of one GGUF file: float16, and 8 bits (Q8_0)."""


def export_fault(backend: "Backend | type[Mlx] | type[Torch]", formats: Iterable[str], base: str) -> str | None:
    """Return why a backend cannot write one of these formats of a base here, or None."""
    for format in formats:
        if format not in Torch.FORMATS and format in plugins.installed("exporter"):
            if why := plugins.fault("exporter", format):
                return why
        elif format not in backend.FORMATS:
            return f"the {backend.NAME} backend does not write {format}: it writes {', '.join(backend.FORMATS)}"
        elif format == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
            return "the format nf4 needs bitsandbytes (pip install 'wizloop[cuda]', on Linux); or export safetensors"
        elif format in GGUF and (why := _gguf_fault(base)):
            return why
    return None


def _gguf_fault(base: str) -> str | None:
    """Return why a base cannot be written as GGUF; None where that is not known before it is downloaded."""
    from wizloop.backends import gguf_names

    if base == "tiny":
        return "the tiny guard is not written as GGUF: it has a tokenizer of its own; export safetensors"
    folder = model_folder.on_disk(base)
    return None if folder is None else gguf_names.fault(folder)


Writer = Callable[[str, Any, Path], None]
"""Writes a base with an adapter, if any, into an empty folder."""


def base_fault(backend: "Backend | type[Mlx] | type[Torch]", base: str, tokens: int) -> str | None:
    """Return why a backend cannot read the base's config.json for texts of so many tokens, or None; loads no weights.

    A model that is not on this disk is not fetched for it.
    """
    folder = model_folder.on_disk(base)
    check: Callable[[Path, int], str | None] | None = getattr(backend, "config_fault", None)
    if folder is None or check is None or not (folder / "config.json").is_file():
        return None
    if fault := model_files.fault(folder):
        return fault
    why = check(folder, tokens)
    return None if why is None else f"{folder / 'config.json'}: {why}"


def other_library(backend: "Backend", folder: Path) -> "tuple[Mlx | Torch | None, str]":
    """Return the library that did not write the model in a folder, to read it with, or None and why it cannot here."""
    if isinstance(backend, Torch):
        return Mlx(), ""
    if not isinstance(backend, Mlx):
        return None, ""
    if missing := [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]:
        return None, f"{' and '.join(missing)} not installed"
    device, _ = devices.choose_device("auto")
    # A CPU computes in float32: twice the bytes of most files.
    needed = 3 * sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if device == "cpu" and psutil.virtual_memory().available < needed:
        return None, f"it needs {needed / 1e9:.0f} GB of free memory"
    return Torch(device), ""


_FORMATS = ("adapter", "adapter-mlx", "safetensors", "mlx-4bit", "mlx-8bit", "gguf", "gguf-q8")
"""What both backends write."""


class _Local(ABC):
    """Methods that both backends share."""

    NAME: ClassVar[str]
    FORMATS: ClassVar[tuple[str, ...]]

    def build_tiny(self, folder: Path, texts: Sequence[str], **settings: Any) -> None:
        """Build the tiny guard with MLX, on the CPU. Raises ValueError for too few texts."""
        from wizloop.backends.mlx import blas
        from wizloop.backends.tiny import build as tiny_guard

        # Must run before the first import of mlx, which is here in a worker that builds: see blas.
        blas.preload()
        tiny_guard.build(folder, texts, **settings)

    def export(self, format: str, base: str, adapter: Path | None, to: Path) -> None:
        """Write one of FORMATS into the empty folder `to`. Raises BackendError for what cannot be written."""
        if why := export_fault(self, [format], base):  # type: ignore[arg-type]
            raise BackendError(why)
        if adapter is None and format in ADAPTERS:
            raise BackendError(f"{base} was never taught, so it has no adapter: export safetensors")
        self._writers()[format](base, adapter, to)

    @abstractmethod
    def _writers(self) -> Mapping[str, Writer]:
        """Return what writes each of FORMATS."""


class Mlx(_Local):
    """The MLX backend."""

    NAME: ClassVar[str] = "MLX"
    LIBRARY: ClassVar[str] = "mlx-lm"
    FORMATS: ClassVar[tuple[str, ...]] = _FORMATS

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> Guard:
        """Load a model. Raises ModelMissing, BadArtifact."""
        from wizloop.backends.mlx import guard as mlx_guard

        return mlx_guard.load(base, adapter, quantise=quantise)

    @staticmethod
    def config_fault(folder: Path, tokens: int) -> str | None:
        """Return why the folder's model cannot read texts of so many tokens on MLX, or None."""
        from wizloop.backends.mlx import architecture

        return architecture.fault(folder, tokens)

    def train_sft(self, job: TrainJob, examples: Sequence[SftExample], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        """Train on completions. Raises NotFinite if the loss is not finite after two halvings of the rate."""
        from wizloop.backends.mlx import train as mlx_train

        return mlx_train.train_sft(job, examples, on_step, on_wait)

    def train_dpo(self, job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        """Train on pairs. Raises NotFinite if the loss is not finite after two halvings of the rate."""
        from wizloop.backends.mlx import train as mlx_train

        return mlx_train.train_dpo(job, pairs, on_step, on_wait)

    def _writers(self) -> Mapping[str, Writer]:
        from wizloop.backends.mlx import export as mlx_export

        return {
            "adapter": mlx_export.export_adapter,
            "adapter-mlx": mlx_export.export_adapter_mlx,
            "safetensors": mlx_export.export_safetensors,
            "mlx-4bit": partial(mlx_export.export_quantized, bits=4),
            "mlx-8bit": partial(mlx_export.export_quantized, bits=8),
            "gguf": partial(_by_way_of, mlx_export.export_safetensors, _gguf),
            "gguf-q8": partial(_by_way_of, mlx_export.export_safetensors, partial(_gguf, q8=True)),
        }


@dataclass(frozen=True, slots=True)
class Torch(_Local):
    """The torch backend on one torch device."""

    NAME: ClassVar[str] = "torch"
    LIBRARY: ClassVar[str] = "transformers"
    FORMATS: ClassVar[tuple[str, ...]] = (*_FORMATS, "nf4")

    device: str
    processes: int = 1
    """Training processes; 0 = one per GPU."""
    sharded: bool = False
    """Whether each process holds a shard of the base (FSDP)."""

    def count(self) -> int:
        """Return the number of training processes here. Raises BackendError if a single one would hold all shards."""
        from wizloop.backends.torch import launch as torch_launch

        return torch_launch.count(self.processes, self.sharded)

    def load(self, base: str, adapter: Path | None, *, quantise: bool) -> Guard:
        """Load a model. Raises ModelMissing, BadArtifact, BackendError where 4 bits are not available.

        A model exported for MLX is loaded with MLX, so that an export is checked as its users will run it.
        """
        from wizloop.backends.torch import guard as torch_guard

        if adapter is None and model_folder.is_for_mlx(base):
            return Mlx().load(base, None, quantise=quantise)
        return torch_guard.load(base, adapter, quantise=quantise, device=self.device)

    @staticmethod
    def config_fault(folder: Path, tokens: int) -> str | None:
        """Return why the folder's model cannot run on torch, or None. transformers honors every window."""
        from wizloop.backends.torch import architecture

        return architecture.fault(folder)

    def train_sft(self, job: TrainJob, examples: Sequence[SftExample], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        """Train on completions. Raises NotFinite if the loss is not finite after two halvings of the rate."""
        return self._train("sft", job, examples, on_step, on_wait)

    def train_dpo(self, job: TrainJob, pairs: Sequence[DpoPair], on_step: OnStep, on_wait: OnWait) -> TrainResult:
        """Train on pairs. Raises NotFinite if the loss is not finite after two halvings of the rate."""
        return self._train("dpo", job, pairs, on_step, on_wait)

    def _train(self, kind: str, job: TrainJob, lessons: Any, on_step: OnStep, on_wait: OnWait) -> TrainResult:
        if self.processes != 1:
            from wizloop.backends.torch import launch as torch_launch

            many: Any = {"device": self.device, "processes": self.processes, "sharded": self.sharded}
            return torch_launch.train(kind, job, lessons, on_step, on_wait, **many)
        from wizloop.backends.torch import train as torch_train

        train: Callable[..., TrainResult] = torch_train.train_sft if kind == "sft" else torch_train.train_dpo
        return train(job, lessons, on_step, on_wait, device=self.device)

    def _writers(self) -> Mapping[str, Writer]:
        from wizloop.backends.mlx import export as mlx_export
        from wizloop.backends.torch import export as torch_export

        # torch merges, since it can read the base; MLX writes what only it can.
        merge = torch_export.export_safetensors
        return {
            "adapter": torch_export.export_adapter,
            "adapter-mlx": mlx_export.export_adapter_mlx,
            "safetensors": merge,
            "mlx-4bit": partial(_by_way_of, merge, partial(mlx_export.export_quantized, bits=4)),
            "mlx-8bit": partial(_by_way_of, merge, partial(mlx_export.export_quantized, bits=8)),
            "nf4": torch_export.export_nf4,
            "gguf": partial(_by_way_of, merge, _gguf),
            "gguf-q8": partial(_by_way_of, merge, partial(_gguf, q8=True)),
        }


def _by_way_of(merge: Writer, write: Writer, base: str, adapter: Path | None, to: Path) -> None:
    """Merge into a temporary folder of safetensors, and write that folder in another format."""
    # A full disk is told inside: it has room again once the temporary folder is gone.
    with tempfile.TemporaryDirectory(dir=to.parent, prefix="tmp-") as merged, artifacts.telling_full(Path(merged)):
        merge(base, adapter, Path(merged))
        write(merged, None, to)


def _gguf(base: str, adapter: None, to: Path, *, q8: bool = False) -> None:
    from wizloop.backends.mlx import gguf_export

    gguf_export.export(Path(base), to, q8=q8)
