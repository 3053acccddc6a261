"""One file a phase, with one function `run(ctx)`, and what several phases share."""
