"""The torch backend: inference, training, and export on CUDA GPUs or a CPU."""
