"""The MLX backend: asking, training and exporting on Metal or a CPU."""
