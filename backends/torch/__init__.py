"""The torch backend: asking, training and exporting on CUDA cards or a CPU."""
