"""How text becomes tokens, traces, gradients and files. Knows tokens and bytes, and no safety."""
