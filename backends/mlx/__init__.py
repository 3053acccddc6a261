"""The MLX backend: inference, training, and export on Metal or a CPU."""

from wizloop.backends.mlx import blas

# Must run before the first import of mlx.core: see blas.
blas.preload()
