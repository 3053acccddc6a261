"""The torch backend: inference, training, and export on CUDA cards or a CPU."""
