"""The MLX backend: inference, training, and export on Metal or a CPU."""

import resource

from wizloop.backends.mlx import blas

_OPEN_FILES = 4096
"""What mlx-lm raises the limit to when it is imported, and needs for many shards only."""


def _import_within_limits() -> None:
    """Import mlx-lm where this process may open fewer files than it asks for, which would be an error of its import."""
    asked = resource.setrlimit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _OPEN_FILES:
        return
    resource.setrlimit = lambda kind, limits: asked(kind, (min(limits[0], hard), min(limits[1], hard)))
    try:
        import mlx_lm  # noqa: F401
    finally:
        resource.setrlimit = asked


# Must run before the first import of mlx.core: see blas.
blas.preload()
_import_within_limits()
