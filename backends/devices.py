"""Choose the backend and device that a guard runs on. No model library is imported before it is needed."""

import ctypes
import importlib.util
import os
import platform
import resource
import sys
from dataclasses import dataclass
from typing import Literal

from wizloop.backends.guard_types import BackendError

_INSTALL = "pip install 'wizloop[cuda]'"
_NEEDED = ("torch", "peft", "trl", "accelerate")
# Messages of torch, for a GPU and for the host, and of MLX: no exception class covers all devices.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")


@dataclass(frozen=True, slots=True)
class Picked:
    """The chosen backend and device: torch's name for "cuda", and "auto" or "cpu" for "mlx"."""

    backend: Literal["mlx", "cuda"]
    device: str
    why: str

    def sentence(self) -> str:
        """Describe the choice, for an event and for `wizloop doctor`."""
        library = "MLX" if self.backend == "mlx" else "torch"
        where = {"cpu": "the CPU", "cuda": "CUDA"}.get(self.device, "Metal" if metal() else "the CPU")
        return f"the guard runs on {library}, on {where}: {self.why}"


def pick(backend: str, device: str) -> Picked:
    """Choose by guard.backend ("auto", "mlx" or "cuda") and guard.device ("auto", "cpu" or "cuda") on this machine.

    "auto" takes Metal, then a CUDA GPU, then MLX on the CPU. Raises BackendError if the requested one is missing.
    """
    if backend == "mlx" and device == "cuda":
        raise BackendError('guard.device is "cuda", which MLX does not use: set guard.backend to "cuda" or "auto"')
    if backend == "mlx":
        return Picked("mlx", device, "guard.backend asks for MLX")
    if backend == "cuda":
        return _torch(device, "guard.backend asks for torch")
    if device == "cpu":
        return Picked("mlx", "cpu", "guard.device asks for the CPU, where MLX is the backend")
    if device == "cuda":
        return _torch(device, "guard.device asks for it")
    if metal():
        return Picked("mlx", "auto", "this is Apple silicon")
    missing = _no_card()
    return Picked("mlx", "auto", f"no Metal, and {missing}") if missing else _torch(device, "no Metal")


def metal() -> bool:
    """Return whether this is Apple silicon."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU or the host ran out of memory."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(each in message for each in _NO_MEMORY)
    )


def room_for_another() -> bool:
    """Return whether the GPU has twice this process's memory free, for a model and for work; True without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    free, held = int(torch.cuda.mem_get_info()[0]), int(torch.cuda.memory_allocated())
    return free + int(torch.cuda.memory_reserved()) - held >= 2 * held


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes on Linux.
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_gpu_bytes() -> int | None:
    """Return the most GPU memory that this process has allocated, by Metal or CUDA; None where it uses no GPU."""
    torch, mlx = sys.modules.get("torch"), sys.modules.get("mlx.core")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return int(mlx.get_peak_memory()) if mlx is not None and metal() else None


def ran_on() -> str:
    """Return what this process runs models on: `CUDA (NVIDIA H200)`, `Metal`, `the CPU (8 cores)`."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return f"CUDA ({torch.cuda.get_device_name()})"
    return "Metal" if metal() and "mlx.core" in sys.modules else f"the CPU ({os.cpu_count()} cores)"


def choose_device(wanted: str) -> tuple[str, str]:
    """Return torch's (device, reason) for "auto", "cpu" or "cuda".

    Raises BackendError if "cuda" is wanted and no GPU can be used.
    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        why = "this torch was built without CUDA" if torch.version.cuda is None else "torch sees no CUDA GPU"
        raise BackendError(f'guard.device is "cuda", and {why}: check the driver, or use "auto" or "cpu"')
    if there and wanted != "cpu":
        return "cuda", f"torch sees {torch.cuda.get_device_name(0)}"
    return "cpu", "guard.device asks for the CPU" if wanted == "cpu" else "torch sees no CUDA GPU"


def _torch(device: str, why: str) -> Picked:
    if missing := _missing():
        raise BackendError(f"the torch backend needs {', '.join(missing)}: {_INSTALL}")
    chosen, reason = choose_device(device)
    return Picked("cuda", chosen, f"{why}, and {reason}")


def _missing() -> list[str]:
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def _no_card() -> str:
    """Return why CUDA cannot be used, or "". torch is imported only if there is a driver."""
    if not _driver():
        return "no CUDA driver"
    if _missing():
        return f"a CUDA GPU needs {_INSTALL}"
    import torch

    return "" if torch.cuda.is_available() else "torch sees no CUDA GPU"


def _driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
