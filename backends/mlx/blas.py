"""A fast BLAS for MLX on a Linux CPU, and the speed that results.

The MLX wheel for Linux links the slow reference BLAS. Loading an OpenBLAS with global symbols before the first import
of `mlx.core` makes MLX's `cblas_sgemm` resolve to it: 16 to 35 times faster, without root. On macOS nothing happens
(Metal, Accelerate). This module must not import mlx when it is loaded.
"""

import ctypes
import ctypes.util
import importlib.util
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

# In dependency order. The names carry a hash that changes with every build of the wheel.
_WHEEL_LIBRARIES = ("libquadmath-*", "libgfortran-*", "libopenblas*")
_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Blas:
    """The BLAS used for matrix products, for `wizloop doctor`. `advice` says how to get a faster one."""

    name: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """MLX's version and device, the BLAS it uses, and its float32 matrix products in 10^9 operations a second."""

    version: str
    device: str
    blas: Blas
    gflops: float


@cache
def preload() -> Blas:
    """Load OpenBLAS for MLX where that helps. Must run before the first import of `mlx.core`."""
    if sys.platform != "linux":
        return Blas("the system's own")
    system = ctypes.util.find_library("openblas")
    if system is not None and _load_global(system):
        return Blas("OpenBLAS of the system")
    wheel = _wheel_openblas()
    if wheel is not None and _load_global(wheel):
        return Blas("OpenBLAS from the cvxopt wheel")
    advice = "install OpenBLAS (libopenblas0) or the cvxopt wheel: training is 16 to 35 times slower without it"
    return Blas("reference", advice)


def measure_speed(repeats: int = 3) -> Speed:
    """Time products of two 1024 x 1024 matrices; return the fastest after one warm-up."""
    import mlx.core as mx

    left = mx.ones((_SIDE, _SIDE))
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        mx.eval(left @ left)
        best = min(best, time.perf_counter() - began)
    return Speed(version("mlx"), str(mx.default_device()), preload(), 2 * _SIDE**3 / best / 1e9)


def _wheel_openblas() -> str | None:
    """Load the libraries that the cvxopt wheel's OpenBLAS links; return its path, or None without the wheel."""
    spec = importlib.util.find_spec("cvxopt")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent.parent / "cvxopt.libs"
    *linked, openblas = (next(iter(sorted(folder.glob(pattern))), None) for pattern in _WHEEL_LIBRARIES)
    if openblas is None:
        return None
    for path in linked:
        if path is not None:
            _load_global(str(path))
    return str(openblas)


def _load_global(path: str) -> bool:
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    # Some builds prefix every symbol, which does not help here.
    return hasattr(library, "cblas_sgemm")
