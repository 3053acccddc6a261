"""From text to tokens, traces, gradients, and files. Knows nothing of safety."""
