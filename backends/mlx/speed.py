"""How fast this machine's matrix products are through MLX, and on what: for `wizloop doctor`. It loads no model."""

import time
from dataclasses import dataclass
from importlib.metadata import version

from wizloop.backends.mlx import blas

# Must come before mlx.core: see blas.
BLAS = blas.preload()

import mlx.core as mx

_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Speed:
    """The device that MLX uses, the BLAS behind it, and 10^9 float32 operations a second in a matrix product."""

    version: str
    device: str
    blas: blas.Blas
    gflops: float


def measure(repeats: int = 3) -> Speed:
    """The best of a few products of two 1024 x 1024 matrices, after one that is not counted."""
    left = mx.ones((_SIDE, _SIDE))
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        mx.eval(left @ left)
        best = min(best, time.perf_counter() - began)
    return Speed(version("mlx"), str(mx.default_device()), BLAS, 2 * _SIDE**3 / best / 1e9)
