"""Which backend and which device a guard runs on, and why. No model library is imported before it is needed."""

import ctypes
import importlib.util
import platform
import sys
from dataclasses import dataclass
from typing import Literal

from wizloop.backends.guard_types import BackendError

INSTALL = "pip install 'wizloop[cuda]'"
_NEEDED = ("torch", "peft", "trl", "accelerate")
# What torch says of a card and of the host, and MLX of either; no class of theirs tells it on all devices.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")


@dataclass(frozen=True, slots=True)
class Picked:
    """What models run on. `device` is torch's name for "cuda", and "auto" or "cpu" for "mlx"."""

    backend: Literal["mlx", "cuda"]
    device: str
    why: str

    def sentence(self) -> str:
        """For an event, and for `wizloop doctor`."""
        library = "MLX" if self.backend == "mlx" else "torch"
        where = {"cpu": "the CPU", "cuda": "CUDA"}.get(self.device, "Metal" if metal() else "the CPU")
        return f"the guard runs on {library}, on {where}: {self.why}"


def pick(backend: str, device: str) -> Picked:
    """What guard.backend ("auto", "mlx" or "cuda") and guard.device ("auto", "cpu" or "cuda") come to on this machine.

    "auto" takes Metal, then a CUDA card, then MLX on the CPU. Raises BackendError where what is asked for is not there.
    """
    if backend == "mlx":
        return Picked("mlx", _mlx_device(device), "guard.backend asks for MLX")
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
    """Whether this is Apple silicon."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, a card's or the host's."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(each in said for each in _NO_MEMORY)
    )


def room_for_another() -> bool:
    """Whether the card holds as much again as this process has on it, and once more for work; True without a card."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    free, held = int(torch.cuda.mem_get_info()[0]), int(torch.cuda.memory_allocated())
    return free + int(torch.cuda.memory_reserved()) - held >= 2 * held


def _mlx_device(device: str) -> str:
    if device == "cuda":
        raise BackendError('guard.device is "cuda", which MLX does not use: set guard.backend to "cuda" or "auto"')
    return device


def _torch(device: str, why: str) -> Picked:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendError(f"the torch backend needs {', '.join(missing)}: {INSTALL}")
    from wizloop.backends.torch.load import choose_device

    chosen, found = choose_device(device)
    return Picked("cuda", chosen, f"{why}, and {found}")


def _no_card() -> str:
    """Why CUDA cannot be used, or nothing where it can. torch is imported only where a driver is."""
    if not _driver():
        return "no CUDA driver"
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        return f"a CUDA card needs {INSTALL}"
    import torch

    return "" if torch.cuda.is_available() else "torch sees no CUDA card"


def _driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
