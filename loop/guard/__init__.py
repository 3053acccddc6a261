"""The guard: how it is prompted, how its answers are parsed, and the backend that runs it."""
