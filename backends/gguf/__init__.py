"""Read GGUF files. It is not the exporter."""
