"""Turn text into tokens, traces, gradients, and files. Knows nothing about safety."""
